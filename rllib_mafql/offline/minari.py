"""Recordings as Minari datasets and back (https://minari.farama.org; needs the extra `minari`).

Minari holds episodes of one agent: observations (T + 1), actions, rewards, terminations, truncations (T), infos. Here
that agent is all zones side by side, or one zone with the team's reward.

What Minari has no place for is kept, so that a joint export can be imported without loss: in `infos`, whose row t + 1
belongs to step t as that of a Gymnasium step does (row 0 to the reset), `policy`, `behavior` and `reward_components`
(T + 1, number of components); in each episode's metadata `episode_id`, `scenario`, `first_step` and `cut`; in the
dataset's metadata `rllib_mafql`, the recording's schema.

An episode that the recording does not hold to its end gets a truncation there, as Minari's own collector does it, and
`cut`; one that it does not hold from its start has a `first_step` above 0.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.episode import RecordedFragment
from rllib_mafql.offline.joining import joined
from rllib_mafql.offline.reader import Recording
from rllib_mafql.offline.schema import RecordingSchema
from rllib_mafql.offline.writer import FragmentWriter
from rllib_mafql.replay import Fragment

JOINT = "joint"
METADATA_KEY = "rllib_mafql"

_ID = re.compile(r"([-_\w]+/)*[-_\w]+-v\d+")


class MinariMissingError(ImportError):
    """Minari is not installed; the message says how to do that."""


def to_minari(
    recording: Recording,
    dataset_id: str,
    layout: str = JOINT,
    on_episode: Callable[[RecordedFragment], None] = lambda episode: None,
) -> dict[str, int]:
    """Writes a new local Minari dataset (HDF5), one episode at a time.

    Args:
        recording: what to write.
        dataset_id: "name-v0" or "namespace/name-v0".
        layout: "joint", all agents side by side in joint order, or an agent's name: its part, with the team's reward.
        on_episode: called with each episode that is written.

    Returns:
        episodes; steps; cut: episodes whose end the recording does not hold; headless: those whose start it does not.

    Raises:
        RecordingError: The id is malformed or taken, there is no such agent, or a row group is bad.
        MinariMissingError: Minari is not installed.
    """
    minari = _minari()
    from minari.data_collector import EpisodeBuffer
    from minari.storage import get_dataset_path

    if not _ID.fullmatch(dataset_id):
        raise RecordingError(f"Minari id {dataset_id!r}: expected name-v0 or namespace/name-v0, any number after v")
    path = get_dataset_path(dataset_id)
    if path.exists():
        raise RecordingError(f"Minari dataset {dataset_id!r} exists already at {path}; choose another id or delete it")
    obs, actions = _parts(recording.schema, layout)
    counts = dict.fromkeys(("episodes", "steps", "cut", "headless"), 0)
    notes: list[dict[str, Any]] = []

    def buffers() -> Iterator[Any]:
        for episode in joined(recording):
            fragment = episode.fragment
            cut = not (fragment.terminated or episode.truncated)
            last = np.arange(fragment.steps) == fragment.steps - 1
            notes.append(
                {
                    "episode_id": episode.episode_id,
                    "scenario": episode.scenario,
                    "first_step": episode.first_step,
                    "cut": cut,
                }
            )
            yield EpisodeBuffer(
                observations=fragment.obs[:, obs],
                actions=fragment.actions[:, actions],
                rewards=fragment.rewards,
                terminations=last & fragment.terminated,
                truncations=last & (episode.truncated or cut),
                infos=_infos(episode, recording.schema.components),
            )
            counts["episodes"] += 1
            counts["steps"] += fragment.steps
            counts["cut"] += cut
            counts["headless"] += episode.first_step > 0
            on_episode(episode)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on what to tell of author and environment
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                buffers(),
                observation_space=gym.spaces.Box(-np.inf, np.inf, (obs.stop - obs.start,), np.float32),
                action_space=gym.spaces.Box(-1.0, 1.0, (actions.stop - actions.start,), np.float32),
                description=f"{recording.schema.grid or 'unknown environment'}, {layout}; written by rllib-mafql",
                data_format="hdf5",
            )
            dataset.storage.update_metadata({METADATA_KEY: _describe(recording.schema, layout)})
            dataset.storage.update_episode_metadata(notes)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return counts


def from_minari(
    dataset_id: str,
    folder: str | Path,
    like: RecordingSchema | None = None,
    on_episode: Callable[[RecordedFragment], None] = lambda episode: None,
) -> dict[str, int]:
    """Writes a local Minari dataset of joint observations and actions as a recording, one episode at a time.

    A dataset of other origin needs flat Box spaces, the actions' bounded (they are scaled to [-1, 1]); all its actions
    count as ones to clone, its policy is its `algorithm_name`.

    Args:
        dataset_id: as `minari.load_dataset` takes it.
        folder: for the recording; holds none yet.
        like: agents, their sizes and the fingerprint; not needed for what `to_minari` wrote.
        on_episode: called with each episode that is written.

    Returns:
        episodes; steps.

    Raises:
        RecordingError: There is no such dataset, it does not fit `like`, or a value is not allowed; the folder holds a
            recording.
        MinariMissingError: Minari is not installed.
        OSError: A file cannot be written.
    """
    dataset = _load(dataset_id)
    folder = Path(folder)
    if any(folder.glob("*.parquet")):
        raise RecordingError(f"{folder} holds Parquet files already; choose another folder")
    schema, own = _schema(dataset, dataset_id, like)
    center, half = _scale(dataset, dataset_id, schema)
    counts = dict.fromkeys(("episodes", "steps"), 0)
    name = re.sub(r"\W+", "-", dataset_id)
    writer = FragmentWriter(folder, schema, f"minari-{name}")
    storage, policy = dataset.storage, str(dataset.storage.metadata.get("algorithm_name", "minari"))
    try:
        for index, episode in zip(dataset.episode_indices, dataset.iterate_episodes(), strict=True):
            try:
                if own:
                    [notes] = storage.get_episode_metadata([index])
                    recorded = _recorded(episode, notes, schema.components)
                else:
                    recorded = _foreign(episode, f"{dataset_id}/{index}", policy, center, half)
                writer.add(recorded)
            except (KeyError, ValueError) as error:
                raise RecordingError(f"Minari dataset {dataset_id!r}, episode {index}: {error}") from error
            counts["episodes"] += 1
            counts["steps"] += recorded.fragment.steps
            on_episode(recorded)
        writer.close()
    except BaseException:
        for path in folder.glob(f"{writer.prefix}-*.parquet"):  # all or nothing: half of it would look like all
            path.unlink()
        raise
    return counts


def _minari() -> Any:
    try:
        import h5py  # noqa: F401 - Minari's format
        import minari
    except ImportError as error:
        raise MinariMissingError(f"{error}; install it: pip install 'rllib-mafql[minari]'") from error
    return minari


def _load(dataset_id: str) -> Any:
    minari = _minari()
    if not _ID.fullmatch(dataset_id):
        raise RecordingError(f"Minari id {dataset_id!r}: expected name-v0 or namespace/name-v0, any number after v")
    try:
        return minari.load_dataset(dataset_id)
    except FileNotFoundError:
        there = ", ".join(minari.list_local_datasets()) or "none"
        raise RecordingError(
            f"there is no local Minari dataset {dataset_id!r}; those that are there: {there}"
        ) from None
    except (ValueError, KeyError, OSError) as error:
        raise RecordingError(f"Minari dataset {dataset_id!r} cannot be read: {error}") from error


def _parts(schema: RecordingSchema, layout: str) -> tuple[slice, slice]:
    """The layout's part of the joint observation and of the joint action."""
    if layout == JOINT:
        return slice(0, schema.obs_size), slice(0, schema.action_size)
    obs = action = 0
    for name, d, m in schema.agents:
        if name == layout:
            return slice(obs, obs + d), slice(action, action + m)
        obs, action = obs + d, action + m
    names = ", ".join(name for name, _, _ in schema.agents)
    raise RecordingError(f"layout {layout!r}: expected {JOINT!r} or an agent of the recording, which are {names}")


def _infos(episode: RecordedFragment, components: tuple[str, ...]) -> dict[str, Any]:
    infos: dict[str, Any] = {
        "policy": ["", *episode.policies],
        "behavior": np.concatenate([[False], episode.fragment.behavior]),
    }
    if components:
        steps = np.stack([episode.components[name] for name in components], axis=1)
        infos["reward_components"] = np.concatenate([np.zeros((1, len(components)), np.float32), steps])
    return infos


def _describe(schema: RecordingSchema, layout: str) -> dict[str, Any]:
    return {
        "layout": layout,
        "agents": [list(agent) for agent in schema.agents],
        "fingerprint": schema.fingerprint,
        "reward_components": list(schema.components),
    }


def _schema(dataset: Any, dataset_id: str, like: RecordingSchema | None) -> tuple[RecordingSchema, bool]:
    """The schema to write with, and whether the dataset is one of `to_minari`."""
    found = dataset.storage.metadata.get(METADATA_KEY)
    if found is None:
        if like is None:
            raise RecordingError(
                f"Minari dataset {dataset_id!r} does not tell the agents: name a recording or a grid with them (--like)"
            )
        return RecordingSchema(like.agents, like.fingerprint), False
    if found["layout"] != JOINT:
        raise RecordingError(
            f"Minari dataset {dataset_id!r} holds {found['layout']!r} only: import needs the layout {JOINT!r}"
        )
    agents = tuple((name, d, m) for name, d, m in found["agents"])
    schema = RecordingSchema(agents, found["fingerprint"], tuple(found["reward_components"]))
    if like is not None and (like.agents, like.fingerprint) != (schema.agents, schema.fingerprint):
        raise RecordingError(
            f"Minari dataset {dataset_id!r} was recorded on grid {schema.grid!r} with the agents {schema.agents}, "
            f"which is not like grid {like.grid!r} with the agents {like.agents}"
        )
    return schema, True


def _scale(dataset: Any, dataset_id: str, schema: RecordingSchema) -> tuple[np.ndarray, np.ndarray]:
    """Center and half width (sum m_i,) of the dataset's actions; RecordingError if its spaces do not fit."""
    sizes = {"observation": schema.obs_size, "action": schema.action_size}
    spaces = {"observation": dataset.observation_space, "action": dataset.action_space}
    for what, size in sizes.items():
        space = spaces[what]
        if not isinstance(space, gym.spaces.Box) or space.shape != (size,):
            raise RecordingError(
                f"Minari dataset {dataset_id!r} has the {what} space {space}, but the agents {schema.agents} side by "
                f"side need a Box of shape ({size},)"
            )
    low, high = spaces["action"].low, spaces["action"].high
    if not np.isfinite([low, high]).all() or not (low < high).all():
        raise RecordingError(f"Minari dataset {dataset_id!r} has unbounded actions: they cannot be scaled to [-1, 1]")
    return (high + low) / 2, (high - low) / 2


def _recorded(episode: Any, notes: dict[str, Any], components: tuple[str, ...]) -> RecordedFragment:
    """An episode that `to_minari` wrote."""
    values = episode.infos.get("reward_components", np.zeros((len(episode) + 1, 0), np.float32))
    return RecordedFragment(
        fragment=Fragment(
            obs=episode.observations,
            actions=episode.actions,
            rewards=episode.rewards,
            behavior=np.asarray(episode.infos["behavior"][1:], bool),
            terminated=bool(episode.terminations[-1]),
        ),
        truncated=bool(episode.truncations[-1]) and not notes["cut"],
        components={name: values[1:, i] for i, name in enumerate(components)},
        policies=[name.decode() if isinstance(name, bytes) else str(name) for name in episode.infos["policy"][1:]],
        episode_id=str(notes["episode_id"]),
        first_step=int(notes["first_step"]),
        scenario=str(notes["scenario"]),
    )


def _foreign(episode: Any, episode_id: str, policy: str, center: np.ndarray, half: np.ndarray) -> RecordedFragment:
    """An episode of another origin."""
    steps = len(episode.rewards)
    for name in ("terminations", "truncations"):
        if np.any(getattr(episode, name)[:-1]):
            raise ValueError(f"{name} are set before the last step")
    return RecordedFragment(
        fragment=Fragment(
            obs=np.asarray(episode.observations, np.float32),
            actions=((np.asarray(episode.actions) - center) / half).astype(np.float32),
            rewards=np.asarray(episode.rewards, np.float32),
            behavior=np.ones(steps, bool),
            terminated=bool(episode.terminations[-1]),
        ),
        truncated=bool(episode.truncations[-1]),
        components={},
        policies=[policy] * steps,
        episode_id=episode_id,
        first_step=0,
        scenario="",
    )
