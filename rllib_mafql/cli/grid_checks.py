"""What is checked of an experiment on the grid before Ray starts: zones, series, dispatchers, policies."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig


def check_on_grid(config: "AlgorithmConfig", settings: dict[str, Any], folders: bool) -> None:
    """Checks settings whose environment is `grid2op_zones`.

    Args:
        config: With the settings put in.
        settings: As Ray Tune takes them.
        folders: Whether folders must be on this machine, where the runners will be.

    Raises:
        ValueError: If the environment would refuse them, or the algorithm does not fit its zones; names the setting.
    """
    from grid2op_zones import preflight

    full = preflight.check_on_grid(dict(config.env_config), folders=folders)
    if hasattr(config, "behavior_policies"):  # MAFQL's
        preflight.check_behaviors(config.behavior_policies, "config.behavior_policies")
        advisor = getattr(config, "advisor", None)
        preflight.check_behaviors([] if advisor is None else [advisor], "config.advisor")
        return
    zones = preflight.zone_names(full)
    if zones is None or config.in_evaluation:
        return
    if not settings.get("policies"):
        if len(zones) > 1 and not settings.get("policy_mapping_fn") and "rl_module_spec" not in settings:
            raise ValueError(
                "config.policies: missing: zones have different observations and actions, so each needs a policy of "
                f"its own: [{', '.join(zones)}]"
            )
        return
    from rllib_mafql.cli.names import own_policy

    lacking = [zone for zone in zones if zone not in settings["policies"]]
    if settings.get("policy_mapping_fn") is own_policy and lacking:
        raise ValueError(
            f"config.policies: there is none for {lacking[0]}; the zones are [{', '.join(zones)}], and each is played "
            "by the policy of its name"
        )
