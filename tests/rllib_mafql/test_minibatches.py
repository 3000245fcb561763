"""Minibatches are drawn when they are needed and cut without loss of order."""

import numpy as np
import torch

from rllib_mafql.minibatches import Drawn, on_device, sliced

CPU = torch.device("cpu")


def test_drawn_minibatches_never_lie_in_memory_together():
    drawn = []

    def draw():
        drawn.append(len(drawn))
        return {"obs": np.full((4, 2), float(drawn[-1]), np.float32)}

    minibatches = on_device(Drawn(draw, 3), CPU)
    for k in range(3):
        assert torch.equal(next(minibatches)["obs"], torch.full((4, 2), float(k)))
        assert len(drawn) == k + 1
    assert next(minibatches, None) is None


def test_a_batch_is_cut_in_order_and_what_was_not_writable_is_copied():
    columns = {"obs": np.arange(14, dtype=np.float32).reshape(7, 2), "rewards": np.arange(7, dtype=np.float32)}
    columns["obs"].setflags(write=False)
    found = list(on_device(sliced(columns, 3), CPU))
    assert [tensors["rewards"].tolist() for tensors in found] == [[0, 1, 2], [3, 4, 5]]
    assert torch.equal(torch.cat([tensors["obs"] for tensors in found]), torch.arange(12.0).view(6, 2))
    found[0]["obs"].zero_()
    assert columns["obs"][1, 1] == 3.0
