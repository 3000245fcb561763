"""What is changed in an ablation, one thing at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The variant that nothing is changed in.
BASE = "mafql"

_NO_POLICY_TERM = {"distillation_coeff": 0.0, "bc_coeff": 0.0, "q_coeff": 0.0}
_NO_CRITIC = {"td_coeff": 0.0, "conservative_coeff": 0.0, "q_coeff": 0.0}
_CLONING = {**_NO_CRITIC, "flow_matching_coeff": 0.0, "distillation_coeff": 0.0}
_ALL = ("qp_zones", "proportional_zones", "do_nothing", "random")


@dataclass(frozen=True)
class Ablation:
    """One variant.

    Attributes:
        label: for people.
        expected: what should become of the score: "lower", "same" (not better, or cheaper), or "open".
        training: settings of the algorithm over those of the base; without any, the base's own runs are evaluated.
        env_config: keys over those of evaluation, for evaluation alone.
        execution: "decentralized" or "centralized".
        data: what it makes sense with: "any", "played" by the experiment itself, or "recorded" beforehand.
    """

    label: str
    expected: str
    training: Mapping[str, Any] = field(default_factory=dict)
    env_config: Mapping[str, Any] = field(default_factory=dict)
    execution: str = "decentralized"
    data: str = "any"


def _steps(count: int) -> dict[str, Ablation]:
    return {
        f"student_{k}_steps": Ablation(f"students of {k} steps", "same", {"flow_steps": k}) for k in range(2, count + 1)
    } | {
        f"teacher_{k}_steps": Ablation(f"teacher of {k} steps", "same", {"teacher_flow_steps": k})
        for k in range(1, count)
    }


def _cloned(name: str, what: str, *policies: str, **changed: Any) -> dict[str, Ablation]:
    training = {"offline_cloned_policies": list(policies), **changed}
    return {f"cloned_{name}": Ablation(f"{what} is cloned", "lower", training, data="recorded")}


ABLATIONS: dict[str, Ablation] = {
    BASE: Ablation("MAFQL", "same"),
    # the four objectives, each off in turn
    "no_bc": Ablation("without behaviour cloning", "lower", {"bc_coeff": 0.0}),
    "no_flow": Ablation(
        "without flow matching (and so without distillation)",
        "lower",
        {"flow_matching_coeff": 0.0, "distillation_coeff": 0.0},
    ),
    "no_distillation": Ablation("without distillation", "lower", {"distillation_coeff": 0.0}),
    "no_conservatism": Ablation("without conservatism", "lower", {"conservative_coeff": 0.0}),
    "no_q": Ablation("without values (no critic, no Q)", "lower", _NO_CRITIC),
    # each alone
    "only_bc": Ablation("behaviour cloning alone", "lower", _CLONING),
    "only_flow": Ablation("flow matching and distillation alone", "lower", {**_NO_CRITIC, "bc_coeff": 0.0}),
    "only_q": Ablation(
        "conservative Q-learning alone",
        "lower",
        {"flow_matching_coeff": 0.0, "distillation_coeff": 0.0, "bc_coeff": 0.0},
    ),
    # how they are put together
    "joint_conservatism": Ablation("conservatism of joint actions", "lower", {"conservatism": "joint"}),
    **_steps(5),
    "centralized": Ablation("centralised execution", "same", execution="centralized"),
    # what zones see and may do
    "border": Ablation("zones see their border", "open", {"env_config": {"observability": "border"}}, data="played"),
    "global": Ablation("zones see the whole grid", "open", {"env_config": {"observability": "global"}}, data="played"),
    "local": Ablation("zones see themselves", "open", {"env_config": {"observability": "local"}}, data="played"),
    "no_projection": Ablation("projection off when evaluated", "lower", env_config={"safety": {"level": "none"}}),
    "projection": Ablation("behind the projection when evaluated", "open", env_config={"safety": {"level": "lines"}}),
    # data to learn from
    "expert_data": Ablation(
        "from the central QP alone",
        "open",
        {"behavior_policies": {"qp": 1.0}, "behavior_noise": 0.05, "takeover_fraction": 0.0},
        data="played",
    ),
    "poor_data": Ablation(
        "from noisy proportional dispatch and random play",
        "lower",
        {"behavior_policies": {"proportional_zones": 0.5, "random": 0.5}, "behavior_noise": 0.5},
        data="played",
    ),
    **_cloned("expert", "what the best dispatcher played", "qp_n1"),
    **_cloned("qp", "what the QP per zone played", "qp_zones"),
    **_cloned("mixed", "what all dispatchers played", "qp_n1", "qp_zones", "proportional_zones"),
    **_cloned("poor", "what the proportional rule played", "proportional_zones"),
    # where nobody says whose play is worth it, values have to
    **_cloned("all", "all play, random too,", *_ALL),
    **_cloned("all_alone", "all play, by cloning alone,", *_ALL, **_CLONING),
    **_cloned("all_weighted", "all play, weighted by what came of it,", *_ALL, advantage_temperature=0.03),
}
