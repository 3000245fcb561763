"""Grid2Op's step for what zones do, without the machinery that it does not need.

Grid2Op's ``Environment.step`` spends three quarters of its time around the power flow: it builds and checks actions,
merges them into a backend action, keeps alarms, and copies about 60 arrays into an observation. A zone
changes no topology, so most steps need none of that. ``GridStepper`` does what is left, on Grid2Op's own state, in
Grid2Op's order and precision, and hands every other step to Grid2Op itself:

- a line is closed, a maintenance or an opponent's attack begins, or a target is one that Grid2Op would refuse: the
  whole step;
- a line trips or the power flow diverges: what follows the power flow.

It leaves the state that Grid2Op would leave, so that the two can follow each other; of what cannot matter here it keeps
no account: times that units have been on or off, timers. tests/grid2op_zones/test_fast_step.py plays the same
actions through plain Grid2Op and compares everything. Written against Grid2Op 1.12.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from grid2op.Backend import Backend
from grid2op.Exceptions import ImpossibleRedispatching
from lightsim2grid import LightSimBackend

from grid2op_zones import _kernels
from grid2op_zones.action import ActionMap, Orders
from grid2op_zones.grid_state import GridState
from grid2op_zones.opponent import Opponent, understood
from grid2op_zones.redispatch import DirectRedispatchSolver, solve_directly

#: Grid2Op's marks of an action that it refused, in whole or in part.
REFUSALS = ("is_illegal", "is_ambiguous", "is_illegal_reco", "failed_redispatching")

#: Below this (MW) Grid2Op takes a power for zero.
ZERO_MW = 1e-7


class Outcome(NamedTuple):
    """How a step went."""

    failed: bool  #: whether the grid is down
    refused: bool  #: whether Grid2Op refused the action, in whole or in part
    errors: list[Exception]  #: what Grid2Op gave as reasons


class GridStepper:
    """Plays steps on a Grid2Op environment.

    Args:
        simulator: A Grid2Op environment on LightSimBackend.
        action_map: Makes Grid2Op's actions of orders.
        fast: False plays every step through Grid2Op's own ``step``.

    Attributes:
        state: What the grid measures, as of the last step or ``begin``.
        handed_over: Steps that Grid2Op played itself, in whole or from the power flow on.
    """

    def __init__(self, simulator: Any, action_map: ActionMap, fast: bool = True) -> None:
        self._env = simulator
        self._action_map = action_map
        self._fast = fast and supported(simulator)
        self.handed_over = 0
        cls = type(simulator)
        self._renewable = cls.gen_renewable
        self._span = cls.gen_pmax - cls.gen_pmin
        self._storage_pos = cls.storage_pos_topo_vect
        self._redispatchable = cls.gen_redispatchable
        self._limits = cls.gen_pmin, cls.gen_pmax, np.concatenate([cls.gen_max_ramp_up, cls.gen_max_ramp_down])
        self._no_curtail = np.full(cls.n_gen, -1.0, np.float32)
        self._no_storage = np.zeros(cls.n_storage, np.float32)
        self._hours = simulator.delta_time_seconds / 3600.0
        self._every = np.arange(cls.n_storage)
        # energy in a storage per energy taken from the grid: charging, discharging
        self._efficiency = np.stack([np.ones(cls.n_storage)] * 2)
        self._efficiency[0] *= cls.storage_charging_efficiency
        self._efficiency[1] /= cls.storage_discharging_efficiency
        self._e_max, self._e_min = cls.storage_Emax, cls.storage_Emin
        self._leak = cls.storage_loss * simulator.delta_time_seconds / 3600.0
        self._opponent = Opponent(simulator) if simulator._oppSpace.init_budget > 0.0 and self._fast else None
        self._changes = simulator._helper_action_env({})  # what the series change in a step, in Grid2Op's form
        self.begin()

    def begin(self) -> None:
        """To be called after every reset of the simulator."""
        self._behind = False  # whether Grid2Op has neither recorded nor observed the present state
        self._observation: Any = None  # Grid2Op's observation of the present state, where there is one
        self.state = GridState(self._env)

    def step(self, orders: Orders, reconnect: int | None) -> Outcome:
        """Plays one step with these orders, closing the line ``reconnect`` if one is given."""
        outcome = None
        attacked = self._opponent is not None and self._opponent.acts()
        if self._fast and reconnect is None and not (attacked or self._lines_go_out()) and self._storages_connected():
            outcome = self._play(orders)
        if outcome is None:
            outcome = self._hand_over(orders, reconnect)
        return outcome

    def observation(self) -> Any:
        """Grid2Op's observation of the present state; that of a lost grid where the last step lost it."""
        self._catch_up()
        if self._observation is None:
            self._observation = self._env.get_obs(_do_copy=False)
            self._observation.update_after_reward(self._env)
        return self._observation

    # Steps that Grid2Op plays ----------------------------------------------------------------------------------

    def _hand_over(self, orders: Orders, reconnect: int | None) -> Outcome:
        self.handed_over += 1
        self._catch_up()
        if self._opponent is not None:
            self._env.current_obs = self.observation()  # by which an opponent chooses
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._observation, _, _, info = self._env.step(self._action_map.action(orders, reconnect))
        failed = not self._observation.line_status.any()  # how Grid2Op marks the observation of a grid that is down
        if not failed:
            self.state.read()
        return Outcome(failed, any(info.get(flag, False) for flag in REFUSALS), info["exception"])

    def _catch_up(self) -> None:
        if self._behind:
            env, backend = self._env, self._env.backend
            backend.runpf()  # once more, for all that an observation needs of it
            env._prev_gen_p[:] = backend.prod_p
            env._prev_load_p[:], env._prev_load_q[:] = backend.load_p, backend.load_q
            env._previous_conn_state.update_from_backend(backend)
            self._behind = False

    # Steps that are played here --------------------------------------------------------------------------------

    def _lines_go_out(self) -> bool:
        """Whether a maintenance takes lines out in the next step."""
        ahead = self._env._time_next_maintenance
        return bool(((ahead == 1) | ((ahead == 0) & self._env._line_status)).any())

    def _storages_connected(self) -> bool:
        return bool((self._env.backend.topo_vect[self._storage_pos] >= 1).all())

    def _play(self, orders: Orders) -> Outcome | None:
        """Plays the step here; None, with nothing done, where that is Grid2Op's."""
        env = self._env
        state = env._dispatch_state
        targets, moved = _targets(state, orders.redispatch)
        if (np.abs(targets) > self._span).any():
            return None
        try:
            row = env.chronics_handler.next_time_step()
        except StopIteration:
            return None
        (
            env.time_stamp,
            series,
            env._time_next_maintenance,
            env._duration_next_maintenance,
            env._hazard_duration,
            volt,
        ) = row
        env._has_just_been_seeded = False
        env.nb_time_step += 1
        env._disc_lines[:] = -1
        env._last_obs = env._forecasts = self._observation = None
        env._injection, env._maintenance, env._hazards = series["injection"], series.get("maintenance"), None
        changes = env._env_modification = self._changes
        changes._dict_inj = {name: np.asarray(values, np.float32) for name, values in series["injection"].items()}

        scheduled = env._gen_activeprod_t.copy()
        env._aux_retrieve_modif_act(scheduled, changes, "prod_p")
        available = scheduled.copy()
        if orders.storage is None or not self._charge(orders.storage):
            env._storage_module.compute(self._no_storage if orders.storage is None else orders.storage, state)
        state.gen_before_curtailment[self._renewable] = scheduled[self._renewable]
        caps = orders.curtail is not None
        action = SimpleNamespace(_modif_curtailment=caps, _curtail=orders.curtail if caps else self._no_curtail)
        env._curtailment_module.compute(action, scheduled, state)

        state.target_dispatch[:] = targets
        state.already_modified_gen[moved] = True
        if env._parameters.LIMIT_INFEASIBLE_CURTAILMENT_STORAGE_ACTION:
            env._feasibility_guard.check_and_clamp(scheduled, available, state)
        state.storage_power_prev[:] = state.storage_power
        valid, error = self._redispatch(scheduled)
        if not valid or error is not None:
            return self._lose(
                [error, ImpossibleRedispatching("no dispatch within ramps, pmin and pmax balances the grid")]
            )
        self._set_injections(volt)
        if self._opponent is not None:
            self._opponent.proceed()
        if not self._run_powerflow() or self._protect():
            return self._after_powerflow(scheduled)
        self._register(scheduled)
        if self._opponent is not None:
            self._opponent.finish()
        return Outcome(False, False, [])

    def _run_powerflow(self) -> bool:
        """The backend's power flow, AC from the angles of a DC one; False where it fails, and Grid2Op is to say why.

        Only what zones see is read of the results. What the backend checks beside, connections, the last step that
        Grid2Op played has found in order, and nothing has been opened since.
        """
        backend, grid = self._env.backend, self._env.backend._grid
        backend.V[:] = 1.0
        try:
            grid.deactivate_result_computation()
            try:
                voltages = grid.dc_pf(backend.V.copy(), backend.max_it, backend.tol)
            finally:
                grid.reactivate_result_computation()
            if len(voltages):
                voltages = grid.ac_pf(voltages.copy(), backend.max_it, backend.tol)
        except RuntimeError:
            return False
        if not len(voltages):
            return False
        backend.V[:] = voltages
        self.state.read()
        return True

    def _charge(self, power: np.ndarray) -> bool:
        """Charges the storages by ``power``, MW; False, with nothing done, where one would be full or empty."""
        env, state = self._env, self._env._dispatch_state
        if not env._parameters.ACTIVATE_STORAGE_LOSS:
            return False
        charge = (
            state.storage_current_charge
            + power * self._hours * self._efficiency[(power < 0.0).astype(int), self._every]
        ).astype(np.float32)
        if (charge > self._e_max).any() or (charge < self._e_min).any() or (np.abs(power) < ZERO_MW).any():
            return False
        state.storage_previous_charge[:] = state.storage_current_charge
        state.action_storage[:] = state.storage_power[:] = power
        amount = power.sum()
        state.amount_storage, state.amount_storage_prev = amount - state.amount_storage_prev, amount
        state.storage_current_charge[:] = np.maximum(charge - self._leak, 0.0)
        return True

    def _set_injections(self, voltages: np.ndarray | None) -> None:
        """Series, dispatch and storage power into the backend, as Grid2Op's backend action would."""
        env, merged = self._env, self._env._backend_action
        grid, series = env.backend._grid, env._env_modification._dict_inj
        for store, name in ((merged.load_p, "load_p"), (merged.load_q, "load_q"), (merged.prod_p, "prod_p")):
            if name in series:
                store.set_val(series[name])
        merged.prod_p.change_val(env._dispatch_state.actual_dispatch)
        merged.storage_power.set_val(env._dispatch_state.storage_power)
        env.backend._next_pf_fails = None
        grid.update_gens_p(merged.prod_p.changed, merged.prod_p.values)
        if voltages is not None:
            merged.prod_v.set_val(voltages)
            set_to = np.where(merged.prod_v.changed, merged.prod_v.values, np.float32(0.0)) / env.backend.prod_pu_to_kv
            grid.update_gens_v(merged.prod_v.changed, set_to)
        grid.update_loads_p(merged.load_p.changed, merged.load_p.values)
        grid.update_loads_q(merged.load_q.changed, merged.load_q.values)
        if len(self._no_storage):
            grid.update_storages_p(merged.storage_power.changed, merged.storage_power.values)
        for store in (merged.load_p, merged.load_q, merged.prod_p, merged.prod_v, merged.storage_power):
            store.reset()

    def _redispatch(self, scheduled: np.ndarray) -> tuple[bool, Exception | None]:
        """Sets the new dispatch; whether there is one, and if not, why."""
        env, state = self._env, self._env._dispatch_state
        if isinstance(env._redispatch_solver, DirectRedispatchSolver):
            total = float(state.amount_storage) - float(state.sum_curtailment_mw)
            lacking = np.abs(state.actual_dispatch - state.target_dispatch)
            tolerance = env._tol_poly
            if (
                abs(state.actual_dispatch.sum()) < tolerance
                and lacking.max() < tolerance
                and abs(state.amount_storage) < tolerance
                and abs(state.sum_curtailment_mw) < tolerance
            ):
                return True, None
            part = (scheduled > 0.0) | (np.abs(state.actual_dispatch) >= ZERO_MW) | (lacking != 0.0)
            part &= self._redispatchable
            dispatch = solve_directly(scheduled, state, part, *self._limits, total, env._epsilon_poly)
            if dispatch is not None:
                state.actual_dispatch[:] = dispatch
                return True, None
        return env._make_redisp(state.already_modified_gen, scheduled)

    def _protect(self) -> bool:
        """Whether protections open a line; if not, counts the steps that lines have been overloaded."""
        env = self._env
        return _kernels.protect(
            *(self.state.a_or, self.state.thermal_limit, env._line_status),
            *(env._hard_overflow_threshold, env._nb_ts_max_protection_counter),
            *(env._timestep_overflow, env._protection_counter),
            float(env._parameters.SOFT_OVERFLOW_THRESHOLD),
            env._no_overflow_disconnection,
        )

    def _register(self, scheduled: np.ndarray) -> None:
        """After a power flow that opened no line: counters, and what the next step starts from."""
        env = self._env
        cooldown = env._times_before_line_status_actionable
        cooldown[cooldown > 0] -= 1
        env._update_time_reconnection_hazards_maintenance()
        if env._max_timestep_topology_deactivated > 0:
            cooldown = env._times_before_topology_actionable
            cooldown[cooldown > 0] -= 1
        env._gen_activeprod_t[:] = self.state.gen_p
        env._gen_activeprod_t_redisp[:] = scheduled + env._dispatch_state.actual_dispatch
        env._delta_gen_p[:] = env._gen_activeprod_t - env._gen_activeprod_t_redisp
        self._behind = True

    def _after_powerflow(self, scheduled: np.ndarray) -> Outcome:
        """Grid2Op's own power flow, cascade and registration."""
        env = self._env
        self.handed_over += 1
        self._behind = False
        closed = env.get_current_line_status()
        action = env._action_space({})
        action.get_topological_impact(closed, _store_in_cache=True, _read_from_cache=False)
        errors: list[Exception] = []
        _, has_error = env._aux_run_pf_after_state_properly_set(action, closed.copy(), scheduled, errors)
        env._backend_action.reset()
        if has_error:
            return self._lose(errors)
        if self._opponent is not None:
            self._opponent.finish()
        self.state.read()
        return Outcome(False, False, [])

    def _lose(self, errors: Sequence[Exception | None]) -> Outcome:
        self._behind = False
        self._observation = self._env.current_obs = self._env.get_obs(_update_state=False, _do_copy=False)
        self._observation.set_game_over(self._env)
        self._env.done = True
        return Outcome(True, False, [error for error in errors if error is not None])


def _targets(state: Any, redispatch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets after an order, MW, and which units it moves, both (n_gen,).

    A unit's first order starts from its actual dispatch, whatever that is.
    """
    moved = np.abs(redispatch) > ZERO_MW
    targets = state.target_dispatch + np.where(state.already_modified_gen, redispatch, np.float32(0.0))
    first = moved & ~state.already_modified_gen
    targets[first] = state.actual_dispatch[first] + redispatch[first]
    return targets, moved


def supported(simulator: Any) -> bool:
    """Whether a step of ``simulator`` holds nothing but what is played here.

    No alarms, hazards or detachment, one slack, AC, no opponent or one that is understood, and Grid2Op's default rules
    for what ends an episode.
    """
    cls, backend, parameters = type(simulator), simulator.backend, simulator._parameters
    data = simulator.chronics_handler.real_data
    series = [data, *(getattr(data, "_cached_data", None) or ())]
    return (
        isinstance(backend, LightSimBackend)
        and type(backend).update_thermal_limit is Backend.update_thermal_limit
        and backend.initdc
        and not (
            backend._dist_slack_non_renew or backend._automatically_disconnect or backend._need_islanding_detection
        )
        and backend._gen_slack_id is None
        and (simulator._oppSpace.init_budget == 0.0 or understood(simulator))
        and not (simulator._has_attention_budget or simulator._env_dc or cls.detachment_is_allowed)
        and cls.redispatching_unit_commitment_availble
        and not parameters.STOP_EP_IF_GEN_BREAK_CONSTRAINTS
        and parameters.IGNORE_MIN_UP_DOWN_TIME
        and not any(getattr(one, "hazards", None) is not None for one in series)
    )
