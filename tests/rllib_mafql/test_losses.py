"""The objectives against values worked out by hand."""

import math
import subprocess
import sys

import pytest
import torch

from rllib_mafql import losses

A = torch.tensor([[0.5, -0.5], [1.0, 0.0]], dtype=torch.float64)
Z = torch.tensor([[0.0, 1.0], [-1.0, 0.5]], dtype=torch.float64)


def close(value: torch.Tensor, expected: float) -> None:
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_interpolation_runs_from_noise_to_action():
    t = torch.tensor([[0.25], [1.0]], dtype=torch.float64)
    assert torch.allclose(losses.interpolate(A, Z, t), torch.tensor([[0.125, 0.625], [1.0, 0.0]], dtype=torch.float64))


def test_flow_matching_loss():
    v = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    # a - z = [.5, -1.5], [2, -.5]; squares of v - (a - z): .25, 2.25 | 1, 2.25
    close(losses.flow_matching_loss(v, A, Z), (0.25 + 2.25 + 1.0 + 2.25) / 4)
    close(losses.flow_matching_loss(v, A, Z, torch.tensor([2.0, 0.0])), 2 * (0.25 + 2.25) / 2 / 2)


def test_distillation_loss_reaches_the_student_only():
    mu, teacher = A.clone().requires_grad_(), Z.clone().requires_grad_()
    loss = losses.distillation_loss(mu, teacher)
    close(loss, (0.25 + 2.25 + 4.0 + 0.25) / 4)
    loss.backward()
    assert mu.grad is not None and teacher.grad is None


def test_behavior_cloning_loss():
    close(losses.behavior_cloning_loss(Z, A), (0.25 + 2.25 + 4.0 + 0.25) / 4)
    close(losses.behavior_cloning_loss(Z, A, torch.tensor([0.0, 1.0])), (4.0 + 0.25) / 2 / 2)


def test_td_target_takes_the_lower_critic_stops_at_the_end_and_keeps_the_bounds():
    reward, discount = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.9, 0.0, 0.9])
    q_next = torch.tensor([[2.0, 5.0, 90.0], [3.0, 4.0, 80.0]], requires_grad=True)
    y = losses.td_target(reward, discount, q_next, (0.0, 50.0))
    assert torch.allclose(y, torch.tensor([2.8, 1.0, 50.0]))
    assert not y.requires_grad


def test_td_loss():
    q = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    close(losses.td_loss(q, torch.tensor([1.0, 1.0])), (0 + 1 + 4 + 1) / 4)


def test_conservative_loss():
    q_data = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)  # (E 2, B 2)
    q_sampled = torch.tensor([[[0.0, 1.0], [2.0, 1.0]], [[0.0, 1.0], [2.0, 1.0]]], dtype=torch.float64)  # (2, S 2, 2)
    close(losses.conservative_loss(q_sampled, q_data), (math.log(1 + math.exp(2)) - 1 + math.log(2) + 1) / 2)


def test_counterfactual_actions_swap_one_agent():
    sampled = torch.full((1, 2, 2), 9.0, dtype=torch.float64)
    swapped = losses.counterfactual_actions(A, sampled, torch.tensor([0, 1]), [slice(0, 1), slice(1, 2)])
    assert swapped[0].tolist() == [[9.0, -0.5], [1.0, 9.0]]


def test_q_loss_is_free_of_the_scale_of_rewards():
    q = torch.tensor([1.0, 3.0])
    close(losses.q_loss(q), -1.0)
    close(losses.q_loss(100 * q), -1.0)
    close(losses.q_loss(torch.tensor([-1.0, 3.0])), -0.5)


def test_advantage_weights_favour_better_actions_and_are_bounded():
    returns, q_policy = torch.tensor([2.0, 2.0, 2.0]), torch.tensor([2.0, 3.0, -50.0])
    weights = losses.advantage_weights(returns, q_policy, temperature=1.0, largest=10.0)
    raw = torch.tensor([1.0, math.exp(-0.5), 10.0])
    assert torch.allclose(weights, raw / raw.mean())


def test_losses_and_networks_do_not_import_ray():
    code = "import sys, rllib_mafql.losses, rllib_mafql.networks; sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
