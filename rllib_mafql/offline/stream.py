"""Streams fragments of data that do not fit into memory, read by Ray Data on the cluster's workers.

Ray Data builds its pipeline anew for every pass over a dataset, which takes seconds. Here one pipeline runs through
many epochs: its input is the order of row groups, not the rows.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.reader import Recording
from rllib_mafql.replay import Fragment

if TYPE_CHECKING:
    from ray.data import Dataset

# What a task reads: enough to outweigh its start, little enough to be soon done.
TASK_BYTES = 16 * 2**20
TASK_FRAGMENTS = 256
# Tasks until the pipeline is built anew (a second or two), so that its plan does not grow without end.
PIPELINE_TASKS = 500
# Fragments that wait in Ray's object store take no more; Ray Data starts no further task until some are taken out.
WAITING_BYTES = 512 * 2**20
PARALLELISM = 2


def stream_fragments(
    recording: Recording, seed: int, parallelism: int | None = None
) -> Generator[Fragment, None, None]:
    """The recording's fragments without end, every epoch in a new random order; the same for the same seed.

    The tasks that read reserve no CPU: they run beside an algorithm whose runners and learners hold all of them.

    Args:
        recording: its files must be there, under the same paths, on every node.
        seed: of the order.
        parallelism: tasks that read at a time; None: 2.

    Raises:
        RecordingError: While iterating: a row group is bad; with `skip_bad`, if all are.
        RuntimeError: Ray is not running.
        ValueError: parallelism is less than 1.
    """
    import ray

    if not ray.is_initialized():
        raise RuntimeError("streaming needs a running Ray; call ray.init() first")
    if parallelism is not None and parallelism < 1:
        raise ValueError(f"parallelism must be at least 1, got {parallelism}")
    return _stream(recording, seed, parallelism or PARALLELISM)


def _stream(recording: Recording, seed: int, parallelism: int) -> Generator[Fragment, None, None]:
    order = _epochs(recording, seed)
    size = max(1, min(TASK_FRAGMENTS, TASK_BYTES * recording.fragments // recording.nbytes))
    while True:
        places = [np.array(list(islice(order, size))) for _ in range(PIPELINE_TASKS)]
        dataset = _pipeline(recording, places, parallelism)
        for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            for file, group, content in zip(*(block[name] for name in ("file", "row_group", "content")), strict=True):
                read = pickle.loads(content.as_buffer())
                if isinstance(read, Fragment):
                    yield read
                    continue
                recording.leave_out(file.as_py(), group.as_py(), read)
                if not recording.index():
                    raise RecordingError(f"no row group can be used; the last one: {read}")


def _epochs(recording: Recording, seed: int) -> Iterator[tuple[int, int]]:
    """(file number, row group) of all that is not found bad, in one random order after the other."""
    for epoch in count():
        places = recording.index()
        if not places:
            raise RecordingError("no row group is left to stream")
        yield from (places[i] for i in np.random.default_rng([seed, epoch]).permutation(len(places)))


def _pipeline(recording: Recording, places: list[np.ndarray], parallelism: int) -> Dataset:
    """A dataset that is read, in this order, as it is iterated over; a task for each array (n, 2) of places."""
    import ray.data
    from ray.data import ExecutionResources, TaskPoolStrategy

    # blocks of our own instead of ray.data.range, whose tasks would reserve a CPU each, and wait for it
    dataset = ray.data.from_blocks([pa.table({"file": p[:, 0], "row_group": p[:, 1]}) for p in places])
    options = dataset.context.execution_options
    options.preserve_order = True
    options.resource_limits = ExecutionResources(object_store_memory=WAITING_BYTES)
    # a learner may take nothing for as long as an evaluation lasts, which Ray Data would take for a hang
    dataset.context.execution_no_progress_timeout_s = -1
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    return dataset.map_batches(
        _read,
        batch_size=None,
        batch_format="pyarrow",
        fn_kwargs={"recording": recording},
        num_cpus=0,
        compute=TaskPoolStrategy(parallelism),
    )


def _read(places: pa.Table, recording: Recording) -> pa.Table:
    """A row for each place: the pickled fragment, or the error why there is none."""
    contents = []
    for file, group in zip(places["file"].to_pylist(), places["row_group"].to_pylist(), strict=True):
        read: Fragment | RecordingError
        try:
            read = recording.read_one(file, group).fragment
        except RecordingError as error:
            read = error
        contents.append(pickle.dumps(read, protocol=5))
    return places.append_column("content", pa.array(contents, pa.large_binary()))
