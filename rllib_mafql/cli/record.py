"""The command `mafql record`: behaviour policies play on all cores, and every step of theirs goes into a folder."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_mafql.cli.bars import counting_bar
from rllib_mafql.cli.cluster import hush, ray_session
from rllib_mafql.cli.errors import InputError, nearest, reported
from rllib_mafql.cli.folder_lock import written_by_me
from rllib_mafql.cli.printing import mix_table, tell, wide_console, write_json
from rllib_mafql.cli.shared_options import EnvConfig, Grid, JsonFile

if TYPE_CHECKING:
    from rllib_mafql import MAFQLConfig
    from rllib_mafql.cli.recording import Interface


def record(
    steps: Annotated[int, typer.Option(min=1, help="Steps that the folder holds at the end, in all.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the recording; what it holds already counts.")],
    policy: Annotated[
        str,
        typer.Option(
            metavar="NAME[=WEIGHT],...",
            help="Behaviour policies, drawn for each episode by weight (1 where not given): do_nothing, random, "
            "proportional, proportional_zones, qp, qp_zones, qp_n1, qp_n1_zones.",
        ),
    ] = "qp_zones",
    advisor: Annotated[
        str | None,
        typer.Option(help="Behaviour policy whose answer is recorded beside every step, to be cloned in its place."),
    ] = None,
    noise: Annotated[float, typer.Option(min=0.0, help="Noise on the policies' costs and actions.")] = 0.0,
    random_start: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Share of episodes with random play until a policy takes over."),
    ] = 0.0,
    grid: Grid = "l2rpn_idf_2023",
    config: EnvConfig = None,
    workers: Annotated[int, typer.Option(min=1, help="Ray workers of one CPU each.")] = 2,
    file_rows: Annotated[
        int | None,
        typer.Option(min=1, help="Steps in a file: what a kill can lose of each worker's.", show_default="2000"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of all draws; default: another one each time.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files in DIR that cannot be read.")] = False,
    json_file: JsonFile = None,
    ray_address: Annotated[str | None, typer.Option(help="Use this Ray cluster; its nodes share DIR.")] = None,
) -> None:
    """Record what behaviour policies do, as Parquet files.

    Run again with the same DIR, it adds what is missing. Stopped by Ctrl-C it writes what was played; killed, it loses
    at most what was in no file yet, and leaves only whole files.
    """
    # Grid2Op's advice, for a backend that is not used here
    warnings.filterwarnings("ignore", message="Numba cannot be loaded")
    with reported():
        from grid2op_zones.dispatch import POLICIES
        from rllib_mafql.offline import RecordingError

        weights = parse_policies(policy)
        if advisor is not None and (advisor not in POLICIES or advisor == "random"):
            raise InputError(
                f"--advisor: no behaviour policy that could advise is named {advisor!r}{nearest(advisor, POLICIES)}"
            )
        settings = build_config(
            weights, advisor, noise, random_start, env_config(grid, config), workers, out, file_rows
        )
        seed = int.from_bytes(os.urandom(4)) if seed is None else seed
        try:
            out.mkdir(parents=True, exist_ok=True)
            with written_by_me(out, on_wait=tell), _quiet_reader():
                report, signal_number = _record(settings, out.resolve(), steps, workers, seed, skip_bad, ray_address)
        except OSError as error:
            raise InputError(f"--out {out}: {error}; what is written stays, and counts the next time") from error
        except RecordingError as error:
            raise InputError(str(error)) from error
        write_json(json_file, report)
    if signal_number:
        tell(f"stopped with {report['steps']:,} of {steps:,} steps in {out}; the same command goes on from there")
        raise typer.Exit(128 + signal_number)


def parse_policies(text: str) -> dict[str, float]:
    """Name -> weight, from "qp_zones=2,random"; InputError if a name is unknown or a weight is no positive number."""
    from grid2op_zones.dispatch import POLICIES

    weights: dict[str, float] = {}
    for part in text.split(","):
        name, given, weight = (word.strip() for word in part.partition("="))
        if name not in POLICIES:
            raise InputError(f"--policy: unknown policy {name!r}{nearest(name, POLICIES)}")
        if name in weights:
            raise InputError(f"--policy: {name} is given twice")
        try:
            weights[name] = float(weight) if given else 1.0
        except ValueError:
            weights[name] = 0.0
        if not 0.0 < weights[name] < float("inf"):
            raise InputError(f"--policy: the weight of {name} must be a number above 0, not {weight!r}")
    return weights


def env_config(grid: str, overrides: str | None) -> dict[str, Any]:
    """The full env_config; InputError if a key, a value or the grid is wrong."""
    from grid2op_zones import check_env_config
    from grid2op_zones.simulator import check_grid
    from rllib_mafql.evaluation.cli import read_overrides

    keys = {} if overrides is None else read_overrides(overrides)
    if keys.get("grid", grid) != grid:
        raise InputError(f"--grid says {grid!r} and --config says grid {keys['grid']!r}; give one of them")
    try:
        full = check_env_config({**keys, "grid": grid})
        check_grid(grid, "--grid")
    except ValueError as error:
        raise InputError(str(error)) from error
    return full


def build_config(
    weights: dict[str, float],
    advisor: str | None,
    noise: float,
    random_start: float,
    env: dict[str, Any],
    workers: int,
    out: Path,
    file_rows: int | None,
) -> MAFQLConfig:
    """What the workers' env runners are made from."""
    from rllib_mafql import MAFQLConfig
    from rllib_mafql.offline.recorder import unique_prefix

    hush()
    settings = MAFQLConfig()
    settings.environment("grid2op_zones", env_config=env)
    settings.training(
        behavior_policies=weights,
        advisor=advisor,
        behavior_noise=noise,
        takeover_fraction=random_start,
        takeover_horizon=max(1, min(settings.takeover_horizon, env["max_steps"] // 2)),
    )
    settings.env_runners(num_env_runners=workers, num_envs_per_env_runner=1)
    settings.offline_data(
        output=str(out.resolve()),
        output_config={"prefix": unique_prefix("rec"), "strict": True},
        output_max_rows_per_file=file_rows,
    )
    try:
        settings.validate()
    except ValueError as error:
        raise InputError(str(error)) from error
    return settings


def rows_in(folder: Path, skip_bad: bool) -> tuple[int, int]:
    """Rows and files of the recording in a folder, which may be empty; RecordingError if a file is bad."""
    from rllib_mafql.offline import open_recording
    from rllib_mafql.offline.files import recorded_files

    files = recorded_files(folder)
    return (open_recording(str(folder), skip_bad).rows, len(files)) if files else (0, 0)


def _record(
    settings: MAFQLConfig, out: Path, steps: int, workers: int, seed: int, skip_bad: bool, ray_address: str | None
) -> tuple[dict[str, Any], int]:
    """Fills the folder up; returns the report, and the signal that ended it early or 0."""
    import ray

    from rllib_mafql.cli.recording import Crew
    from rllib_mafql.offline import open_recording

    for part in out.glob(".rec-*.part"):  # of workers that were killed while they wrote
        part.unlink()
    resumed, files = rows_in(out, skip_bad)
    if resumed >= steps:
        tell(f"{out} holds {resumed:,} steps, so that nothing is to be done for {steps:,}")
        return make_report(out, skip_bad, resumed, 0.0, workers), 0
    if resumed and not Path(grid := settings.env_config["grid"]).is_dir():  # a folder's name is known when it is open
        open_recording(str(out), skip_bad).check_grid(grid)
    address = ray_address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers that Ray starts here
    with ray_session(address, num_cpus=None if address else max(os.cpu_count() or 1, workers)):
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if workers > cpus > 0:
            tell(f"Ray has {cpus} CPUs, so {cpus} workers record instead of {workers}")
            workers = cpus
        with counting_bar() as progress:
            task = progress.add_task("starting", total=steps, completed=resumed, rate="")
            played = 0

            def advance(more: int) -> None:
                nonlocal played
                played += more
                rate = f"{played / crew.seconds:.0f} steps/s"
                progress.update(task, advance=more, description="recording", rate=rate)

            crew = Crew(
                settings,
                out,
                workers,
                [seed, resumed, files],  # so that no episode is played again
                check=lambda interface: check_interface(out, interface, skip_bad),
                on_steps=advance,
                on_note=lambda text: progress.console.print(text, markup=False, soft_wrap=True),
            )
            with _signals() as got:
                crew.play(lambda: steps - rows_in(out, skip_bad)[0], stopped=lambda: bool(got))
            progress.update(task, completed=rows_in(out, skip_bad)[0])
        return make_report(out, skip_bad, resumed, crew.seconds, workers), got[0] if got else 0


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM. A second one interrupts, unless it comes at once: that is the same wish."""
    got: list[int] = []
    first = 0.0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        if got and time.monotonic() - first > 1.0:
            raise KeyboardInterrupt
        if not got:
            first = time.monotonic()
        got.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield got
        return
    # After Ray has started: it sets a handler, too.
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_interface(folder: Path, interface: Interface, skip_bad: bool) -> None:
    """Raises RecordingError if what the folder holds was recorded on another grid or zone map."""
    from rllib_mafql.offline import open_recording
    from rllib_mafql.offline.files import recorded_files

    if recorded_files(folder):
        open_recording(str(folder), skip_bad).check(*interface)


def make_report(folder: Path, skip_bad: bool, resumed: int, seconds: float, workers: int) -> dict[str, Any]:
    """Prints what the folder holds now.

    Returns:
        steps, episodes, files, bytes: of the folder; steps_per_s, seconds: of this run, from when its first worker
        could play; workers; mean_score, survival: of the whole episodes in the folder, None if there are none (see
        `rllib_mafql.offline.summary`); resumed_steps: what was there before; skipped: bad file -> what is wrong.
    """
    from rllib_mafql.offline import open_recording
    from rllib_mafql.offline.files import recorded_files
    from rllib_mafql.offline.summary import summarize

    if not recorded_files(folder):
        found: dict[str, Any] = {"rows": 0, "episodes": 0, "mean_score": None, "survival": None, "mixes": []}
        paths, skipped = [], {}
    else:
        recording = open_recording(str(folder), skip_bad)
        found = summarize(recording)
        paths, skipped = recording.files, {str(path): reason for path, reason in recording.skipped.items()}
    report = {
        "steps": found["rows"],
        "episodes": found["episodes"],
        "files": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "steps_per_s": round((found["rows"] - resumed) / seconds, 1) if seconds else 0.0,
        "workers": workers,
        "seconds": round(seconds, 1),
        "mean_score": found["mean_score"],
        "survival": found["survival"],
        "resumed_steps": resumed,
        "skipped": skipped,
    }
    console = wide_console()
    new = f", {report['steps'] - resumed:,} of them new at {report['steps_per_s']:,.0f} steps/s" if seconds else ""
    console.print(
        f"{folder}: {report['steps']:,} steps{new}; {report['files']} files, {report['bytes'] / 1e6:.1f} MB",
        markup=False,
        soft_wrap=True,
    )
    console.print(mix_table(found["mixes"]))
    for path, reason in skipped.items():
        tell(f"left out: {path}: {reason}")
    return report


@contextmanager
def _quiet_reader() -> Iterator[None]:
    """The folder is opened many times; what is bad in it is told once, in the report."""
    logger = logging.getLogger("rllib_mafql.offline.reader")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
