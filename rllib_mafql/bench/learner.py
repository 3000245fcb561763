"""What learner updates cost: MAFQL's, the same in a bare torch loop, and those of RLlib's multi-agent SAC, in turns."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.utils.metrics import NUM_AGENT_STEPS_SAMPLED_LIFETIME, NUM_ENV_STEPS_SAMPLED_LIFETIME
from ray.rllib.utils.replay_buffers.multi_agent_episode_buffer import MultiAgentEpisodeReplayBuffer

from rllib_mafql.config import MAFQLConfig
from rllib_mafql.minibatches import Drawn
from rllib_mafql.networks import CriticEnsemble, VelocityField
from rllib_mafql.objectives import COEFFICIENTS, Objectives
from rllib_mafql.optimizers import MovingAverage
from rllib_mafql.replay import Fragment, JointReplay

# Agent -> sizes of its observation and its action.
Sizes = Mapping[str, tuple[int, int]]
# Does so many updates.
Updater = Callable[[int], None]

#: Transitions that are learned from, in episodes of 100 steps.
ROWS, EPISODE = 5_000, 100
#: Updates of each contender before the next one's turn; of RLlib's SAC, which takes longer, fewer.
BLOCK, SAC_BLOCK = 10, 2


def measure_learner(
    sizes: Sizes,
    batch_size: int = 256,
    updates: int = 200,
    device: str = "cpu",
    threads: int = 1,
    compiled: bool = False,
    on_updates: Callable[[int], None] = lambda updates: None,
) -> dict[str, Any]:
    """Measures updates on random data in turns of a few, so that all contenders meet the same machine.

    Args:
        sizes: of the agents, in joint order.
        batch_size: transitions in an update.
        updates: of each contender; a fraction of it of RLlib's SAC.
        device: "cpu" or "cuda".
        threads: torch threads of each.
        compiled: measure torch.compile as well, which compiles for minutes first.
        on_updates: called with the number of updates whenever some were done; :func:`total_updates` in all.

    Returns:
        updates_per_s, bare_torch_updates_per_s, rllib_sac_updates_per_s: medians over the turns, with all that a
        learner does: drawing from the replay, moving to the device, updates, target networks, metrics (the bare loop
        has one batch on its device, and no metrics). over_bare_torch, over_rllib_sac: ratios of these. variants: name
        -> updates_per_s and over_float32. parameters: trainable ones of mafql and rllib_sac. batch_size, updates,
        threads, device, precision.
    """
    threads_before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        replay = _filled_replay(sizes)
        learner_group = _config(device, batch_size).build_learner_group(spaces=_spaces(sizes))
        mafql = _mafql(learner_group, replay, batch_size)
        bare = _bare_torch(sizes, replay, batch_size, device)
        sac, sac_parameters = _rllib_sac(sizes, batch_size, device)
        contenders = {"mafql": (mafql, BLOCK), "bare_torch": (bare, BLOCK), "rllib_sac": (sac, SAC_BLOCK)}
        for name, settings in _variants(compiled).items():
            group = _config(device, batch_size, **settings).build_learner_group(spaces=_spaces(sizes))
            contenders[name] = (_mafql(group, replay, batch_size), BLOCK)
        rates = _take_turns(contenders, updates, device, on_updates)
        parameters = {"mafql": _trainable(learner_group), "rllib_sac": sac_parameters}
    finally:
        torch.set_num_threads(threads_before)
    own = rates["mafql"]
    return {
        "updates_per_s": own,
        "bare_torch_updates_per_s": rates["bare_torch"],
        "rllib_sac_updates_per_s": rates["rllib_sac"],
        "over_bare_torch": own / rates["bare_torch"],
        "over_rllib_sac": own / rates["rllib_sac"],
        "variants": {
            name: {"updates_per_s": rates[name], "over_float32": rates[name] / own} for name in _variants(compiled)
        },
        "parameters": parameters,
        "batch_size": batch_size,
        "updates": updates,
        "threads": threads,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "precision": "float32",
    }


def total_updates(updates: int, compiled: bool = False) -> int:
    """Updates that :func:`measure_learner` does in all, warm-up included."""
    turns = -(-updates // BLOCK) + 1
    return turns * (BLOCK * (2 + len(_variants(compiled))) + SAC_BLOCK)


def _variants(compiled: bool) -> dict[str, dict[str, Any]]:
    variants: dict[str, dict[str, Any]] = {"bfloat16": {"precision": "bfloat16"}}
    if compiled:
        variants["compiled"] = {"torch_compile_learner": True}
    return variants


def _take_turns(
    contenders: dict[str, tuple[Updater, int]], updates: int, device: str, on_updates: Callable[[int], None]
) -> dict[str, float]:
    """Median updates/s of each contender over turns, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(-(-updates // BLOCK) + 1):
        for name, (update, block) in contenders.items():
            _wait_for(device)
            before = time.perf_counter()
            update(block)
            _wait_for(device)
            if turn:
                seconds[name].append((time.perf_counter() - before) / block)
            on_updates(block)
    return {name: 1.0 / float(np.median(values)) for name, values in seconds.items()}


def _wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _trainable(learner_group: Any) -> int:
    modules = learner_group._learner.module.values()
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)


def _spaces(sizes: Sizes) -> dict[str, tuple[gym.Space, gym.Space]]:
    return {
        agent: (gym.spaces.Box(-1, 1, (d,), np.float32), gym.spaces.Box(-1, 1, (m,), np.float32))
        for agent, (d, m) in sizes.items()
    }


def _filled_replay(sizes: Sizes) -> JointReplay:
    rng = np.random.default_rng(0)
    d, m = (sum(parts) for parts in zip(*sizes.values(), strict=True))
    replay = JointReplay(2 * ROWS, gamma=0.98, n_step=10, seed=0)
    for _ in range(ROWS // EPISODE):
        obs = rng.standard_normal((EPISODE + 1, d), dtype=np.float32)
        actions = rng.uniform(-1, 1, (EPISODE, m)).astype(np.float32)
        rewards = rng.uniform(0, 1, EPISODE).astype(np.float32)
        replay.add(Fragment(obs, actions, rewards, np.ones(EPISODE, bool), terminated=False))
    return replay


# The contenders ------------------------------------------------------------------------------------------------


def _config(device: str, batch_size: int, *, torch_compile_learner: bool = False, **training: Any) -> Any:
    config = MAFQLConfig().training(train_batch_size_per_learner=batch_size, **training).debugging(seed=0)
    config.framework(torch_compile_learner=torch_compile_learner)
    return config.learners(num_learners=0, num_gpus_per_learner=int(device == "cuda"))


def _mafql(learner_group: Any, replay: JointReplay, batch_size: int) -> Updater:
    """MAFQL's learner as its training_step uses it."""
    learner_group.foreach_learner(lambda learner: learner.fit_normalizers(replay.statistics()))

    def update(number: int) -> None:
        drawn: Any = Drawn(lambda: replay.sample(batch_size), number)
        learner_group.update(
            training_data=TrainingData(data_iterators=[drawn]),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: 0},
            minibatch_size=batch_size,
            num_epochs=1,
        )

    return update


def _bare_torch(sizes: Sizes, replay: JointReplay, batch_size: int, device: str) -> Updater:
    """The same networks and losses as one writes them in torch alone, on one batch that is on the device already."""
    config: Any = MAFQLConfig()
    d, m = (sum(parts) for parts in zip(*sizes.values(), strict=True))
    q, target_q = (CriticEnsemble(d, m, config.critic_hidden, config.hidden_layers).to(device) for _ in range(2))
    teacher = VelocityField(d, m, config.teacher_hidden, config.hidden_layers).to(device)
    students = [VelocityField(*own, config.actor_hidden, config.hidden_layers).to(device) for own in sizes.values()]
    policies = [teacher, *students]
    averages = [copy.deepcopy(policy) for policy in policies]
    target_q.load_state_dict(q.state_dict())
    for follower in (target_q, *averages):
        follower.requires_grad_(False)
    objectives = Objectives(q, target_q, teacher, students, config, stacked=device != "cpu")
    networks = [q, *policies]
    optimizer = torch.optim.Adam([p for network in networks for p in network.parameters()], lr=config.lr, fused=True)
    follow = [
        MovingAverage([target_q], [q], config.tau),
        MovingAverage(averages, policies, config.average_tau),
    ]
    batch = {name: torch.from_numpy(values).to(device) for name, values in replay.sample(batch_size).items()}
    c = {name: float(getattr(config, name)) for name in COEFFICIENTS}
    active = frozenset(name for name, value in c.items() if value)

    def update(number: int) -> None:
        for _ in range(number):
            terms = objectives.terms(batch, objectives.draw(batch), active)
            of_critic, of_teacher, of_students = objectives.weigh(terms, c)
            optimizer.zero_grad()
            sum(of_students, of_critic + of_teacher).backward()
            for network in networks:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.grad_clip)
            optimizer.step()
            for average in follow:
                average.step()

    return update


def _rllib_sac(sizes: Sizes, batch_size: int, device: str) -> tuple[Updater, int]:
    """What SAC.training_step does for an update, less the priorities, and the number of its trainable parameters.

    A module per agent with RLlib's default networks, whose hidden layers are of 256 and 256 as MAFQL's; a uniform
    replay, which is faster than SAC's default.
    """
    config: Any = SACConfig().multi_agent(policies=set(sizes), policy_mapping_fn=lambda agent, *args, **kwargs: agent)
    config.training(train_batch_size_per_learner=batch_size).debugging(seed=0)
    config.learners(num_learners=0, num_gpus_per_learner=int(device == "cuda"))
    learner_group = config.build_learner_group(spaces=_spaces(sizes))
    buffer = MultiAgentEpisodeReplayBuffer(capacity=2 * ROWS)
    rng = np.random.default_rng(0)
    for _ in range(ROWS // EPISODE):
        buffer.add([_episode(sizes, rng)])
    steps = {NUM_ENV_STEPS_SAMPLED_LIFETIME: ROWS, NUM_AGENT_STEPS_SAMPLED_LIFETIME: ROWS * len(sizes)}

    def update(number: int) -> None:
        for _ in range(number):
            episodes = buffer.sample(
                num_items=batch_size, n_step=config.n_step, gamma=config.gamma, sample_episodes=True
            )
            learner_group.update(episodes=episodes, timesteps=steps)

    return update, _trainable(learner_group)


def _episode(sizes: Sizes, rng: np.random.Generator) -> MultiAgentEpisode:
    """An episode of random observations and actions, as RLlib's SAC wants it."""
    spaces = _spaces(sizes)
    observations: list[Any] = [
        {agent: rng.standard_normal(d, dtype=np.float32) for agent, (d, _) in sizes.items()} for _ in range(EPISODE + 1)
    ]
    episode = MultiAgentEpisode(
        observation_space=gym.spaces.Dict({agent: obs for agent, (obs, _) in spaces.items()}),
        action_space=gym.spaces.Dict({agent: act for agent, (_, act) in spaces.items()}),
        agent_to_module_mapping_fn=lambda agent, *args, **kwargs: agent,
    )
    episode.add_env_reset(observations=observations[0])
    for step, (_, following) in enumerate(pairwise(observations)):
        episode.add_env_step(
            observations=following,
            actions={agent: rng.uniform(-1, 1, m).astype(np.float32) for agent, (_, m) in sizes.items()},
            rewards=dict.fromkeys(sizes, float(rng.uniform())),
            truncateds={"__all__": step == EPISODE - 1},
        )
    return episode.to_numpy()
