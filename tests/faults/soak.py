"""Trains for long with faults, and tells what they did: `python -m tests.faults.soak --minutes 60`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tests.faults.ledger import of_recordings
from tests.faults.soaked import Seen, soak

#: Of the issue.
STALL_S, BACK_S, MEMORY = 2.0, 30.0, 0.05
# A fault's effect is looked for in the gaps between results that begin within so many seconds, and end before the next.
_EFFECT_S = 60.0


def main(
    minutes: Annotated[float, typer.Option(help="How long to train with faults.")] = 60.0,
    every: Annotated[float, typer.Option(help="Seconds from one fault to the next.")] = 120.0,
    baseline: Annotated[float, typer.Option(help="How long to train without, at most; minutes.")] = 10.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Report for readers.", metavar="FILE")] = None,
) -> None:
    """Prints a report; exit code 1 if anything is not as it should be."""
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        disturbed = soak(Path(folder, "disturbed"), 60 * minutes, every)
        recorded, files = of_recordings(Path(folder, "disturbed", "recorded"))
        lost = len(disturbed.files - set(Path(folder, "disturbed", "recorded").iterdir()))
        calm = soak(Path(folder, "calm"), 60 * baseline, updates=_last(disturbed, "updates"))
    report = summary(disturbed, calm, minutes)
    report["recorded"] = {
        "files": files,
        "lost_files": lost,
        "steps": len(recorded.names),
        "duplicates": recorded.duplicates,
        "missing": recorded.missing,
        "wrong": recorded.wrong,
    }
    report["failed"] = problems(report)
    text = written(report)
    print(text)
    if json_file is not None:
        json_file.write_text(json.dumps(report, indent=1))
    if markdown is not None:
        markdown.write_text(text)
    raise typer.Exit(bool(report["failed"]))


def summary(disturbed: Seen, calm: Seen, minutes: float) -> dict[str, Any]:
    """The figures of a run with faults beside one without."""
    times = [time for time, _ in disturbed.results]
    gaps = list(zip(times, np.diff(times).tolist(), strict=False))
    usual = float(np.median([gap for _, gap in gaps]))
    faults = []
    following = [*(at for at, _ in disturbed.faults[1:]), float("inf")]
    for (at, name), end in zip(disturbed.faults, following, strict=False):
        own = (gap for begun, gap in gaps if at < begun + gap <= end and begun < at + _EFFECT_S)
        longest = max(own, default=None)
        faults.append({"at_s": round(at, 1), "fault": name, "longest_gap_s": longest and round(longest, 2)})
    ledgers = [result["ledger"] for _, result in disturbed.results]
    return {
        "minutes": minutes,
        "iterations": len(times),
        "iteration_s": round(usual, 2),
        "trial_failures": disturbed.failures,
        "error": disturbed.error or calm.error,
        "updates": int(_last(disturbed, "updates")),
        "steps": int(_last(disturbed, "steps")),
        "faults": faults,
        "ledger": {name: max(abs(one[name]) for one in ledgers) for name in ledgers[0]},
        "memory": memory(disturbed),
        "learning": learning(disturbed, calm),
    }


def memory(seen: Seen) -> dict[str, float]:
    """MB after the first third, and at the end: medians over a sixth of the run each."""
    end = seen.results[-1][0]
    parts = [
        [mb for at, mb in seen.memory if low * end <= at < high * end] for low, high in ((1 / 3, 1 / 2), (5 / 6, 2))
    ]
    first, last = (float(np.median(part)) if part else float("nan") for part in parts)
    return {"after_a_third_mb": round(first), "at_the_end_mb": round(last), "growth": round(last / first - 1, 4)}


def learning(disturbed: Seen, calm: Seen) -> dict[str, float]:
    """Mean returns over the last fifth of the updates that both runs have made."""
    updates = int(min(_last(disturbed, "updates"), _last(calm, "updates")))

    def late(seen: Seen) -> float:
        results = [result for _, result in seen.results if 0.8 * updates <= result["updates"] <= updates]
        returns = [result["return"] for result in results if result["return"] is not None]
        return round(float(np.mean(returns)), 3) if returns else float("nan")

    return {"updates": updates, "disturbed": late(disturbed), "undisturbed": late(calm)}


def _last(seen: Seen, name: str) -> Any:
    return max(result[name] for _, result in seen.results)


def problems(report: dict[str, Any]) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    if report["error"]:
        found.append(f"training ended with {report['error']}")
    for place in ("ledger", "recorded"):
        for name in ("duplicates", "missing", "wrong", "uncounted", "lost_files"):
            if report[place].get(name):
                found.append(f"{place}: {report[place][name]} {name}")
    for fault in report["faults"]:
        limit = BACK_S if fault["fault"] == "kill learner" else STALL_S + report["iteration_s"]
        if fault["longest_gap_s"] is None:
            found.append(f"nothing came after: {fault['fault']}")
        elif fault["longest_gap_s"] > limit:
            found.append(f"{fault['fault']}: no result for {fault['longest_gap_s']} s, more than {limit:.1f} s")
    if not abs(report["memory"]["growth"]) <= MEMORY:
        found.append(f"memory changed by {report['memory']['growth']:.1%}")
    returns = report["learning"]
    if not returns["disturbed"] >= 0.95 * returns["undisturbed"]:
        found.append(f"return {returns['disturbed']} with faults, {returns['undisturbed']} without")
    return found


def written(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    ledger, recorded, use, returns = (report[name] for name in ("ledger", "recorded", "memory", "learning"))
    wrong = "{duplicates} twice, {missing} missing, {wrong} with a wrong successor"
    rows = [
        ("transitions in the replay", f"{ledger['transitions']:,}", wrong.format(**ledger)),
        ("transitions recorded", f"{recorded['steps']:,}", wrong.format(**recorded)),
        ("recorded files", f"{recorded['files']:,}", f"{recorded['lost_files']} lost"),
        ("memory", f"{use['after_a_third_mb']} MB after a third", f"{use['at_the_end_mb']} MB at the end"),
        ("return, late", f"{returns['disturbed']} with faults", f"{returns['undisturbed']} without"),
    ]
    lines = [
        "# Training with faults",
        "",
        f"`python -m tests.faults.soak --minutes {report['minutes']:g}`: two runners and a learner on two simulated",
        f"nodes of one machine; {report['iterations']:,} iterations of {report['iteration_s']} s,",
        f"{report['steps']:,} environment steps, {report['updates']:,} updates. The trial went on from a checkpoint",
        f"{report['trial_failures']} times. Late: in the last fifth of {returns['updates']:,} updates.",
        "",
        "| when | fault | longest time without a result |",
        "|---|---|---|",
        *(f"| {one['at_s']:.0f} s | {one['fault']} | {one['longest_gap_s']} s |" for one in report["faults"]),
        "",
        "| | | |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "What is not as it should be:",
        "",
        *([f"- {line}" for line in report["failed"]] or ["- nothing"]),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
