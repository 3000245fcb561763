"""The recording's Parquet schema, version 1: one row is one joint transition, one row group is one fragment.

========================  ============================  ==============================================================
column                    type                          meaning
========================  ============================  ==============================================================
episode_id                dictionary of strings         unique over all recordings
step                      int32                         number of the step within its episode
scenario                  dictionary of strings         what was played, "" if unknown
policy                    dictionary of strings         who acted: a behaviour policy's name, or "learned"
behavior                  bool                          there is something to clone: advice or a policy's action
reward                    float32                       team reward
reward.COMPONENT          float32                       a part of it, one column for each
terminated, truncated     bool                          the episode ended with this step
obs.AGENT                 fixed-size list of float32    what the agent saw before the step
actions.AGENT             fixed-size list of float32    what it did, normalised to [-1, 1]
advice.AGENT              fixed-size list of float32    what the advisor would have done; only where there was one
final_obs.AGENT           list of float32               what it saw after a fragment's last step, null in other rows
fingerprint               dictionary of strings         first 12 hex digits of the SHA-256 of the fingerprint's JSON
========================  ============================  ==============================================================

What an agent saw after a step is `final_obs` where that is not null, and `obs` of the next row elsewhere. The file's
metadata `rllib_mafql` is a JSON object: schema, version, agents ([name, size of obs, size of actions] in joint order),
fingerprint (of the environment, or null), fingerprint_id, reward_components, written_by and, where there are columns
advice.AGENT, advised (true).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

import rllib_mafql
from rllib_mafql.offline.columns import (
    RecordingError,
    allowed,
    constant,
    last_list,
    list_at_end,
    lists,
    only_text,
    texts_of,
    values_of,
)
from rllib_mafql.offline.episode import RecordedFragment
from rllib_mafql.replay import Fragment

VERSION = 1
KIND = "joint-transitions"
METADATA_KEY = b"rllib_mafql"

_TEXT = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class RecordingSchema:
    """What all fragments of a recording have in common.

    Args:
        agents: (name, size of its observation, size of its action) of each agent, in joint order.
        fingerprint: the environment's own account of itself (JSON-able), or None.
        components: names of the reward's parts.
        advised: whether an advisor's actions are kept beside those played.
    """

    agents: tuple[tuple[str, int, int], ...]
    fingerprint: Mapping[str, Any] | None = None
    components: tuple[str, ...] = ()
    advised: bool = False

    def __post_init__(self) -> None:
        # As they come out of a file, so that schemas compare equal whether they were written or read.
        agents = tuple((str(name), int(d), int(m)) for name, d, m in self.agents)
        if not agents or len({name for name, _, _ in agents}) < len(agents) or min(min(a[1:]) for a in agents) < 1:
            raise ValueError(f"a recording needs agents with different names and sizes of at least 1, got {agents}")
        object.__setattr__(self, "agents", agents)
        object.__setattr__(self, "fingerprint", self.fingerprint and json.loads(json.dumps(dict(self.fingerprint))))
        object.__setattr__(self, "components", tuple(self.components))

    @property
    def obs_size(self) -> int:
        """Length of a joint observation, sum d_i."""
        return sum(d for _, d, _ in self.agents)

    @property
    def action_size(self) -> int:
        """Length of a joint action, sum m_i."""
        return sum(m for _, _, m in self.agents)

    @property
    def grid(self) -> str | None:
        """The fingerprint's grid, if it names one."""
        return (self.fingerprint or {}).get("grid")

    @cached_property
    def fingerprint_id(self) -> str:
        """12 hex digits that stand for the fingerprint in each row."""
        return hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with the metadata."""
        fields = [("episode_id", _TEXT), ("step", pa.int32()), ("scenario", _TEXT), ("policy", _TEXT)]
        fields += [("behavior", pa.bool_()), ("reward", pa.float32())]
        fields += [(f"reward.{name}", pa.float32()) for name in self.components]
        fields += [("terminated", pa.bool_()), ("truncated", pa.bool_())]
        fields += [(f"obs.{name}", pa.list_(pa.float32(), d)) for name, d, _ in self.agents]
        fields += [(f"actions.{name}", pa.list_(pa.float32(), m)) for name, _, m in self.agents]
        if self.advised:
            fields += [(f"advice.{name}", pa.list_(pa.float32(), m)) for name, _, m in self.agents]
        fields += [(f"final_obs.{name}", pa.list_(pa.float32())) for name, _, _ in self.agents]
        fields += [("fingerprint", _TEXT)]
        metadata = {
            "schema": KIND,
            "version": VERSION,
            "agents": self.agents,
            "fingerprint": self.fingerprint,
            "fingerprint_id": self.fingerprint_id,
            "reward_components": self.components,
            "written_by": f"rllib-mafql {rllib_mafql.__version__}",
            **({"advised": True} if self.advised else {}),
        }
        return pa.schema(fields, {METADATA_KEY: json.dumps(metadata).encode()})

    @classmethod
    def of_file(cls, found: pa.Schema) -> RecordingSchema:
        """The schema in a file's footer.

        Raises:
            RecordingError: It is another program's, a newer version's, or a column is missing or of another type.
        """
        text = (found.metadata or {}).get(METADATA_KEY)
        if text is None:
            raise RecordingError(
                f"written by something else: expected the metadata {METADATA_KEY.decode()!r} that "
                "`mafql record` and FragmentWriter write"
            )
        try:
            metadata = json.loads(text)
            version = metadata["version"]
            if metadata["schema"] == KIND and isinstance(version, int) and version > VERSION:
                raise RecordingError(
                    f"its schema version {version}, by {metadata.get('written_by', 'a newer package')}, is newer "
                    f"than {VERSION}, the newest that this package reads: update the package rllib-mafql"
                )
            if (metadata["schema"], version) != (KIND, VERSION):
                raise RecordingError(
                    f"written by something else: schema {metadata['schema']!r}, version {version!r}; "
                    f"expected {KIND!r}, version {VERSION}"
                )
            agents = tuple((name, d, m) for name, d, m in metadata["agents"])
            components, advised = tuple(metadata["reward_components"]), metadata.get("advised", False) is True
            schema = cls(agents, metadata["fingerprint"], components, advised)
        except RecordingError:
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingError(
                f"its metadata {METADATA_KEY.decode()!r} is damaged ({type(error).__name__}: {error})"
            ) from error
        for field in schema.arrow:
            if field.name not in found.names:
                raise RecordingError(f"column {field.name!r} is missing")
            if found.names.count(field.name) > 1:
                raise RecordingError(f"column {field.name!r} is there more than once")
            actual = found.field(field.name).type
            if actual != field.type and not (field.type == _TEXT and actual == pa.string()):
                raise RecordingError(f"column {field.name!r} is of type {actual}, expected {field.type}")
        return schema

    def table(self, recorded: RecordedFragment) -> pa.Table:
        """A fragment's rows (T of them); copies its arrays.

        Raises:
            RecordingError: A shape or the components are not those of this schema, or a value is not allowed.
        """
        fragment, steps = recorded.fragment, recorded.fragment.steps
        self._check_shapes(recorded)
        policies = sorted(set(recorded.policies))
        places = {name: place for place, name in enumerate(policies)}
        acted = pa.array([places[name] for name in recorded.policies], pa.int32())
        last = np.arange(steps) == steps - 1
        columns: dict[str, Any] = {
            "episode_id": constant(recorded.episode_id, steps),
            "step": np.arange(recorded.first_step, recorded.first_step + steps, dtype=np.int32),
            "scenario": constant(recorded.scenario, steps),
            "policy": pa.DictionaryArray.from_arrays(acted, pa.array(policies, pa.string())),
            "behavior": fragment.behavior.astype(bool),
            "reward": allowed("reward", fragment.rewards),
            "terminated": last & fragment.terminated,
            "truncated": last & recorded.truncated,
            "fingerprint": constant(self.fingerprint_id, steps),
        }
        for name in self.components:
            columns[f"reward.{name}"] = allowed(f"reward.{name}", recorded.components[name])
        for name, obs, actions in self._slices():
            columns[f"obs.{name}"] = lists(allowed(f"obs.{name}", fragment.obs[:-1, obs]))
            final = allowed(f"final_obs.{name}", fragment.obs[-1:, obs], first_row=steps - 1)
            columns[f"final_obs.{name}"] = list_at_end(final[0], steps)
            for kind, joint in self._chosen(fragment.actions, fragment.advice):
                columns[f"{kind}.{name}"] = lists(allowed(f"{kind}.{name}", joint[:, actions], action=True))
        return pa.table([columns[name] for name in self.arrow.names], schema=self.arrow)

    def fragment(self, table: pa.Table) -> RecordedFragment:
        """The fragment that a row group (T rows) holds, in arrays of its own.

        Raises:
            RecordingError: The rows are not one fragment, or a value is not allowed; names column and row.
        """
        steps = table.num_rows
        if not steps:
            raise RecordingError("the row group is empty")
        episode_id, scenario = only_text(table, "episode_id"), only_text(table, "scenario")
        if (found := only_text(table, "fingerprint")) != self.fingerprint_id:
            raise RecordingError(
                f"column 'fingerprint', row 0: {found!r}, but the file's fingerprint is {self.fingerprint_id!r}; "
                "the rows were recorded in another environment"
            )
        numbers = values_of(table, "step")
        for row in np.flatnonzero(np.diff(numbers) != 1)[:1] + 1:
            raise RecordingError(
                f"the rows are not one fragment: column 'step', row {row} is {numbers[row]} after {numbers[row - 1]}"
            )
        ends = {name: values_of(table, name) for name in ("terminated", "truncated")}
        for name, values in ends.items():
            for row in np.flatnonzero(values[:-1])[:1]:
                raise RecordingError(f"the rows are not one fragment: column {name!r}, row {row} ends the episode")
        joint_obs = np.empty((steps + 1, self.obs_size), np.float32)
        joint_actions = np.empty((steps, self.action_size), np.float32)
        advised = f"advice.{self.agents[0][0]}" in table.column_names  # this file; others may be without
        joint_advice = np.empty_like(joint_actions) if advised else None
        for name, obs, actions in self._slices():
            column = f"obs.{name}"
            joint_obs[:-1, obs] = allowed(column, values_of(table, column).reshape(steps, -1))
            column = f"final_obs.{name}"
            final = last_list(table, column, obs.stop - obs.start)
            joint_obs[-1:, obs] = allowed(column, final[None], first_row=steps - 1)
            for kind, joint in self._chosen(joint_actions, joint_advice):
                column = f"{kind}.{name}"
                joint[:, actions] = allowed(column, values_of(table, column).reshape(steps, -1), action=True)
        return RecordedFragment(
            fragment=Fragment(
                obs=joint_obs,
                actions=joint_actions,
                rewards=allowed("reward", values_of(table, "reward")).copy(),
                behavior=values_of(table, "behavior").copy(),
                terminated=bool(ends["terminated"][-1]),
                advice=joint_advice,
            ),
            truncated=bool(ends["truncated"][-1]),
            components={
                name: allowed(f"reward.{name}", values_of(table, f"reward.{name}")).copy() for name in self.components
            },
            policies=texts_of(table, "policy"),
            episode_id=episode_id,
            first_step=int(numbers[0]),
            scenario=scenario,
        )

    def _slices(self) -> Iterator[tuple[str, slice, slice]]:
        """Each agent's name, and its part of the joint observation and of the joint action."""
        obs = action = 0
        for name, d, m in self.agents:
            yield name, slice(obs, obs + d), slice(action, action + m)
            obs, action = obs + d, action + m

    def _chosen(self, actions: np.ndarray, advice: np.ndarray | None) -> Iterator[tuple[str, np.ndarray]]:
        """The kinds of columns that hold actions, and the joint arrays (T, sum m_i) that go with them."""
        yield "actions", actions
        if advice is not None:
            yield "advice", advice

    def _check_shapes(self, recorded: RecordedFragment) -> None:
        fragment, steps = recorded.fragment, recorded.fragment.steps
        if not steps:
            raise RecordingError("a fragment needs at least one step")
        expected = {
            "obs": (fragment.obs.shape, (steps + 1, self.obs_size)),
            "actions": (fragment.actions.shape, (steps, self.action_size)),
            "advice": (
                () if fragment.advice is None else fragment.advice.shape,
                (steps, self.action_size) if self.advised else (),
            ),
            "behavior": (fragment.behavior.shape, (steps,)),
            "policies": ((len(recorded.policies),), (steps,)),
            **{f"component {k!r}": (np.shape(v), (steps,)) for k, v in recorded.components.items()},
        }
        for what, (shape, right) in expected.items():
            if tuple(shape) != right:
                raise RecordingError(f"{what} has shape {tuple(shape)}, expected {right}")
        if set(recorded.components) != set(self.components):
            raise RecordingError(
                f"the fragment has the reward components {sorted(recorded.components)}, "
                f"but the recording has {sorted(self.components)}"
            )
