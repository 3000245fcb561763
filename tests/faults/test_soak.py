"""What the report of a soak says of what was seen."""

import pytest

from tests.faults.soak import problems, summary, written
from tests.faults.soaked import Seen

LEDGER = {"transitions": 10, "duplicates": 0, "missing": 0, "wrong": 0, "uncounted": 0}


def seen(times, faults=()):
    """A run with results at these times."""
    run = Seen()
    for number, time in enumerate(times):
        run.results.append((time, {"updates": 10 * number, "steps": number, "return": 18.0, "ledger": LEDGER}))
    run.faults.extend(faults)
    run.memory.extend((time, 100.0) for time in times)
    return run


def report(disturbed):
    made = summary(disturbed, seen(range(100)), minutes=2)
    recorded = {"files": 1, "lost_files": 0, "steps": 9, "duplicates": 0, "missing": 0, "wrong": 0}
    made["recorded"] = recorded
    made["failed"] = problems(made)
    return made


def test_a_wait_is_of_the_fault_before_it():
    # results every second; none from 30 to 32.5 (a runner), nor from 60 to 80, within which the learner is killed
    times = [*range(31), 32.5, *range(33, 61), *range(80, 121)]
    made = report(seen(times, [(30.2, "kill runner"), (55.0, "take node"), (61.0, "kill learner"), (119.5, "hang")]))
    assert [fault["longest_gap_s"] for fault in made["faults"]] == [2.5, 1.0, 20.0, 1.0]
    assert made["failed"] == []
    assert "| 61 s | kill learner | 20.0 s |" in written(made) and "- nothing" in written(made)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.memory.append((99.9, 10_000.0)) or run.memory.extend([(99.0, 200.0)] * 60), "memory changed"),
        (lambda run: run.results[50][1].update(ledger={**LEDGER, "duplicates": 2}), "ledger: 2 duplicates"),
        (lambda run: run.faults.append((98.5, "kill runner")) or run.results.append((105.0, run.results[-1][1])), "6"),
        (lambda run: [one.update({"return": 9.0}) for _, one in run.results], "return 9.0 with faults"),
    ],
)
def test_what_is_wrong_is_told(change, message):
    run = seen(range(100))
    change(run)
    (problem,) = report(run)["failed"]
    assert message in problem
