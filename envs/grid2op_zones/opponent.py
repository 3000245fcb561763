"""Grid2Op's opponent between its attacks: whether it is about to begin one, told without asking it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from grid2op.Opponent import GeometricOpponent, GeometricOpponentMultiArea, OpponentSpace
from grid2op.Reward import AlertReward

#: Attacks' costs that are left in its budget, at least, where attacks go on here.
RESERVE = 100.0


def understood(simulator: Any) -> bool:
    """Whether the opponent is one whose attacks can be foreseen: Grid2Op's geometric one, of several areas."""
    space, opponent = simulator._oppSpace, simulator._opponent
    return (
        type(space) is OpponentSpace
        and type(opponent) is GeometricOpponentMultiArea
        and all(type(one) is GeometricOpponent for one in opponent.list_opponents)
        and space.attack_cooldown == 0
    )


class Opponent:
    """Grid2Op's opponent, in steps in which it begins no attack.

    Args:
        simulator: A Grid2Op environment, whose opponent is `understood`.
    """

    def __init__(self, simulator: Any) -> None:
        self._env = simulator
        self._no_alert = SimpleNamespace(raise_alert=np.zeros(type(simulator).dim_alerts, dtype=bool))
        rewards = [one.template_reward for one in simulator.other_rewards.values()]
        self._alert_rewards = [one for one in rewards if isinstance(one, AlertReward)]

    def acts(self) -> bool:
        """Whether it begins an attack in the next step, or one that goes on has to open a line again.

        GeometricOpponent counts the steps to the next attack, which it has drawn when the episode began, and every area
        those to its attack's end.
        """
        space, opponent = self._env._oppSpace, self._env._opponent
        if space.previous_fails or space.budget < RESERVE or space.current_attack_duration > 1:
            return True
        left = opponent._new_attack_time_counters - 1
        for area, one, attack in zip(left, opponent.list_opponents, opponent._previous_attacks, strict=True):
            if area > -1:
                if self._env._line_status[attack._set_line_status == -1].any():
                    return True
            elif one._attack_counter < one._number_of_attacks:
                ahead = one._next_attack_time
                if (1 + one._attack_waiting_times[one._attack_counter] if ahead is None else ahead) <= 1:
                    return True
        return False

    def proceed(self) -> None:
        """Lets it go on by a step, as Grid2Op does before the power flow; only if it does not act.

        `finish` is to follow after the power flow.
        """
        env = self._env
        seen = SimpleNamespace(line_status=env._line_status)
        attack, duration = env._oppSpace.attack(observation=seen, agent_action=None, env_action=None)
        lines = substations = None
        if attack is not None:
            lines, substations = attack.get_topological_impact()
            for counter, hit in (
                (env._times_before_line_status_actionable, lines),
                (env._times_before_topology_actionable, substations),
            ):
                counter[hit] = np.maximum(duration, counter[hit])
        env._update_alert_properties(self._no_alert, lines, substations)
        env.infos = {"opponent_attack_line": lines}

    def finish(self) -> None:
        """Has attacks that the grid outlived marked, which in Grid2Op is done by the reward for alerts."""
        env = self._env
        for reward in self._alert_rewards:
            reward(self._no_alert, env, False, env._is_done(False, False), False, False)


def threatened_lines(simulator: Any) -> np.ndarray:
    """Ids of the lines that a Grid2Op environment's opponent attacks; none where it has no opponent."""
    names = simulator._kwargs_opponent.get("lines_attacked", [])
    flat = [name for entry in names for name in ([entry] if isinstance(entry, str) else entry)]
    return np.flatnonzero(np.isin(type(simulator).name_line, flat))
