"""Fused steps on clipped gradients are those of plain Adam and torch's own clipping."""

import copy

import pytest
import torch

from rllib_mafql.optimizers import MovingAverage, fused_adam, step_clipped


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 3))


def fill_gradients(networks, scale):
    for parameters in zip(*(net.parameters() for net in networks), strict=True):
        gradient = scale * torch.randn_like(parameters[0])
        for parameter in parameters:
            parameter.grad = gradient.clone()


@pytest.mark.parametrize("max_norm", [None, 0.5, 1e6])
def test_steps_are_those_of_clipped_adam(max_norm):
    ours = network()
    theirs = copy.deepcopy(ours)
    optimizers = fused_adam(ours.parameters()), torch.optim.Adam(theirs.parameters(), foreach=False)
    for step in range(5):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 1e-2 / (1 + step)  # as schedules set it
        fill_gradients([ours, theirs], scale=10.0 ** (step - 2))
        norm, skipped = step_clipped(optimizers[0], max_norm)
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_norm or float("inf"))
        optimizers[1].step()
        assert norm.item() == pytest.approx(expected.item(), rel=1e-5)
        assert skipped.item() == 0
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_change_nothing(bad):
    net = network()
    optimizer = fused_adam(net.parameters())
    fill_gradients([net], 1.0)
    step_clipped(optimizer, 1.0)
    before = copy.deepcopy([net.state_dict(), optimizer.state_dict()["state"]])
    fill_gradients([net], 1.0)
    net[0].bias.grad[2] = bad
    norm, skipped = step_clipped(optimizer, 1.0)
    assert (norm.item(), skipped.item()) == (0.0, 1.0)
    assert all(torch.equal(before[0][name], value) for name, value in net.state_dict().items())
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(before[1][index][name], value) for name, value in state.items())
    fill_gradients([net], 1.0)
    assert step_clipped(optimizer, 1.0)[1].item() == 0.0  # and goes on
    assert not torch.equal(net[0].bias, before[0]["0.bias"])


def test_without_gradients_there_is_no_step():
    assert step_clipped(fused_adam(network().parameters()), 1.0) is None


def test_moving_averages_follow():
    follower, followed = network(), network()
    with torch.no_grad():
        for parameter in followed.parameters():
            parameter += 1.0
    before = copy.deepcopy(follower)
    MovingAverage([follower], [followed], 0.1).step()
    for was, now, target in zip(before.parameters(), follower.parameters(), followed.parameters(), strict=True):
        assert torch.allclose(now, 0.9 * was + 0.1 * target, atol=1e-6)
