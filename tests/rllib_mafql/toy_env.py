"""A small game with a known answer: each agent should repeat the first two numbers that it sees."""

from __future__ import annotations

import os
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rllib_mafql import MAFQLConfig

STEPS = 20


def echo_config(**training):
    """A small MAFQL for the environment "echo", seeded, on the driver alone."""
    small = {
        "actor_hidden": 64,
        "teacher_hidden": 64,
        "critic_hidden": 64,
        "train_batch_size_per_learner": 128,
        "average_tau": 0.05,
    }
    game = {"num_updates": 50, "gamma": 0.5, "n_step": 1, "reward_bounds": (-4.0, 1.0)}
    return (
        MAFQLConfig()
        .environment("echo")
        .training(**small | game | training)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .evaluation(evaluation_interval=None, evaluation_duration=5, evaluation_config={"explore": False})
        .debugging(seed=1)
    )


class EchoEnv(MultiAgentEnv):
    """Two agents with observations of different size; reward 1 - mean squared distance, 20 steps.

    config: `fail_at` (raise in that step of the first episode), `bounds` (of the actions, default 1), `fingerprint`,
    `extra` (further components of the observations), `sleep_s` (worker index -> seconds that each step sleeps),
    `die` (a file: the process of worker 2 ends once that exists, which it removes before).
    """

    failures = 0

    def __init__(self, config=None):
        super().__init__()
        worker = getattr(config, "worker_index", 0)
        config = dict(config or {})
        self.sleep_s = config.get("sleep_s", {}).get(worker, 0.0)
        self.die = Path(config["die"]) if "die" in config and worker == 2 else None
        self.fail_at = config.get("fail_at")
        self.scale = config.get("bounds", 1.0)
        self.fingerprint = config.get("fingerprint", {"grid": "echo"})
        self.possible_agents = self.agents = ["left", "right"]
        self.observation_spaces = {
            agent: gym.spaces.Box(-1, 1, (3 + i + config.get("extra", 0),), np.float32)
            for i, agent in enumerate(self.agents)
        }
        self.action_spaces = {agent: gym.spaces.Box(-self.scale, self.scale, (2,), np.float32) for agent in self.agents}
        self.np_random = np.random.default_rng(0)

    def _observe(self):
        self.obs = {
            agent: self.np_random.uniform(-1, 1, space.shape).astype(np.float32)
            for agent, space in self.observation_spaces.items()
        }
        return self.obs

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.np_random = np.random.default_rng(seed)
        self.steps = 0
        return self._observe(), {}

    def step(self, actions):
        self.steps += 1
        if self.sleep_s:
            time.sleep(self.sleep_s)
        if self.die is not None and self.die.exists():
            self.die.unlink()
            os._exit(1)
        if self.steps == self.fail_at and EchoEnv.failures <= 0:
            EchoEnv.failures += 1
            raise RuntimeError("the simulator broke")
        error = np.mean([(actions[a] / self.scale - self.obs[a][:2]) ** 2 for a in self.agents])
        over = self.steps >= STEPS
        infos = {a: {"episode_metrics": {"survived": 1.0}} if over else {} for a in self.agents}
        rewards = dict.fromkeys(self.agents, 1.0 - error)
        return self._observe(), rewards, {"__all__": False}, {"__all__": over}, infos


class JointEchoEnv(EchoEnv):
    """The same game, with the methods that spare the way through dictionaries."""

    def joint_reset(self, out, *, seed=None, options=None):
        obs, _ = self.reset(seed=seed, options=options)
        out[:] = np.concatenate(list(obs.values()))
        return {"scenario": "echo"}

    def joint_step(self, action, out):
        obs, rewards, terminated, truncated, infos = self.step(dict(zip(self.agents, np.split(action, 2), strict=True)))
        out[:] = np.concatenate(list(obs.values()))
        return rewards["left"], terminated["__all__"], truncated["__all__"], infos["left"]


class AdvisedEcho(EchoEnv):
    """Offers "right", which does what is right, and with noise something else."""

    def behavior_policy(self, name, *, noise=0.0, seed=None):
        if name not in ("right", "random"):
            raise ValueError(f"no policy {name}")
        rng = np.random.default_rng(seed)

        class Policy:
            def reset(self):
                pass

            def act(_):
                add = noise * rng.standard_normal(2) + (name == "random")
                return {agent: np.clip(obs[:2] + add, -1, 1) for agent, obs in self.obs.items()}

        return Policy()
