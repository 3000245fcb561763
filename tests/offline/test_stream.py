"""Streaming through Ray Data: all of the data in every epoch, each in an order of its own."""

import logging
import time
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import ray
from ray.data import DataContext

from rllib_mafql.offline import RecordingError, RecordingSchema, open_recording, stream, stream_fragments
from tests.offline.recordings import rewrite, set_values, write


@ray.remote(num_cpus=2)
class Greedy:
    """Holds all CPUs, as an algorithm's actors do."""

    def wait(self):
        return True


@pytest.fixture(scope="module", autouse=True)
def ray_instance():
    ray.shutdown()  # another module's
    with pytest.raises(RuntimeError, match="needs a running Ray"):
        stream_fragments(None, seed=0)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    greedy = Greedy.remote()
    ray.get(greedy.wait.remote())
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Twelve fragments in three files, by the first number of each."""
    folder = tmp_path_factory.mktemp("recording")
    fragments, _ = write(folder, count=12, per_file=4)
    return folder, {recorded.fragment.obs[0, 0]: recorded.fragment for recorded in fragments}


def spoil(folder, *bad):
    """Writes twelve fragments, with a reward that is no number in those of the given places."""
    fragments, files = write(folder, count=12, per_file=4)
    names = {fragments[place].episode_id for place in bad}

    def change(table):
        if table["episode_id"][0].as_py() not in names:
            return table
        return set_values(table, "reward", lambda values: values.__setitem__(2, float("nan")))

    for file in files:
        rewrite(file, change)
    return files


def test_every_epoch_has_all_fragments_in_another_order(recorded, monkeypatch):
    folder, expected = recorded
    # tasks that end within epochs, and pipelines that end within the test
    monkeypatch.setattr(stream, "TASK_FRAGMENTS", 5)
    monkeypatch.setattr(stream, "PIPELINE_TASKS", 4)
    fragments = list(islice(stream_fragments(open_recording(folder), seed=3), 4 * 12))
    orders = [[f.obs[0, 0] for f in fragments[epoch * 12 :][:12]] for epoch in range(4)]
    assert all(sorted(order) == sorted(expected) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    for fragment in fragments:
        whole = expected[fragment.obs[0, 0]]
        assert all(np.array_equal(a, b) for a, b in zip(fragment, whole, strict=True))
        fragment.obs[:] = 0  # arrays of its own


def test_the_order_is_the_seed_s(tmp_path, monkeypatch):
    # tasks that end out of turn: every other fragment takes far longer to read
    schema = RecordingSchema((("a", 900, 60),))
    for place in range(8):
        write(tmp_path / str(place), count=1, steps=2000 if place % 2 else 1, schema=schema, first=place)
    monkeypatch.setattr(stream, "TASK_FRAGMENTS", 1)
    recording = open_recording(tmp_path)

    def first(seed, **settings):
        return [f.obs[0, 0] for f in islice(stream_fragments(recording, seed, **settings), 24)]

    expected = first(1, parallelism=1)
    assert first(1, parallelism=4) == expected
    assert first(2) != expected


def test_a_stream_waits_for_a_reader_that_takes_its_time(tmp_path, monkeypatch):
    # more than Ray Data reads ahead with this object store, so that it is idle until something is taken
    write(tmp_path, count=40, steps=300, per_file=4, schema=RecordingSchema((("a", 900, 60),)))
    monkeypatch.setattr(stream, "TASK_FRAGMENTS", 2)
    monkeypatch.setattr(DataContext.get_current(), "execution_no_progress_timeout_s", 2)
    fragments = stream_fragments(open_recording(tmp_path), seed=0)
    next(fragments)
    time.sleep(6)
    assert sum(1 for _ in islice(fragments, 100)) == 100
    fragments.close()


def test_other_datasets_keep_their_settings(recorded):
    before = repr(DataContext.get_current())
    fragments = stream_fragments(open_recording(recorded[0]), seed=0)
    next(fragments)
    fragments.close()
    assert repr(DataContext.get_current()) == before


def test_a_bad_row_group_ends_the_stream(tmp_path):
    files = spoil(tmp_path, 6)
    with pytest.raises(RecordingError, match=r"row group 2: column 'reward', row 2: nan .*offline_skip_bad") as caught:
        list(islice(stream_fragments(open_recording(tmp_path), seed=0), 100))
    assert str(caught.value).startswith(str(files[1]))


def test_a_bad_row_group_is_left_out_if_asked_for(tmp_path, caplog):
    files = spoil(tmp_path, 6)
    recording = open_recording(tmp_path, skip_bad=True)
    with caplog.at_level(logging.WARNING, logger="rllib_mafql"):
        fragments = list(islice(stream_fragments(recording, seed=0), 3 * 11))
    counts = Counter(f.obs[0, 0] for f in fragments)
    assert sorted(counts.values()) == [3] * 11
    assert list(recording.skipped) == [files[1]]
    assert sum(str(files[1]) in record.getMessage() for record in caplog.records) == 1


def test_a_stream_of_bad_row_groups_ends(tmp_path):
    spoil(tmp_path, *range(12))
    with pytest.raises(RecordingError, match=r"no row group can be used; the last one: .*column 'reward', row 2"):
        next(stream_fragments(open_recording(tmp_path, skip_bad=True), seed=0))


def test_no_parallelism(recorded):
    with pytest.raises(ValueError, match="parallelism must be at least 1, got 0"):
        stream_fragments(open_recording(recorded[0]), seed=0, parallelism=0)
