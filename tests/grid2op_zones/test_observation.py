"""What zones see: names, sizes, locality, and values computed by hand."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import numpy as np
import pytest

from grid2op_zones import ZonedGridEnv
from grid2op_zones.observation import LINE_FEATURES, ZoneObserver
from grid2op_zones.opponent import threatened_lines
from grid2op_zones.ptdf import LinearFlow
from grid2op_zones.simulator import grid_references
from grid2op_zones.view import BOUND

READ = [
    "rho",
    "p_or",
    "line_status",
    "timestep_overflow",
    "time_before_cooldown_line",
    "time_next_maintenance",
    "gen_p",
    "actual_dispatch",
    "target_dispatch",
    "gen_p_before_curtail",
    "curtailment_limit",
    "load_p",
    "storage_charge",
    "storage_power",
]


def snapshot(env: ZonedGridEnv) -> SimpleNamespace:
    obs = env.grid_observation
    return SimpleNamespace(
        **{name: np.array(getattr(obs, name), copy=True) for name in READ}, get_time_stamp=obs.get_time_stamp
    )


def observer(env: ZonedGridEnv, observability: str, threatened: tuple[str, ...] = ()) -> ZoneObserver:
    references = grid_references(env.simulator, env.config)
    lost = np.isin(type(env.simulator).name_line, threatened)
    return ZoneObserver(env.simulator, env.zones, observability, references.loads, references.maintainable, lost)


def value(env: ZonedGridEnv, zone: str, name: str, grid_obs) -> float:
    return float(env.observer.observe(grid_obs)[zone][env.observer.names(zone).index(name)])


@pytest.mark.parametrize("grid", ["idf", "case14", "storage14"])
def test_every_component_has_its_name(grid, request):
    env = request.getfixturevalue(grid)
    observations, _ = env.reset(seed=0)
    for agent in env.possible_agents:
        names = env.observer.names(agent)
        assert len(names) == len(set(names)) == env.observer.sizes[agent]
        assert observations[agent].shape == (len(names),)
        assert observations[agent].dtype == np.float32
        assert env.observation_spaces[agent].contains(observations[agent])


def test_the_joint_observation_is_small_and_of_unit_size(idf):
    observations, _ = idf.reset(**idf.episode_spec(1))
    joint = np.concatenate(list(observations.values()))
    assert joint.size < 1200
    assert np.abs(joint).max() < 2.0
    assert 0.2 < np.sqrt((joint**2).mean()) < 1.0


def test_values_known_by_hand(idf):
    idf.reset(**idf.episode_spec(1))
    cls, grid = type(idf.simulator), snapshot(idf)
    zone = idf.zones[0]
    line, unit, load, storage = zone.lines[3], zone.redispatchable[0], zone.loads[0], zone.storages[0]
    line_name, unit_name = cls.name_line[line], cls.name_gen[unit]
    grid.actual_dispatch[unit], grid.target_dispatch[unit] = 4.0, 7.5
    grid.gen_p[unit] = cls.gen_pmax[unit] - 1.0
    grid.storage_power[storage] = -6.0
    grid.get_time_stamp = lambda: datetime(2035, 1, 15, 6, 0)  # a Monday

    def seen(name):
        return value(idf, "zone_0", name, grid)

    assert seen(f"rho[{line_name}]") == pytest.approx(grid.rho[line])
    kilovolt = 138.0  # the nominal voltage of this part of the IEEE 118-bus system
    limit = np.sqrt(3) * kilovolt * idf.simulator.get_thermal_limit()[line] / 1000
    assert seen(f"flow[{line_name}]") == pytest.approx(grid.p_or[line] / limit, rel=1e-4)
    assert seen(f"output[{unit_name}]") == pytest.approx(1 - 1 / cls.gen_pmax[unit])
    assert seen(f"dispatch[{unit_name}]") == pytest.approx(4 / cls.gen_pmax[unit])
    assert seen(f"lag[{unit_name}]") == pytest.approx(3.5 / cls.gen_max_ramp_up[unit])
    assert seen(f"room_up[{unit_name}]") == pytest.approx(1 / cls.gen_max_ramp_up[unit], rel=1e-4)
    assert seen(f"room_down[{unit_name}]") == 1.0
    assert 0.5 < seen(f"load[{cls.name_load[load]}]") < 2.0
    assert seen(f"charge[{cls.name_storage[storage]}]") == pytest.approx(0.5)
    assert seen(f"power[{cls.name_storage[storage]}]") == pytest.approx(-0.5)
    assert seen("sin_day") == pytest.approx(1.0)
    assert seen("sin_week") == pytest.approx(np.sin(2 * np.pi / 28))


def test_the_state_of_a_line_tells_overflow_from_outage(idf):
    idf.reset(seed=0)
    cls, grid = type(idf.simulator), snapshot(idf)
    line = idf.zones[0].lines[0]
    name = f"state[{cls.name_line[line]}]"
    assert value(idf, "zone_0", name, grid) == 0.0
    grid.timestep_overflow[line] = 2  # of 3 that are allowed
    assert value(idf, "zone_0", name, grid) == pytest.approx(2 / 3)
    grid.line_status[line], grid.timestep_overflow[line] = False, 0
    assert value(idf, "zone_0", name, grid) == -0.5
    grid.time_before_cooldown_line[line] = 6
    assert value(idf, "zone_0", name, grid) == -0.75
    grid.time_before_cooldown_line[line] = 200
    assert value(idf, "zone_0", name, grid) == -1.0


def test_maintenance_is_announced(idf):
    idf.reset(seed=0)
    grid, line = snapshot(idf), "26_31_106"
    at = type(idf.simulator).name_line.tolist().index(line)
    for ahead, expected in [(-1, 0.0), (100, 0.0), (24, 0.5), (0, 1.0)]:
        grid.time_next_maintenance[at] = ahead
        assert value(idf, "zone_0", f"maintenance[{line}]", grid) == expected


@pytest.mark.parametrize("blind", [0, 1, 2])
def test_a_zone_sees_nothing_of_the_others(idf, blind):
    idf.reset(**idf.episode_spec(1))
    cls, zone, rng = type(idf.simulator), idf.zones[blind], np.random.default_rng(0)
    before, changed = snapshot(idf), snapshot(idf)
    own = {cls.n_line: zone.lines, cls.n_gen: zone.generators, cls.n_load: zone.loads, cls.n_storage: zone.storages}
    for name in READ:
        array = getattr(changed, name)
        if array.ndim == 0:
            continue
        others = np.setdiff1d(np.arange(array.size), own[array.size])
        array[others] = rng.integers(0, 2, others.size) if array.dtype == bool else array[others] + 1
    seen, unseen = idf.observer.observe(before), idf.observer.observe(changed)
    np.testing.assert_array_equal(seen[zone.name], unseen[zone.name])
    for other in idf.zones:
        if other is not zone:
            assert (seen[other.name] != unseen[other.name]).sum() > 50


def test_border_adds_what_lies_beyond_the_ties(idf):
    local, border = observer(idf, "local"), observer(idf, "border")
    cls = type(idf.simulator)
    for zone in idf.zones:
        assert set(local.names(zone.name)) < set(border.names(zone.name))
        added = set(border.names(zone.name)) - set(local.names(zone.name))
        ends = np.concatenate([cls.line_or_to_subid[zone.ties], cls.line_ex_to_subid[zone.ties]])
        beyond = np.setdiff1d(ends, zone.substations)
        loads = {str(name) for name, sub in zip(cls.name_load, cls.load_to_subid, strict=True) if sub in beyond}
        assert {name for name in added if name.startswith("load[")} == {f"load[{name}]" for name in loads}


def test_outages_adds_the_others_lines_that_may_be_maintained(idf):
    local, outages = observer(idf, "local"), observer(idf, "outages")
    cls, maintainable = type(idf.simulator), grid_references(idf.simulator, idf.config).maintainable
    for zone in idf.zones:
        others = np.setdiff1d(np.flatnonzero(maintainable), zone.lines)
        assert len(others) > 5
        added = set(outages.names(zone.name)) - set(local.names(zone.name))
        expected = {f"{what}[{cls.name_line[k]}]" for what in (*LINE_FEATURES, "maintenance") for k in others}
        beyond = np.setdiff1d(np.arange(cls.n_line), np.union1d(zone.lines, others))
        expected |= {f"excess_after[{name}]" for name in cls.name_line} | {
            f"excess[{name}]" for name in cls.name_line[beyond]
        }
        assert len(beyond) > 30 and added == expected
    grid = snapshot(idf)
    grid.time_next_maintenance[:] = -1
    before = outages.observe(grid)
    grid.time_next_maintenance[cls.name_line.tolist().index("80_79_175")] = 12  # zone_2's
    for zone in idf.zones:
        changed = np.flatnonzero(outages.observe(grid)[zone.name] != before[zone.name])
        names = {outages.names(zone.name)[k] for k in changed}
        assert {name for name in names if not name.startswith("excess_after[")} == {"maintenance[80_79_175]"}


@pytest.mark.parametrize(("steps", "attacked"), [(0, False), (24, False), (25, False), (-1, True)])
def test_lines_show_what_they_carry_after_an_outage(idf, steps, attacked):
    """Against the transfer factors of the grid without the line; the worst of two outages counts."""
    lost = ("80_79_175", "26_31_106")
    outages, grid, cls = observer(idf, "outages", lost if attacked else ()), snapshot(idf), type(idf.simulator)
    names = cls.name_line.tolist()
    grid.time_next_maintenance[:] = -1
    after = np.zeros(cls.n_line)
    for line in map(names.index, lost):
        grid.time_next_maintenance[line] = steps
        status = np.ones(cls.n_line, dtype=bool)
        flow = LinearFlow(idf.simulator)
        start, end = cls.line_or_to_subid, cls.line_ex_to_subid
        status[line] = False
        # the line's loss is as if its power were injected at its start and taken out at its end
        moved = grid.p_or[line] * (flow.of_status(status)[:, start[line]] - flow.of_status(status)[:, end[line]])
        carried = (grid.p_or + moved) * outages.references.per_limit * (np.arange(cls.n_line) != line)
        after = np.where(np.abs(carried) > np.abs(after), carried, after)
    excess = np.sign(after) * np.maximum(np.abs(after) - 0.85, 0.0) / 0.15
    seen = 0
    for zone, observation in outages.observe(grid).items():
        for name, found in zip(outages.names(zone), observation, strict=True):
            if name.startswith("excess_after["):
                expected = np.clip(excess[names.index(name[13:-1])], -10, 10) if attacked or 0 <= steps <= 24 else 0.0
                assert found == pytest.approx(expected, abs=1e-4)
                seen += expected != 0
    assert seen > 2 or steps == 25


def test_an_opponent_s_lines_count_as_outages_to_come():
    attacked = ZonedGridEnv({"opponent": True, "observability": "outages"})
    references = attacked.observer.references
    lines = references.maintainable[references.threatened]
    assert set(lines) == set(threatened_lines(attacked.simulator)) & set(references.maintainable) and len(lines) == 20
    attacked.close()


def test_global_shows_everything_own_elements_first(idf):
    everything = observer(idf, "global")
    sizes = set(everything.sizes.values())
    assert len(sizes) == 1
    names = [everything.names(zone.name) for zone in idf.zones]
    assert set(names[0]) == set(names[1]) == set(names[2])
    rho = [name for name in names[1] if name.startswith("rho[")]
    own = {f"rho[{type(idf.simulator).name_line[k]}]" for k in idf.zones[1].lines}
    assert set(rho[: len(own)]) == own
    assert len([n for n in names[0] if n.split("[")[0] in LINE_FEATURES]) == 4 * type(idf.simulator).n_line


def test_excess_is_signed_and_one_at_the_limit(idf):
    idf.reset(**idf.episode_spec(1))
    grid, line = snapshot(idf), idf.zones[0].lines[3]
    name = f"excess[{type(idf.simulator).name_line[line]}]"
    for rho, flow, excess in [
        (0.85, 50.0, 0.0),
        (0.5, 50.0, 0.0),
        (1.0, 50.0, 1.0),
        (1.0, -50.0, -1.0),
        (0.94, -1.0, -0.6),
    ]:
        grid.rho[line], grid.p_or[line] = rho, flow
        assert value(idf, "zone_0", name, grid) == pytest.approx(excess, abs=1e-6)


def test_extremes_are_clipped(case14):
    case14.reset(seed=0)
    grid = snapshot(case14)
    grid.rho[:] = 1e6
    for agent, observation in case14.observer.observe(grid).items():
        assert observation.max() == BOUND
        assert case14.observation_spaces[agent].contains(observation)
