"""Joint minibatches on their way to a learner: drawn when it needs them, copied to its GPU while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from rllib_mafql.replay import ADVICE

Columns = Mapping[str, np.ndarray]


class Drawn:
    """`number` minibatches, each drawn only when it is asked for: they never lie in memory together."""

    def __init__(self, draw: Callable[[], Columns], number: int):
        self._draw = draw
        self._number = number

    def __iter__(self) -> Iterator[Columns]:
        return (self._draw() for _ in range(self._number))


def sliced(columns: Columns, size: int) -> Iterator[Columns]:
    """The rows of a batch in minibatches of `size`; what is left over at its end is not used."""
    rows = len(next(iter(columns.values())))
    for first in range(0, rows - size + 1, size):
        yield {name: values[first : first + size] for name, values in columns.items()}


def mixed(parts: Sequence[tuple[np.ndarray, Columns]]) -> dict[str, np.ndarray]:
    """One batch of several: of each, which rows of the whole (bool, (B,)) it fills, and these rows' columns.

    Where one has advice and another has not, the other's actions are its advice.
    """
    advised = any(ADVICE in columns for _, columns in parts)
    batch: dict[str, np.ndarray] = {}
    for rows, columns in parts:
        for name, values in ({ADVICE: columns["actions"], **columns} if advised else columns).items():
            if name not in batch:
                batch[name] = np.empty((len(rows), *values.shape[1:]), values.dtype)
            batch[name][rows] = values
    return batch


def on_device(minibatches: Iterable[Columns], device: torch.device) -> Iterator[dict[str, Tensor]]:
    """Tensors of each minibatch on the device.

    To a GPU they are copied on a stream of their own, from pinned memory: while one minibatch is computed with, this
    machine draws and copies the next.
    """
    if device.type != "cuda":
        for columns in minibatches:
            yield {name: _tensor(values).to(device) for name, values in columns.items()}
        return
    stream = torch.cuda.Stream(device)
    for columns in minibatches:
        with torch.cuda.stream(stream):
            tensors = {name: _tensor(x).pin_memory().to(device, non_blocking=True) for name, x in columns.items()}
        current = torch.cuda.current_stream(device)
        current.wait_stream(stream)
        for tensor in tensors.values():
            tensor.record_stream(current)
        yield tensors


def _tensor(values: np.ndarray) -> Tensor:
    # What came through Ray's object store may not be written to, which torch warns of.
    return torch.from_numpy(values if values.flags.writeable else values.copy())
