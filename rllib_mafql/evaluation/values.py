"""What a critic knows: its values beside what came of recorded play, and how far it tells actions of a state apart.

A critic's use for the policies is the second: they climb differences between actions of one state, while most of what
a critic learns is how good the states are. Letters as in losses.py: o, a, Q, E critics, m the joint action's size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import mannwhitneyu, spearmanr

from rllib_mafql.checkpoint_pickles import read_settings
from rllib_mafql.evaluation.checkpoint import TEACHER, load_module, read_checkpoint
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.modules import CRITIC
from rllib_mafql.offline import Recording
from rllib_mafql.replay import n_step_returns

#: A return counts as seen where what lies beyond the recorded steps weighs no more than this, unless the grid was lost.
BEYOND = 0.05
#: Steps before a lost grid that count as ahead of it: an hour, at 5 minutes a step.
AHEAD = 12
#: So many steps of an episode are taken, at most: neighbours tell the same.
PER_EPISODE = 50
#: All rows, beside those of each policy that played.
ALL = "all"


class Rows(NamedTuple):
    """Recorded steps (n), joint over the agents."""

    obs: np.ndarray  # (n, sum d_i) float32
    actions: np.ndarray  # (n, m) float32, what was played
    advice: np.ndarray | None  # (n, m) float32, what the advisor would have done; None: there is none
    returns: np.ndarray  # (n,) discounted sum of the rewards from here on; what was not recorded as the episode's mean
    lost: np.ndarray  # (n,) bool, the grid is lost within `AHEAD` steps
    policies: np.ndarray  # (n,) str, who played


class Judge:
    """A checkpoint's critic, and what its policies would do.

    Args:
        checkpoint: folder of a checkpoint, see `find_checkpoint`.

    Attributes:
        agents: (name, size of its observation, size of its action) in joint order.
        gamma: discount of a step that the critic was trained with.

    Raises:
        SetupError: The checkpoint has no critic, or one that was not trained.
    """

    def __init__(self, checkpoint: Path) -> None:
        info = read_checkpoint(checkpoint)
        if CRITIC not in info.module_ids:
            raise SetupError(f"{checkpoint}: {info.algorithm} has no critic of recorded steps; MAFQL and its kin have")
        _, settings = read_settings(checkpoint)
        if not settings["td_coeff"]:
            raise SetupError(f"{checkpoint}: its critic was not trained (td_coeff 0)")
        critic: Any = load_module(checkpoint, CRITIC)  # RLlib declares its settings Optional
        self._critic = critic
        self.gamma = float(settings["gamma"])
        self.agents = [(str(name), int(d), int(m)) for name, d, m in critic.model_config["agents"]]
        self._zones = [load_module(checkpoint, name) for name, _, _ in self.agents]
        self._teacher = load_module(checkpoint, TEACHER) if info.centralized else None

    def values(self, obs: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Q (E, n) of joint actions (n, m) under joint observations (n, sum d_i); agents' own critics averaged."""
        q = self._forward(self._critic, "q", obs=obs, actions=actions)
        return q if q.ndim == 2 else q.mean(axis=0)

    def proposals(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        """What "zones" and, if there is one, the "teacher" would do, (n, m) each, deterministic."""
        own = np.split(obs, np.cumsum([d for _, d, _ in self.agents])[:-1], axis=1)
        parts = [self._forward(module, "actions", obs=part) for module, part in zip(self._zones, own, strict=True)]
        found = {"zones": np.concatenate(parts, axis=1)}
        if self._teacher is not None:
            found["teacher"] = self._forward(self._teacher, "actions", obs=obs)
        return found

    def _forward(self, module: Any, key: str, **batch: np.ndarray) -> np.ndarray:
        import torch

        with torch.no_grad():
            tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in batch.items()}
            return module.forward_inference(tensors)[key].numpy()


def sample_rows(
    recording: Recording, gamma: float, count: int, seed: int, on_rows: Callable[[int], None] = lambda rows: None
) -> Rows:
    """Steps of episodes drawn from a recording, of which it is known what came of them.

    Args:
        recording: read one episode after the other, in random order, until there are enough.
        gamma: discount of a step.
        count: n, or as many as there are.
        seed: of the draw.
        on_rows: called with the number of steps whenever some were taken.

    Raises:
        SetupError: Of no step it is known.
    """
    rng = np.random.default_rng(seed)
    places = recording.index()
    parts: list[Rows] = []
    left = count
    for k in rng.permutation(len(places)):
        recorded = recording.read_one(*places[k])
        fragment = recorded.fragment
        steps = len(fragment.rewards)
        remaining = steps - np.arange(steps)
        seen = np.flatnonzero(fragment.terminated | (gamma**remaining <= BEYOND))
        taken = np.sort(rng.choice(seen, min(len(seen), PER_EPISODE, left), replace=False))
        if not len(taken):
            continue
        to_go = n_step_returns(fragment.rewards, fragment.terminated, gamma, 1).to_go
        parts.append(
            Rows(
                obs=fragment.obs[taken],
                actions=fragment.actions[taken],
                advice=None if fragment.advice is None else fragment.advice[taken],
                returns=to_go[taken],
                lost=fragment.terminated & (remaining[taken] <= AHEAD),
                policies=np.array(recorded.policies)[taken],
            )
        )
        left -= len(taken)
        on_rows(len(taken))
        if not left:
            break
    if not parts:
        raise SetupError(f"no recorded episode is long enough to tell what came of a step at gamma {gamma:g}")
    advised = all(part.advice is not None for part in parts)
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in Rows._fields if name != "advice"
    }
    return Rows(advice=np.concatenate([part.advice for part in parts]) if advised else None, **columns)


def against_returns(values: np.ndarray, rows: Rows) -> dict[str, dict[str, float | None]]:
    """Values (n,) of what was played beside what came of it, for all rows and those of each policy that played.

    Returns:
        who played -> "rows"; "return" and "value", means; "bias", value less return; "error", root of its mean square;
        "spread", the returns' standard deviation; "rank", Spearman's correlation, None where one of the two is
        constant; "warning", the probability that a step within an hour of a lost grid is valued below another one, None
        where there are not both kinds.
    """
    names = [ALL, *sorted(set(rows.policies.tolist()))]
    found = {}
    for name in names:
        own = np.ones(len(values), dtype=bool) if name == ALL else rows.policies == name
        value, returns, lost = values[own], rows.returns[own], rows.lost[own]
        varied = len(value) > 1 and np.ptp(value) > 0 and np.ptp(returns) > 0
        found[name] = {
            "rows": int(own.sum()),
            "return": float(returns.mean()),
            "value": float(value.mean()),
            "bias": float((value - returns).mean()),
            "error": float(np.sqrt(np.square(value - returns).mean())),
            "spread": float(returns.std()),
            "rank": float(spearmanr(value, returns).statistic) if varied else None,
            "warning": _below(value[lost], value[~lost]),
        }
    return found


def against_played(
    values: Callable[[np.ndarray], np.ndarray], played: np.ndarray, others: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Values of other actions in the same states, beside those of what was played.

    Args:
        values: joint actions (n, m) -> Q (E, n).
        played: (n, m).
        others: name -> (n, m).

    Returns:
        name -> "distance", root of the mean square between the actions' components; "difference", mean of Q(other) less
        Q(played); "size", mean of its absolute value; "preferred", share of the states in which the other is valued
        higher; "agreed", share of them in which all critics agree which one is: of two that know nothing, half.
    """
    own = values(played)
    found = {}
    for name, actions in others.items():
        difference = values(actions) - own
        mean = difference.mean(axis=0)
        found[name] = {
            "distance": float(np.sqrt(np.square(actions - played).mean())),
            "difference": float(mean.mean()),
            "size": float(np.abs(mean).mean()),
            "preferred": float((mean > 0).mean()),
            "agreed": float(((difference > 0).all(axis=0) | (difference <= 0).all(axis=0)).mean()),
        }
    return found


def other_actions(judge: Judge, rows: Rows, seed: int) -> dict[str, np.ndarray]:
    """What is held against what was played: proposals, advice, what was played in other states, and random actions."""
    rng = np.random.default_rng(seed)
    found = judge.proposals(rows.obs)
    if rows.advice is not None:
        found["advice"] = rows.advice
    found["played elsewhere"] = rows.actions[rng.permutation(len(rows.actions))]
    found["random"] = rng.uniform(-1.0, 1.0, rows.actions.shape).astype(np.float32)
    return found


def _below(low: np.ndarray, high: np.ndarray) -> float | None:
    """Probability that one of `low` is below one of `high`, ties half: the area under the ROC curve."""
    if not len(low) or not len(high):
        return None
    return float(mannwhitneyu(high, low).statistic / (len(high) * len(low)))
