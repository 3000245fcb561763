"""Compares generated weeks with the series that ship with their grid, in numbers and in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from grid2op_zones.generator.chronics import KEPT
from grid2op_zones.generator.grid import GridModel, read_grid
from grid2op_zones.generator.recorded import DAY, open_grid
from grid2op_zones.generator.store import list_weeks, read_week
from grid2op_zones.generator.survival import EPISODE, do_nothing, make_env, reset_ms, wilson
from grid2op_zones.generator.week import Week

#: Generated weeks are compared with a recorded series that lies at most this many days of the year away.
SEASON_DAYS = 31

#: Resets that are timed; of those that parse csv files a tenth.
RESETS = 50


@dataclass(frozen=True, eq=False)
class Sample:
    """A recorded series or a generated week; arrays as in ``Week``."""

    start: datetime
    load_p: np.ndarray
    load_q: np.ndarray
    prod_p: np.ndarray


def describe(
    folder: str | Path, episodes: int = 12, months: Sequence[int] = (), resets: int = RESETS
) -> dict[str, Any]:
    """The report on the weeks of ``folder``.

    Args:
        folder: Of weeks of one grid.
        episodes: Do-nothing episodes on the generated weeks, spread over them, and on all recorded series; 0 for none.
        months: Months, from 1, in which weeks begin that those episodes are played on; none for all.
        resets: Resets that are timed; 0 for none.

    Returns:
        JSON-able: ``grid``; ``weeks``, their number; ``months``, load over the pattern's mean by month; ``series``, for
        each recorded series its ``date``, its statistics (``recorded``), those of the ``weeks`` weeks of its season
        (``generated``, their mean, and ``spread``, lowest and highest) and the lowest and highest
        ``load_shape_correlation``; ``survival``, do-nothing episodes of a day: ``recorded``, ``generated`` and, by the
        month in which weeks begin, ``months``, each with ``episodes``, the share ``survived``, Wilson's 95 % interval
        ``low`` and ``high`` and the ``shortest`` in steps, and ``whole_weeks``, the same by month for weeks that are
        played from their first row to their last; ``reset_ms``, median processor time of a reset:
        ``generated`` from weeks in memory, ``recorded_memory`` and ``recorded_csv``, from series in memory and as
        Grid2Op reads them.

    Raises:
        WeekFileError: The folder holds no readable weeks.
        ValueError: No week begins in ``months``.
    """
    weeks = [read_week(path) for path in list_weeks(folder)]
    grid = read_grid(weeks[0].grid)
    report: dict[str, Any] = {"grid": grid.name, "weeks": len(weeks), "months": _months(grid, weeks), "series": []}
    for series in grid.recorded:
        recorded = Sample(series.start, series.load_p, series.load_q, series.prod_p)
        near = [week for week in weeks if _days_apart(week.date, series.start) <= SEASON_DAYS]
        found = [statistics(grid, Sample(w.start, w.load_p, w.load_q, w.prod_p)) for w in near]
        shapes = [_correlation(_hours(recorded), _hours(Sample(w.start, w.load_p, w.load_q, w.prod_p))) for w in near]
        report["series"].append(
            {
                "date": series.start.date().isoformat(),
                "weeks": len(near),
                "load_shape_correlation": [min(shapes), max(shapes)] if near else None,
                "recorded": statistics(grid, recorded),
                "generated": {key: float(np.mean([f[key] for f in found])) for key in found[0]} if found else None,
                "spread": {key: [min(f[key] for f in found), max(f[key] for f in found)] for key in found[0]}
                if found
                else None,
            }
        )
    if episodes:
        report["survival"] = _survival(grid, folder, weeks, episodes, months)
    if resets:
        report["reset_ms"] = _reset_times(grid, folder, len(weeks), resets)
    return report


def statistics(grid: GridModel, sample: Sample) -> dict[str, float]:
    """Level, shape, ramps, shares and line loadings of a series, each one number; MW are per 5-minute step."""
    load, prod = sample.load_p.sum(axis=1), sample.prod_p
    pattern = grid.loads.peak.sum() * grid.loads.pattern(sample.start, len(load))
    wind, solar = grid.renewables.wind, grid.renewables.solar
    wind_output = prod[:, wind].sum(axis=1) / grid.renewables.capacity[wind].sum()
    flows = grid.power_flow.solve(prod, sample.load_p, sample.load_q)
    worst = flows.loading.max(axis=1)
    kinds = {kind: np.flatnonzero(np.array(grid.kinds) == kind) for kind in ("nuclear", "hydro", "thermal")}
    return {
        "load_mw": float(load.mean()),
        "load_level": float(load.mean() / pattern.mean()),
        "load_own_variation": float((sample.load_p / load[:, None]).std(axis=0).sum()),
        **{f"load_ramp_q{q}_mw": float(np.quantile(np.abs(np.diff(load)), q / 100)) for q in (50, 90, 99)},
        "renewable_share": float(prod[:, np.append(wind, solar)].sum() / prod.sum()),
        "wind_factor": float(wind_output.mean()),
        "solar_factor": float(prod[:, solar].sum(axis=1).mean() / grid.renewables.capacity[solar].sum()),
        "wind_autocorrelation_30min": _autocorrelation(prod[:, wind], 6),
        "wind_autocorrelation_1h": _autocorrelation(prod[:, wind], 12),
        **{f"wind_ramp_q{q}": float(np.quantile(np.abs(np.diff(wind_output)), q / 100)) for q in (50, 99)},
        **{f"{kind}_share": float(prod[:, units].sum() / prod.sum()) for kind, units in kinds.items()},
        "losses": float(flows.losses.mean() / load.mean()),
        "loading_mean": float(flows.loading.mean()),
        "loading_worst_q50": float(np.quantile(worst, 0.5)),
        "loading_worst_q90": float(np.quantile(worst, 0.9)),
        "overloaded_rows": float((worst > 1.0).mean()),
    }


def plot(folder: str | Path, path: str | Path) -> Path:
    """One picture of generated weeks against recorded series: load, wind, sun, ramps. Returns its path."""
    from matplotlib.figure import Figure

    weeks = [read_week(file) for file in list_weeks(folder)]
    grid = read_grid(weeks[0].grid)
    figure = Figure(figsize=(12, 8), layout="constrained")
    (load_axes, wind_axes), (sun_axes, ramp_axes) = figure.subplots(2, 2)
    generated = [Sample(w.start, w.load_p, w.load_q, w.prod_p) for w in weeks]
    recorded = [Sample(s.start, s.load_p, s.load_q, s.prod_p) for s in grid.recorded]
    for samples, style, label in (
        (generated, {"color": "C0", "alpha": 0.3}, "generated"),
        (recorded, {"color": "C3"}, "recorded"),
    ):
        for k, sample in enumerate(samples):
            name = label if k == 0 else None
            hours = np.arange(24) + 0.5
            load_axes.plot(hours, _hours(sample), label=name, **style)
            sun_axes.plot(hours, _hours(sample, grid.renewables.solar), label=name, **style)
            wind = np.sort(sample.prod_p[:, grid.renewables.wind].sum(axis=1))
            wind_axes.plot(wind, np.linspace(0, 1, len(wind)), label=name, **style)
            ramps = np.sort(np.abs(np.diff(sample.load_p.sum(axis=1))))
            ramp_axes.plot(ramps, np.linspace(0, 1, len(ramps)), label=name, **style)
    load_axes.set(title="load by hour of the day, working days", xlabel="hour", ylabel="MW")
    wind_axes.set(title="wind, distribution", xlabel="MW", ylabel="share below")
    sun_axes.set(title="solar by hour of the day, working days", xlabel="hour", ylabel="MW")
    ramp_axes.set(title="change of load in 5 minutes, distribution", xlabel="MW", ylabel="share below")
    for axes in (load_axes, wind_axes, sun_axes, ramp_axes):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.suptitle(f"{grid.name}: {len(weeks)} generated weeks, {len(recorded)} recorded series")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _months(grid: GridModel, weeks: Sequence[Week]) -> dict[str, float]:
    """Load over the pattern's mean, by the month in which weeks begin."""
    sums: dict[int, np.ndarray] = {}
    for week in weeks:
        expected = grid.loads.peak.sum() * grid.loads.pattern(week.start, len(week.load_p))
        sums[week.date.month] = sums.get(week.date.month, np.zeros(2)) + np.array((week.load_p.sum(), expected.sum()))
    return {str(month): float(load / expected) for month, (load, expected) in sorted(sums.items())}


def _survival(
    grid: GridModel, folder: str | Path, weeks: Sequence[Week], episodes: int, months: Sequence[int]
) -> dict[str, Any]:
    """Do-nothing episodes: on weeks from calm rows, as environments draw them, on recorded series from any row."""
    rng = np.random.default_rng(0)
    chosen = [k for k, week in enumerate(weeks) if not months or week.date.month in months]
    if not chosen:
        raise ValueError(f"{folder}: no week begins in the months {list(months)}")
    order = rng.permutation(np.resize(chosen, episodes))
    starts = []
    for k in order:
        calm = weeks[k].calm_rows()
        calm = calm[calm < len(weeks[k].load_p) - EPISODE]
        starts.append((int(k), int(rng.choice(calm)) if calm.size else 0))
    whole = sorted({int(k) for k in order})
    env = make_env(grid.name, folder)
    lasted = do_nothing(env, starts)
    of_weeks = np.concatenate([do_nothing(env, [(k, 0)], len(weeks[k].load_p) - 1) for k in whole])
    env.close()

    env = make_env(grid.name)
    rows = [len(series.load_p) for series in grid.recorded]
    own = [(int(k), int(rng.integers(0, rows[k] - EPISODE))) for k in np.resize(np.arange(len(rows)), episodes)]
    recorded = do_nothing(env, own)
    env.close()
    month_of = np.array([weeks[k].date.month for k, _ in starts])
    month_of_week = np.array([weeks[k].date.month for k in whole])
    lengths = np.array([len(weeks[k].load_p) - 1 for k in whole])
    return {
        "recorded": _shares(recorded, EPISODE),
        "generated": _shares(lasted, EPISODE),
        "months": {str(m): _shares(lasted[month_of == m], EPISODE) for m in sorted(set(month_of.tolist()))},
        "whole_weeks": {
            str(m): _shares(of_weeks[month_of_week == m], lengths[month_of_week == m])
            for m in sorted(set(month_of_week.tolist()))
        },
    }


def _shares(lasted: np.ndarray, steps: int | np.ndarray) -> dict[str, Any]:
    survived = int((lasted >= steps).sum())
    low, high = wilson(survived, len(lasted))
    return {
        "episodes": len(lasted),
        "survived": survived / len(lasted),
        "low": low,
        "high": high,
        "shortest": int(lasted.min()),
    }


def _reset_times(grid: GridModel, folder: str | Path, weeks: int, resets: int) -> dict[str, float]:
    found = {}
    for name, env, count, series in (
        ("generated", make_env(grid.name, folder), resets, min(weeks, KEPT)),
        ("recorded_memory", make_env(grid.name), resets, len(grid.recorded)),
        ("recorded_csv", open_grid(grid.name), max(1, resets // 10), 1),
    ):
        found[name] = reset_ms(env, count, series)
        env.close()
    return found


def _hours(sample: Sample, units: np.ndarray | None = None) -> np.ndarray:
    """Total load, or production of ``units``, by hour of the day, (24,) MW; working days where there are any."""
    total = sample.load_p.sum(axis=1) if units is None else sample.prod_p[:, units].sum(axis=1)
    minutes = sample.start.hour * 60 + sample.start.minute + 5 * np.arange(len(total))
    working = (sample.start.weekday() + minutes // 1440) % 7 < 5
    if working.sum() < DAY:
        working[:] = True
    hour = minutes % 1440 // 60
    return np.array([total[working & (hour == h)].mean() for h in range(24)])


def _autocorrelation(series: np.ndarray, lag: int) -> float:
    """Mean over columns, within two days at a time, as long as the shortest recorded series."""
    found = [
        np.corrcoef(column[:-lag], column[lag:])[0, 1]
        for first in range(0, len(series) - DAY, 2 * DAY)
        for column in series[first : first + 2 * DAY].T
    ]
    return float(np.mean(found))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _days_apart(day: date, other: datetime) -> int:
    apart = abs(day.timetuple().tm_yday - other.timetuple().tm_yday)
    return min(apart, 365 - apart)
