"""The command `mafql bench latency`."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from rich.table import Table

from rllib_mafql.bench.details import bundled_env_config
from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.errors import InputError, reported
from rllib_mafql.cli.printing import wide_console, write_json
from rllib_mafql.cli.shared_options import BundledGrid, JsonFile
from rllib_mafql.evaluation.provenance import provenance

#: What the published work reports for one agent's inference, P99 in ms.
PUBLISHED_P99_MS = 8.0


def latency(
    grid: BundledGrid = "l2rpn_idf_2023",
    flow_steps: Annotated[int, typer.Option(min=1, max=5, help="Euler steps from noise to action.")] = 5,
    device: Annotated[str, typer.Option(help="cpu, or cuda: the flow as a CUDA graph.")] = "cpu",
    decisions: Annotated[int, typer.Option(min=1, help="Decisions of each measurement.")] = 20_000,
    hidden: Annotated[int, typer.Option(min=1, help="Width of the policies' layers.")] = 256,
    layers: Annotated[int, typer.Option(min=1, help="The policies' layers that see the action.")] = 2,
    safety: Annotated[str, typer.Option(help="What controllers project onto: units, or lines, too.")] = "lines",
    json_file: JsonFile = None,
) -> None:
    """Milliseconds of one zone's decision, one by one on one core: the inference alone, and all of it.

    The whole decision goes from Grid2Op's observation to its action: measurements, observation, inference, projection,
    orders. Beside the flow: a Gaussian policy and one of 20 diffusion steps of the same layers, torch, and the QP
    of the zone and of all zones.
    """
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        import torch

        if device not in ("cpu", "cuda"):
            raise InputError(f"--device {device!r}: expected cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: torch finds no GPU")
        if safety not in ("units", "lines"):
            raise InputError(f"--safety {safety!r}: expected units or lines")
        from rllib_mafql.bench.decision import measure_decisions, measurements

        env_config = bundled_env_config(grid) | {"safety": {"level": safety}}
        with counting_bar() as progress:
            task = progress.add_task("deciding", total=decisions * measurements(env_config), rate="")
            report = measure_decisions(
                env_config,
                flow_steps,
                hidden,
                layers,
                device,
                decisions,
                lambda done: progress.update(task, advance=done),
            )
        wide_console().print(_table(grid, report))
        steps = ", ".join(f"{k}: {values['p99']:.3f}" for k, values in report["by_flow_steps"].items())
        wide_console().print(f"inference P99 by flow steps, {report['zone']}: {steps}", markup=False)
        wide_console().print(
            f"published: P99 {PUBLISHED_P99_MS:g} ms of inference; here {report['per_agent_ms']['p99']:.3f} in the "
            f"slowest zone, {report['end_to_end_ms']['p99']:.3f} for the whole decision",
            markup=False,
        )
        write_json(json_file, {"grid": grid, "safety": safety, **report, **provenance()})


def _table(grid: str, report: dict[str, Any]) -> Table:
    flow = f"flow, {report['flow_steps']} step{'s' * (report['flow_steps'] > 1)}, {report['runtime']}"
    rows = [(f"{flow}, {zone}", kinds) for zone, kinds in report["zones"].items()]
    rows += [(f"{name.replace('_', ' ')}, {report['zone']}", kinds) for name, kinds in report["compared"].items()]
    rows += [(f"{name}, all zones", kinds) for name, kinds in report["central"].items()]
    table = Table(f"ms a decision on {grid}", box=None, pad_edge=False)
    for what in ("inference p50", "p99", "p99.9", "whole p50", "p99", "p99.9"):
        table.add_column(what, justify="right")
    for name, kinds in rows:
        cells = []
        for kind in ("per_agent_ms", "end_to_end_ms"):
            found = kinds.get(kind)
            cells += ["-"] * 3 if found is None else [f"{found[key]:.3f}" for key in ("p50", "p99", "p999")]
        table.add_row(name, *cells)
    return table
