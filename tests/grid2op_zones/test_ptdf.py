"""The linear flow model against lightsim2grid's DC and AC power flows, against theory, and across outages."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from grid2op_zones.config import check_env_config
from grid2op_zones.ptdf import LinearFlow, line_susceptance
from grid2op_zones.simulator import make_simulator


@pytest.fixture(scope="module", params=["l2rpn_case14_sandbox", "l2rpn_wcci_2022_dev"])
def simulator(request):
    simulator = make_simulator(check_env_config({"grid": request.param}))
    simulator.reset(seed=0)
    yield simulator
    simulator.close()


def branches(simulator):
    model = simulator.backend._grid
    return [*model.get_lines(), *model.get_trafos()]


def bridges(simulator):
    """Lines whose outage alone makes an island."""
    flow = LinearFlow(simulator)
    status = ~np.eye(simulator.n_line, dtype=bool)
    return [line for line in range(simulator.n_line) if flow.of_status(status[line]) is None]


def test_equals_the_peers_dc_sensitivities(simulator):
    """With the peer's own susceptance 1 / (x ratio), differences between buses agree to rounding."""
    b = [1.0 / (branch.x_pu * getattr(branch, "ratio", 1.0)) for branch in branches(simulator)]
    ours = LinearFlow(simulator, susceptance=np.array(b)).of_status(np.ones(simulator.n_line, dtype=bool))
    model = simulator.backend._grid.copy()
    model.dc_pf(np.ones(model.total_bus(), dtype=complex), 10, 1e-8)
    peer = model.get_ptdf()[:, : simulator.n_sub]
    np.testing.assert_allclose(ours, peer - peer.mean(axis=1, keepdims=True), atol=1e-9)


def test_predicts_ac_flows_of_small_redispatch(simulator):
    """1 MW from one generator to another: rms error under 0.02 MW a line, below a tenth of the rms flow change."""
    model = simulator.backend._grid.copy()
    start = np.full(model.total_bus(), 1.02, dtype=complex)

    def flows():
        assert len(model.ac_pf(start.copy(), 30, 1e-10)) > 0
        table = (*model.get_lines(), *model.get_trafos())
        return np.array([branch.res_p1_mw for branch in table])

    ptdf = LinearFlow(simulator).of_status(np.ones(simulator.n_line, dtype=bool))
    before, generators = flows(), list(model.get_generators())
    movable = np.flatnonzero(simulator.gen_redispatchable)
    assert len(movable) >= 3
    predicted, measured = [], []
    for up, down in pairwise(movable):
        for unit, change in ((up, 1.0), (down, -1.0)):
            model.change_p_gen(int(unit), float(generators[unit].target_p_mw + change))
        measured.append(flows() - before)
        predicted.append(ptdf[:, simulator.gen_to_subid[up]] - ptdf[:, simulator.gen_to_subid[down]])
        for unit in (up, down):
            model.change_p_gen(int(unit), float(generators[unit].target_p_mw))
    error = np.sqrt(np.mean((np.array(measured) - np.array(predicted)) ** 2))
    assert error < 0.02
    assert error < 0.1 * np.sqrt(np.mean(np.array(predicted) ** 2))


def test_rows_sum_to_zero_and_power_is_conserved(simulator):
    ptdf = LinearFlow(simulator).of_status(np.ones(simulator.n_line, dtype=bool))
    np.testing.assert_allclose(ptdf.sum(axis=1), 0.0, atol=1e-9)
    incidence = np.zeros((simulator.n_sub, simulator.n_line))
    incidence[simulator.line_or_to_subid, np.arange(simulator.n_line)] += 1.0
    incidence[simulator.line_ex_to_subid, np.arange(simulator.n_line)] -= 1.0
    n = simulator.n_sub
    np.testing.assert_allclose(incidence @ ptdf, np.eye(n) - 1.0 / n, atol=1e-9)


def test_outage_agrees_with_outage_distribution_factors(simulator):
    """After the outage of k: row l plus LODF_lk times row k, LODF_lk = phi_lk / (1 - phi_kk) (Wood et al., 7.2)."""
    flow = LinearFlow(simulator)
    whole = flow.of_status(np.ones(simulator.n_line, dtype=bool))
    secure = np.setdiff1d(np.arange(simulator.n_line), bridges(simulator))
    for out in secure[:: max(1, len(secure) // 8)]:
        status = np.ones(simulator.n_line, dtype=bool)
        status[out] = False
        phi = whole[:, simulator.line_or_to_subid[out]] - whole[:, simulator.line_ex_to_subid[out]]
        expected = whole + np.outer(phi / (1.0 - phi[out]), whole[out])
        expected[out] = 0.0
        np.testing.assert_allclose(flow.of_status(status), expected, atol=1e-8)


def test_islands_and_split_substations_have_no_model(simulator):
    flow = LinearFlow(simulator)
    isolated = 3
    at_it = (simulator.line_or_to_subid == isolated) | (simulator.line_ex_to_subid == isolated)
    assert flow.of_status(~at_it) is None
    assert flow.of_status(~at_it) is None
    assert flow.computed == 1, "that there is no model is kept as well"
    obs = simulator.get_obs()
    assert flow.ptdf(obs) is not None
    obs.topo_vect[5] = 2
    assert flow.ptdf(obs) is None


def test_cache_is_bounded_and_forgets_the_least_recently_used(simulator):
    flow = LinearFlow(simulator, cache_size=2)
    secure = np.setdiff1d(np.arange(simulator.n_line), bridges(simulator))[:3]
    first, second, third = (np.arange(simulator.n_line) != out for out in secure)
    kept = flow.of_status(first)
    flow.of_status(second)
    assert flow.of_status(first) is kept
    flow.of_status(third)  # drops the second
    assert flow.of_status(first) is kept
    assert flow.computed == 3
    flow.of_status(second)
    assert flow.computed == 4
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1.0


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="and object is not: use LightSimBackend"):
        line_susceptance(SimpleNamespace(backend=object()))
    with pytest.raises(ValueError, match="cache_size is 0"):
        LinearFlow(None, cache_size=0)
