"""Metrics that RLlib and MAFQL report."""

from rllib_mafql.cli.errors import nearest, warn

#: Those that grow steadily, also where a trial is restored.
GROWING = (
    "training_iteration",
    "time_total_s",
    "num_env_steps_sampled_lifetime",
    "num_episodes_lifetime",
    "num_learner_updates",  # MAFQL's
)
#: All besides the groups of `METRIC_GROUPS`.
METRICS = (
    *GROWING,
    "time_since_restore",
    "iterations_since_restore",
    "num_training_step_calls_per_iteration",
)
METRIC_GROUPS = ("env_runners", "evaluation", "learners", "timers", "fault_tolerance", "perf")


def warn_of_unknown_metric(path: str, place: str) -> None:
    """Warns of a metric that neither RLlib nor MAFQL reports, naming the nearest; custom ones may have any name."""
    if path not in METRICS and path.split("/")[0] not in METRIC_GROUPS:
        known = nearest(path, [*METRICS, *(f"{group}/..." for group in METRIC_GROUPS)])
        warn(f"{place}: no metric that RLlib or MAFQL reports{known}")
