"""What an RLlib checkpoint says of itself, read without starting the algorithm that wrote it.

RLlib 2.60 writes `CKPT/class_and_ctor_args.pkl` (the Algorithm class and its configuration as a plain dict) and one
folder per module under `CKPT/learner_group/learner/rl_module/`, each loadable on its own by
`RLModule.from_checkpoint`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mafql.checkpoint_pickles import SETTINGS, read_settings
from rllib_mafql.evaluation.settings import merge

if TYPE_CHECKING:
    from ray.rllib.core.rl_module.torch import TorchRLModule

ENV_NAME = "grid2op_zones"
TEACHER = "teacher"
MODULES = Path("learner_group", "learner", "rl_module")


@dataclass(frozen=True, eq=False)
class CheckpointInfo:
    """Contents of one checkpoint, as far as evaluation needs them.

    Attributes:
        path: the checkpoint's folder.
        algorithm: the Algorithm class's name, such as "MAFQL" or "PPO".
        is_mafql: whether that is MAFQL or built on it: a policy per agent.
        flows: whether its policies are flows, of a number of steps that can be chosen.
        centralized: whether there is a teacher too, that sees what all of them see and can act for all.
        env_config: the environment's configuration in training, with what `evaluation_config` changes in it.
        module_ids: ids of the modules that were saved, sorted.
        module_of: agent id -> id of the module that acts for it.
    """

    path: Path
    algorithm: str
    is_mafql: bool
    flows: bool
    centralized: bool
    env_config: dict[str, Any]
    module_ids: tuple[str, ...]
    module_of: Callable[[str], str]


def read_checkpoint(path: Path) -> CheckpointInfo:
    """Read the algorithm, its environment and its modules' names from a checkpoint folder.

    Args:
        path: folder written by `Algorithm.save_to_path` or by Ray Tune.

    Raises:
        ValueError: not a checkpoint of RLlib's new API stack, custom connectors in it (observations would have to
            pass through them), or trained on another environment than `grid2op_zones`.
    """
    import rllib_mafql
    from rllib_mafql.modules import FlowPolicy

    rllib_mafql.register()
    info_file = path / SETTINGS
    modules = path / MODULES
    for needed in (info_file, modules):
        if not needed.exists():
            raise ValueError(
                f"{path} is not a checkpoint of RLlib's new API stack: it has no {needed.relative_to(path)}"
            )
    algorithm: Any
    algorithm, config = read_settings(path)
    if config["env"] != ENV_NAME:
        raise ValueError(f"{path} was trained on the environment {config['env']!r}; evaluation plays {ENV_NAME!r} only")
    for key in ("_env_to_module_connector", "_module_to_env_connector"):
        if config.get(key) is not None:
            raise ValueError(f"{path} was trained with a custom connector ({key[1:]}), which evaluation does not apply")
    if config.get("observation_filter", "NoFilter") != "NoFilter":
        raise ValueError(
            f"{path} was trained with observation_filter={config['observation_filter']!r}, "
            "which evaluation does not apply"
        )
    evaluation_config = config.get("evaluation_config") or {}
    mapping = config["policy_mapping_fn"]
    is_mafql = issubclass(algorithm, rllib_mafql.MAFQL)  # its modules have the agents' names
    module_ids = tuple(sorted(folder.name for folder in modules.iterdir() if folder.is_dir()))
    return CheckpointInfo(
        path=path,
        algorithm=algorithm.__name__,
        is_mafql=is_mafql,
        flows=is_mafql and algorithm.get_default_config().policy_class is FlowPolicy,
        centralized=is_mafql and TEACHER in module_ids and algorithm.centralized_execution,
        env_config=merge(config["env_config"] or {}, evaluation_config.get("env_config") or {}),
        module_ids=module_ids,
        module_of=lambda agent: agent if is_mafql else mapping(agent, None),
    )


def load_module(path: Path, module_id: str, flow_steps: int | None = None) -> TorchRLModule:
    """Load one module of a checkpoint, ready for inference.

    Args:
        path: the checkpoint's folder.
        module_id: one of `CheckpointInfo.module_ids`.
        flow_steps: Euler steps from noise to action, instead of the number trained with; for MAFQL's modules only.

    Raises:
        ValueError: `flow_steps` is given and the module does not integrate a flow.
    """
    from ray.rllib.core.rl_module.torch import TorchRLModule

    module = TorchRLModule.from_checkpoint(str(path.resolve() / MODULES / module_id))
    module.eval()
    if flow_steps is not None:
        if not hasattr(module, "flow_steps"):
            raise ValueError(f"flow_steps: module {module_id!r} of {path} integrates no flow")
        module.flow_steps = flow_steps
    return module
