"""Partitions: official areas, tables, electrical distance, and maps that are wrong."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from grid2op.data.l2rpn_idf_2023.config import this_rules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from grid2op_zones import ZonedGridEnv, make_zones
from grid2op_zones.zones import CASE14_ZONES, electrical_distance, electrical_partition, grid_name, line_reactance

reuses_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def test_the_118_bus_grid_has_its_official_areas(idf):
    assert [zone.name for zone in idf.zones] == ["zone_0", "zone_1", "zone_2"]
    assert [len(zone.substations) for zone in idf.zones] == [39, 35, 44]
    for zone, area in zip(idf.zones, this_rules.substations_id_by_area.values(), strict=True):
        assert zone.substations.tolist() == sorted(area)
    assert [len(zone.redispatchable) for zone in idf.zones] == [6, 5, 9]
    assert [len(zone.curtailable) for zone in idf.zones] == [11, 16, 15]
    assert [len(zone.storages) for zone in idf.zones] == [2, 3, 2]


def test_another_118_bus_grid_shares_the_official_areas(idf):
    env = ZonedGridEnv({"grid": "l2rpn_wcci_2022_dev"})
    for own, official in zip(env.zones, idf.zones, strict=True):
        np.testing.assert_array_equal(own.substations, official.substations)
    assert env.fingerprint["grid"] == grid_name(env.simulator) == "l2rpn_wcci_2022_dev"
    env.close()


def test_the_14_bus_grid_has_its_table(case14):
    assert [zone.substations.tolist() for zone in case14.zones] == [list(part) for part in CASE14_ZONES]
    assert len(case14.zones[2].redispatchable) == 0


def test_every_element_has_its_zone(idf):
    cls = type(idf.simulator)
    for field, count in [
        ("substations", cls.n_sub),
        ("generators", cls.n_gen),
        ("loads", cls.n_load),
        ("storages", cls.n_storage),
    ]:
        owners = np.bincount(np.concatenate([getattr(zone, field) for zone in idf.zones]), minlength=count)
        assert (owners == 1).all(), field
    ends = np.bincount(np.concatenate([zone.lines for zone in idf.zones]), minlength=cls.n_line)
    ties = np.bincount(np.concatenate([zone.ties for zone in idf.zones]), minlength=cls.n_line)
    np.testing.assert_array_equal(ends, np.where(ties > 0, 2, 1))
    assert set(np.unique(ties)) == {0, 2}
    assert (ties == 2).sum() == 8
    for zone in idf.zones:
        assert set(zone.redispatchable) | set(zone.curtailable) <= set(zone.generators)


def test_a_map_by_ids_or_names_is_kept(case14):
    names = type(case14.simulator).name_sub
    spec = [list(range(7)), [str(names[k]) for k in range(7, 14)]]
    zones = make_zones(case14.simulator, spec)
    assert [zone.substations.tolist() for zone in zones] == [list(range(7)), list(range(7, 14))]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ([[0, 1, 2], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]], r"sub_13 \(id 13\) is in no zone"),
        ([list(range(14)), [3]], r"sub_3 \(id 3\) stands 2 times"),
        ([list(range(14)), []], r"zones\[1\] is empty"),
        ([list(range(15))], r"zones\[0\]: 14 is no substation; ids run from 0 to 13"),
        ([["sub_1", "sub_99x"]], r"unknown substation 'sub_99x'; the nearest name is 'sub_9'"),
        ([3, 4], r"zones\[0\]: expected a list of substation ids or names, found 3"),
        (0, r"0 zones asked of 14 substations"),
        (15, r"15 zones asked of 14 substations"),
    ],
)
def test_a_map_that_is_no_partition_is_named(case14, spec, message):
    with pytest.raises(ValueError, match=message):
        make_zones(case14.simulator, spec)


def test_a_zone_without_units_is_allowed_and_said(case14, caplog):
    with caplog.at_level(logging.WARNING, logger="grid2op_zones"):
        zones = make_zones(case14.simulator, [[k for k in range(14) if k != 13], [13]])
    assert not zones[1].controllable
    assert "zone_1 (1 substations) has no controllable unit" in caplog.text


@given(count=st.integers(1, 14))
@reuses_fixture
def test_electrical_zones_are_connected_parts(case14, count):
    cls = type(case14.simulator)
    parts = electrical_partition(case14.simulator, count)
    assert sorted(sub for part in parts for sub in part) == list(range(cls.n_sub))
    assert len(parts) == count
    assert parts == electrical_partition(case14.simulator, count)
    for part in parts:
        inside = np.isin(cls.line_or_to_subid, part) & np.isin(cls.line_ex_to_subid, part)
        edges = (np.ones(inside.sum()), (cls.line_or_to_subid[inside], cls.line_ex_to_subid[inside]))
        _, label = connected_components(coo_matrix(edges, shape=(cls.n_sub, cls.n_sub)), directed=False)
        assert len(set(label[part])) == 1


def test_electrical_distance_is_the_reactance_of_the_shortest_path(case14):
    cls, grid = type(case14.simulator), case14.simulator
    distance, reactance = electrical_distance(grid), line_reactance(grid)
    # IEEE 14-bus data: x = 0.05917 p.u. between buses 1 and 2, 0.04211 between 4 and 5
    assert distance[0, 1] == pytest.approx(0.05917)
    assert distance[3, 4] == pytest.approx(0.04211)
    assert (distance[cls.line_or_to_subid, cls.line_ex_to_subid] <= reactance + 1e-12).all()
    np.testing.assert_allclose(distance, distance.T)
    assert (distance[:, :, None] <= distance[:, None, :] + distance.T[None, :, :] + 1e-9).all()


def test_any_other_grid_is_cut_by_electrical_distance():
    env = ZonedGridEnv({"grid": "rte_case5_example", "zones": 2, "max_steps": 20})
    assert len(env.possible_agents) == 2
    env.reset(seed=0)
    env.step({agent: space.sample() for agent, space in env.action_spaces.items()})
    env.close()
