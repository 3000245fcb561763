"""Env runners as `mafql bench rollout` measures them: MAFQL's and RLlib's, in this process and through Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.env_runner_group import EnvRunnerGroup
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

from rllib_mafql.bench.players import Clock, Player
from rllib_mafql.config import MAFQLConfig

#: Environments of a runner whose memory is measured.
MEMORY_ENVS = 4


def runner_player(env_config: dict[str, Any], acting: bool = False) -> tuple[Player, Clock]:
    """JointEnvRunner with one environment, and what times the environment's steps within.

    acting: its policies act, with noise; otherwise actions are random.
    """
    config = joint_config(env_config)
    runner = config.env_runner_cls(config=config)
    return Player(_sampling(runner, acting), Clock(runner.env.simulator, "reset")), Clock(runner.env, "joint_step")


def rllib_player(env_config: dict[str, Any], zones: Sequence[str], acting: bool = False) -> Player:
    """RLlib's MultiAgentEnvRunner with one environment.

    acting: a module of PPO's default size for each zone acts; otherwise modules are the smallest, and actions random.
    """
    config: Any = PPOConfig().environment("grid2op_zones", env_config=env_config)
    config.multi_agent(policies=list(zones), policy_mapping_fn=lambda agent, *args, **kwargs: agent)
    if not acting:
        config.rl_module(model_config={"fcnet_hiddens": [1], "vf_share_layers": True})
    config.env_runners(num_env_runners=0).debugging(seed=0)
    runner: Any = MultiAgentEnvRunner(config=config, worker_index=0)
    return Player(_sampling(runner, acting), Clock(runner.env.unwrapped.envs[0].unwrapped.simulator, "reset"))


def joint_config(env_config: dict[str, Any], runners: int = 0, envs: int = 1) -> Any:
    """MAFQL with networks of the default size."""
    config = MAFQLConfig().environment("grid2op_zones", env_config=env_config).debugging(seed=0)
    return config.env_runners(num_env_runners=runners, num_envs_per_env_runner=envs)


def _sampling(runner: Any, acting: bool) -> Callable[[int], None]:
    def play(steps: int) -> None:
        runner.sample(num_timesteps=steps, random_actions=not acting)
        runner.get_metrics()

    return play


class RemoteRunners:
    """A group of JointEnvRunners in processes of Ray, of which the first few can be measured at a time.

    Args:
        env_config: of ZonedGridEnv.
        runners: how many processes.
        envs: environments in each.
    """

    def __init__(self, env_config: dict[str, Any], runners: int, envs: int = 1):
        config: AlgorithmConfig = joint_config(env_config, runners, envs)
        self._group = EnvRunnerGroup(config=config)

    def steps_per_second(self, runners: int, steps: int) -> float:
        """Wall-clock rate, resets included, of so many of the runners, each of which plays `steps` steps."""
        before = time.perf_counter()
        played = self._group.foreach_env_runner(
            lambda runner: _played(runner, steps),
            local_env_runner=False,
            remote_worker_ids=list(range(1, runners + 1)),
        )
        return sum(played) / (time.perf_counter() - before)

    def memory_mb(self) -> tuple[float, float]:
        """Resident and private memory of the first runner's process, in 10^6 bytes; libraries count as shared."""
        [memory] = self._group.foreach_env_runner(_memory, local_env_runner=False, remote_worker_ids=[1])
        return memory.rss / 1e6, memory.uss / 1e6

    def stop(self) -> None:
        """Ends the processes."""
        self._group.stop()


def _played(runner: Any, steps: int) -> int:
    rollouts = runner.sample(num_timesteps=steps, random_actions=True)
    runner.get_metrics()
    return sum(rollout.env_steps() for rollout in rollouts)


def _memory(runner: Any) -> Any:
    return psutil.Process().memory_full_info()
