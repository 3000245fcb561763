"""The proportional rule: units move by their effect on the overloaded lines, and back when the lines are free again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from grid2op_zones.area import IN_USE_MW, Area, Snapshot


@dataclass(frozen=True)
class ProportionalSettings:
    """What the proportional rule goes by; loadings are current over thermal limit."""

    act_above: float = 0.92  #: loading of a watched line from which units move
    aim: float = 0.88  #: loading that the move is sized for
    curtail_above: float = 1.0  #: loading from which renewables are curtailed as well
    release_below: float = 0.85  #: highest loading at which everything returns to its schedule
    release_share: float = 0.1  #: pace of the return, a share of the ramp, of `curtail_step` and of the storage's power


class ProportionalDispatcher:
    """Moves an area's units by the proportional rule.

    A line loaded above `act_above` moves every unit in proportion to its range and to its effect on the line, down
    where that relieves it and up where it does not, as far as brings the worst line to `aim`.

    Attributes:
        area: The lines watched and the units moved.
        counts: Empty, the rule cannot fail.
    """

    def __init__(self, area: Area, settings: ProportionalSettings | None = None) -> None:
        self.area = area
        self.counts: Counter[str] = Counter()
        self._base = self._settings = settings or ProportionalSettings()
        self._share = np.ones(area.size)

    def draw(self, rng: np.random.Generator, noise: float) -> None:
        """For the episode to come: log-normal shares of the units (`noise`: std of their logarithm), new threshold."""
        self._share = np.exp(noise * rng.standard_normal(self.area.size))
        shift = float(np.clip(0.02 * noise * rng.standard_normal(), -0.03, 0.03))
        self._settings = replace(self._base, act_above=self._base.act_above + shift, aim=self._base.aim + shift)

    def changes(self, snapshot: Snapshot) -> np.ndarray | None:
        """Changes of the units' injections, MW, (n,); None where nothing is to be done and nothing is in use.

        Balanced, except for what the units' limits cut off: the environment's projection makes up for that.
        """
        area, settings = self.area, self._settings
        loading = snapshot.loading[area.lines]
        highest = loading.max(initial=0.0)
        if highest >= settings.act_above:
            low, high = area.room(snapshot)
            hot = area.lines[loading >= settings.act_above]
            return np.clip(self._relief(snapshot, hot, high - low), low, high)
        present = area.displaced(snapshot)
        if not (np.abs(present) > IN_USE_MW).any():
            return None
        if highest >= settings.release_below:
            return np.zeros(area.size)
        low, high = area.room(snapshot)
        return np.clip(-present, settings.release_share * low, settings.release_share * high)

    def _relief(self, snapshot: Snapshot, hot: np.ndarray, span: np.ndarray) -> np.ndarray:
        area, settings = self.area, self._settings
        excess = snapshot.loading[hot] - settings.aim
        # what 1 MW more of each unit takes off each line's loading, (len(hot), n)
        away = -np.sign(snapshot.observation.p_or[hot]) / snapshot.capacity[hot]
        gain = away[:, None] * area.effects(snapshot.ptdf, hot)
        share = self._share * span
        if excess.max() + settings.aim < settings.curtail_above:
            share[len(area.redispatchable) : area.size - len(area.storages)] = 0.0
        # within a group the generators make up for every move, each by its share, (k, n)
        makers = area.balanced * share * (np.arange(area.size) < len(area.redispatchable))
        makers /= np.maximum(makers.sum(axis=1, keepdims=True), 1e-9)
        gain = gain - (gain @ makers.T) @ area.balanced
        move = share * (excess @ gain)
        move -= (area.balanced @ move) @ makers
        worst = int(np.argmax(excess))
        effect = float(gain[worst] @ move)
        return move * (excess[worst] / effect) if effect > 1e-9 else np.zeros(area.size)
