"""Recordings as Minari datasets and back."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rllib_mafql.offline import (
    FragmentWriter,
    RecordedFragment,
    Recording,
    RecordingError,
    RecordingSchema,
    open_recording,
)
from rllib_mafql.offline.joining import join, joined
from rllib_mafql.offline.minari import from_minari, to_minari
from rllib_mafql.replay import Fragment
from tests.offline.recordings import SCHEMA, assert_same, make

minari = pytest.importorskip("minari")
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@pytest.fixture(autouse=True)
def _datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def record(folder: Path, fragments, schema: RecordingSchema = SCHEMA, max_rows: int = 6) -> Recording:
    writer = FragmentWriter(folder, schema, "part", max_rows)
    for fragment in fragments:
        writer.add(fragment)
    writer.close()
    return open_recording(folder)


def pieces_of(whole: RecordedFragment, cuts: Sequence[int]) -> Iterator[RecordedFragment]:
    """A recorded fragment, cut before the given steps."""
    f = whole.fragment
    for a, b in pairwise([0, *cuts, f.steps]):
        ends = b == f.steps
        obs, terminated = f.obs[a : b + 1], f.terminated and ends
        yield replace(
            whole,
            fragment=Fragment(obs, f.actions[a:b], f.rewards[a:b], f.behavior[a:b], terminated),
            truncated=whole.truncated and ends,
            components={name: values[a:b] for name, values in whole.components.items()},
            policies=whole.policies[a:b],
            first_step=whole.first_step + a,
        )


@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_joint_export_comes_back_as_it_was(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is recorded, however it is cut into fragments."""
    folder = tmp_path_factory.mktemp("any")
    components = data.draw(st.lists(TEXT, max_size=2, unique=True))
    schema = RecordingSchema(SCHEMA.agents, data.draw(st.sampled_from([SCHEMA.fingerprint, None])), tuple(components))
    episodes, parts = [], []
    for number in range(data.draw(st.integers(1, 4))):
        steps = data.draw(st.integers(1, 7))
        episode = make(
            number,
            steps,
            schema,
            truncated=data.draw(st.booleans()),
            policies=data.draw(st.lists(TEXT, min_size=steps, max_size=steps)),
            episode_id=f"{number}{data.draw(TEXT)}",
            first_step=data.draw(st.integers(0, 3)),
            scenario=data.draw(TEXT),
        )
        episodes.append(episode)
        parts += pieces_of(episode, sorted(data.draw(st.sets(st.integers(1, steps - 1))) if steps > 1 else ()))
    order = data.draw(st.permutations(parts))
    recording = record(folder / "first", order, schema)
    counts = to_minari(recording, f"any/{folder.name}-v0")
    assert counts["steps"] == recording.rows
    assert counts["episodes"] == len(episodes)
    assert counts["cut"] == sum(not (e.fragment.terminated or e.truncated) for e in episodes)
    assert counts["headless"] == sum(e.first_step > 0 for e in episodes)
    assert from_minari(f"any/{folder.name}-v0", folder / "second")["steps"] == recording.rows
    again = open_recording(folder / "second")
    assert again.schema == recording.schema
    found = {recorded.episode_id: recorded for recorded in again.read()}
    assert len(found) == len(episodes)
    for episode in episodes:
        assert_same(found[episode.episode_id], episode)


def test_gaps_and_copies_are_not_joined(tmp_path: Path) -> None:
    episode = make(1, 9, first_step=0)
    first, _, last = pieces_of(episode, (3, 6))
    recording = record(tmp_path / "data", [last, first, first])
    assert sorted((r.first_step, r.fragment.steps) for r in joined(recording)) == [(0, 3), (0, 3), (6, 3)]
    assert to_minari(recording, "gaps-v0") == {"episodes": 3, "steps": 9, "cut": 2 + (not episode.fragment.terminated),
                                               "headless": 1}  # fmt: skip


def test_fragments_that_do_not_meet_are_not_joined(tmp_path: Path) -> None:
    before, after = make(1, 3, first_step=0), make(2, 3, first_step=3, episode_id="e1")
    before.fragment = before.fragment._replace(terminated=False)
    assert len(list(joined(record(tmp_path, [before, after])))) == 2  # the second begins with another observation
    assert_same(join([before]), before)


def test_minari_reads_it_as_its_own(tmp_path: Path) -> None:
    whole = make(0, 4, first_step=0, truncated=True, scenario="week 7")
    whole.fragment = whole.fragment._replace(terminated=False)
    cut = make(1, 3, first_step=2)
    cut.fragment = cut.fragment._replace(terminated=False)
    to_minari(record(tmp_path / "data", [whole, cut]), "grid/both-v3")
    dataset = minari.load_dataset("grid/both-v3")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 7)
    assert dataset.observation_space.shape == (5,) and dataset.action_space == gym.spaces.Box(-1, 1, (3,), np.float32)
    first, second = dataset.iterate_episodes()
    assert np.array_equal(first.observations, whole.fragment.obs)
    assert np.array_equal(first.actions, whole.fragment.actions)
    assert first.observations.dtype == first.rewards.dtype == np.float32
    assert first.truncations.tolist() == [False, False, False, True] and not first.terminations.any()
    assert second.truncations.tolist() == [False, False, True]  # as Minari's own collector ends what goes on
    assert np.array_equal(first.infos["reward_components"][1:, 1], whole.components["cost"])
    notes = list(dataset.storage.get_episode_metadata([0, 1]))
    assert [note["cut"] for note in notes] == [False, True]
    assert (notes[0]["scenario"], notes[1]["first_step"]) == ("week 7", 2)


def test_one_zone_has_its_own_part_and_the_team_s_reward(tmp_path: Path) -> None:
    episode = make(0, 4, first_step=0)
    to_minari(record(tmp_path / "data", [episode]), "grid/east-v0", layout="east")
    [found] = minari.load_dataset("grid/east-v0").iterate_episodes()
    assert np.array_equal(found.observations, episode.fragment.obs[:, 3:])
    assert np.array_equal(found.actions, episode.fragment.actions[:, 2:])
    assert np.array_equal(found.rewards, episode.fragment.rewards)
    with pytest.raises(RecordingError, match="holds 'east' only: import needs the layout 'joint'"):
        from_minari("grid/east-v0", tmp_path / "again")


def foreign(name: str, actions: np.ndarray, low: float = 0.0, high: float = 4.0, size: int = 5) -> None:
    """A dataset of other origin: one episode that terminates, actions in [low, high]."""
    steps = len(actions)
    buffer = minari.data_collector.EpisodeBuffer(
        observations=np.arange((steps + 1) * size, dtype=np.float64).reshape(steps + 1, size),
        actions=actions,
        rewards=np.ones(steps),
        terminations=np.arange(steps) == steps - 1,
        truncations=np.zeros(steps, bool),
    )
    minari.create_dataset_from_buffers(
        name,
        [buffer],
        algorithm_name="expert",
        observation_space=gym.spaces.Box(-np.inf, np.inf, (size,), np.float64),
        action_space=gym.spaces.Box(low, high, (3,), np.float32),
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dataset_of_other_origin_is_scaled_and_split(tmp_path: Path) -> None:
    foreign("other-v0", np.array([[0, 2, 4], [1, 1, 3]], np.float32))
    assert from_minari("other-v0", tmp_path / "data", like=SCHEMA) == {"episodes": 1, "steps": 2}
    [found] = open_recording(tmp_path / "data").read()
    assert found.fragment.actions.tolist() == [[-1, 0, 1], [-0.5, -0.5, 0.5]]
    assert found.fragment.obs[1].tolist() == [5, 6, 7, 8, 9]
    assert (found.fragment.terminated, found.truncated, found.policies) == (True, False, ["expert"] * 2)
    assert found.fragment.behavior.all()
    open_recording(tmp_path / "data").check(SCHEMA.agents, SCHEMA.fingerprint)
    with pytest.raises(RecordingError, match="holds Parquet files already"):
        from_minari("other-v0", tmp_path / "data", like=SCHEMA)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_dataset_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    good = np.zeros((2, 3), np.float32)
    foreign("other-v0", good)
    with pytest.raises(RecordingError, match="does not tell the agents"):
        from_minari("other-v0", tmp_path / "data")
    foreign("wide-v0", good, size=6)
    with pytest.raises(RecordingError, match=r"observation space .*need a Box of shape \(5,\)"):
        from_minari("wide-v0", tmp_path / "data", like=SCHEMA)
    foreign("endless-v0", good, high=np.inf)
    with pytest.raises(RecordingError, match="unbounded actions"):
        from_minari("endless-v0", tmp_path / "data", like=SCHEMA)
    foreign("wild-v0", np.full((3000, 3), 5.0, np.float32))
    with pytest.raises(RecordingError, match=r"wild-v0.*column 'actions.west', row 0.* is outside of \[-1, 1\]"):
        from_minari("wild-v0", tmp_path / "data", like=SCHEMA)
    assert not list(tmp_path.rglob("*.parquet"))
    with pytest.raises(RecordingError, match=r"no local Minari dataset 'othr-v0'; .*other-v0"):
        from_minari("othr-v0", tmp_path / "data", like=SCHEMA)


def test_what_was_recorded_elsewhere_is_not_like_it(tmp_path: Path) -> None:
    to_minari(record(tmp_path / "data", [make(0)]), "grid/here-v0")
    other = RecordingSchema(SCHEMA.agents, {"grid": "case_b"})
    with pytest.raises(RecordingError, match=r"'case_a' .* not like grid 'case_b'"):
        from_minari("grid/here-v0", tmp_path / "again", like=other)


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("grid/there-v0", "joint", "exists already at .*grid/there-v0"),
        ("grid/there", "joint", "expected name-v0"),
        ("../there-v0", "joint", "expected name-v0"),
        ("new-v0", "north", "layout 'north': expected 'joint' or an agent of the recording, which are west, east"),
    ],
)
def test_what_cannot_be_written_is_named(name: str, layout: str, message: str, tmp_path: Path) -> None:
    recording = record(tmp_path / "data", [make(0)])
    to_minari(recording, "grid/there-v0")
    with pytest.raises(RecordingError, match=message):
        to_minari(recording, name, layout)
    assert list(minari.list_local_datasets()) == ["grid/there-v0"]


def test_a_bad_row_group_leaves_no_half_dataset(tmp_path: Path) -> None:
    recording = record(tmp_path / "data", [make(0), make(1)], max_rows=1)
    path = recording.files[1]
    content = bytearray(path.read_bytes())
    content[100] ^= 0xFF  # in the first pages
    path.write_bytes(bytes(content))
    with pytest.raises(RecordingError, match=f"{path.name}: row group 0"):
        to_minari(open_recording(tmp_path / "data"), "half-v0")
    assert not list(minari.list_local_datasets())
    assert to_minari(open_recording(tmp_path / "data", skip_bad=True), "half-v0")["episodes"] == 1
