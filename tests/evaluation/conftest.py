"""A grid in a nutshell (what evaluation asks of ZonedGridEnv, without Grid2Op behind it), and real checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

import rllib_mafql


@pytest.fixture
def toy_env_creator() -> Callable[[dict[str, Any]], Any]:
    """env_config -> environment of two zones and `max_steps` steps.

    Loading in episode k at step t is 0.5 + 0.1 k + 0.01 t less the mean action, and the episode is lost above 1.
    `env_config["crash"]`, a path, ends the process in episode 1 if the file exists (and removes it if `crash_once`);
    `env_config["raise"]` makes episode 1 raise.
    """

    def create(env_config: dict[str, Any]) -> Any:  # all of it local, so that it travels to Ray workers by value
        import os
        from datetime import datetime, timedelta
        from types import SimpleNamespace

        import gymnasium as gym
        import numpy as np

        class Constant:
            def __init__(self, env: Any, value: float) -> None:
                self.env, self.value = env, value

            def reset(self) -> None:
                assert self.env.t == 0

            def act(self) -> dict[str, Any]:
                return {zone: np.full(2, self.value, dtype=np.float32) for zone in self.env.possible_agents}

        class ToyEnv:
            possible_agents = ("zone_0", "zone_1")
            zones = (
                SimpleNamespace(name="zone_0", redispatchable=[0, 1], curtailable=[], storages=[0]),
                SimpleNamespace(name="zone_1", redispatchable=[], curtailable=[2], storages=[]),
            )

            def __init__(self) -> None:
                self.observation_spaces = {
                    z: gym.spaces.Box(-10, 10, (3 + i,)) for i, z in enumerate(self.possible_agents)
                }
                self.action_spaces = {z: gym.spaces.Box(-1, 1, (2,)) for z in self.possible_agents}
                self.t = 0

            def episode_spec(self, k: int) -> dict[str, Any]:
                return {"seed": 100 + k, "options": {"scenario": k, "start": 0}}

            @property
            def grid_state(self) -> Any:
                stamp = datetime(2035, 8, 14) + timedelta(minutes=5 * self.t)
                return SimpleNamespace(
                    get_time_stamp=lambda: stamp,
                    delta_time=5.0,
                    rho=np.array([0.1, self.loading]),
                    actual_dispatch=np.array([1.0, -2.0, 3.0]),
                    gen_p=np.array([10.0, 10.0, 10.0]),
                    gen_p_before_curtail=np.array([0.0, 0.0, 14.0]),
                    storage_power=np.array([0.5]),
                )

            def behavior_policy(self, name: str, *, noise: float = 0.0, seed: int | None = None) -> Any:
                value = np.random.default_rng(seed).uniform(-1, 1) if name == "random" else {"qp": 1.0}.get(name, 0.0)
                return Constant(self, value)

            def _observe(self) -> dict[str, Any]:
                return {z: np.full(s.shape, 0.1 * self.k, dtype=np.float32) for z, s in self.observation_spaces.items()}

            def reset(self, *, seed: int, options: dict[str, int]) -> Any:
                assert seed == 100 + options["scenario"]
                self.k, self.t = options["scenario"], 0
                self.loading = 0.5 + 0.1 * self.k
                return self._observe(), {}

            def step(self, actions: dict[str, Any]) -> Any:
                if self.k == 1 and os.path.exists(env_config.get("crash", "")):
                    if env_config.get("crash_once"):
                        os.remove(env_config["crash"])
                    os._exit(1)
                if self.k == 1 and env_config.get("raise"):
                    raise RuntimeError("the toy is broken")
                self.t += 1
                mean = float(np.mean(list(actions.values())))
                self.loading = 0.5 + 0.1 * self.k + 0.01 * self.t - 0.1 * mean
                lost, over = self.loading > 1, self.t >= env_config["max_steps"]
                info: dict[str, Any] = {}
                if lost or over:
                    share = self.t / env_config["max_steps"]
                    names = ("score", "safety", "cost", "renewables", "alive")
                    info["episode_metrics"] = dict.fromkeys(names, share) | {
                        "survived": float(not lost),
                        "overload_steps": 0.0,
                        "illegal_actions": 0.0,
                    }
                    info["end_reason"] = "overload" if lost else "end of episode"
                infos = dict.fromkeys(self.possible_agents, info)
                return self._observe(), {}, {"__all__": lost}, {"__all__": over}, infos

        return ToyEnv()

    return create


ENV_CONFIG = {"grid": "educ_case14_storage", "max_steps": 6}


@pytest.fixture(scope="module")
def two_cpus() -> Iterator[None]:
    """A Ray of two CPUs, unless one runs already."""
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    if started:
        ray.shutdown()


def save(config: Any, path: Path) -> Path:
    """An untrained checkpoint, laid out as Ray Tune does: RUN/TRIAL/checkpoint_000000 beside result.json."""
    rllib_mafql.register()
    config.environment("grid2op_zones", env_config=ENV_CONFIG)
    config.env_runners(num_env_runners=0)
    algorithm = config.build_algo()
    try:
        algorithm.save_to_path(str(path / "trial" / "checkpoint_000000"))
    finally:
        algorithm.stop()
    result = {
        "training_iteration": 1,
        "num_env_steps_sampled_lifetime": 6.0,
        "env_runners": {"episode_return_mean": 1.0},
    }
    (path / "trial" / "result.json").write_text(json.dumps(result) + "\n")
    return path


@pytest.fixture(scope="module")
def mafql_run(tmp_path_factory: pytest.TempPathFactory, two_cpus: None) -> Path:
    """Folder of a MAFQL run with one checkpoint."""
    config = rllib_mafql.MAFQLConfig().training(actor_hidden=16, teacher_hidden=16, critic_hidden=16)
    return save(config, tmp_path_factory.mktemp("mafql"))


@pytest.fixture(scope="module")
def ppo_run(tmp_path_factory: pytest.TempPathFactory, two_cpus: None) -> Path:
    """Folder of a PPO run with one checkpoint: a policy per zone under another name than the zone's."""
    zones = ("zone_0", "zone_1", "zone_2")
    config = PPOConfig().multi_agent(
        policies={f"policy_of_{zone}" for zone in zones},
        policy_mapping_fn=lambda agent, episode, **kwargs: f"policy_of_{agent}",
    )
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[16]))
    return save(config, tmp_path_factory.mktemp("ppo"))
