"""Fields, their integration, the critic ensemble, and what each objective alone can learn."""

import pytest
import torch

from rllib_mafql import losses
from rllib_mafql.networks import CriticEnsemble, Normalizer, VelocityField, softly_bounded


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def train(parameters, loss, updates=1500, lr=2e-3):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        decay.step()
    return value.item()


def test_one_step_is_the_map_z_plus_velocity():
    field = VelocityField(3, 2, hidden=16)
    o, z = torch.randn(5, 3), 0.1 * torch.randn(5, 2)
    expected = (z + field(field.encode(o), z, torch.zeros(5, 1))).clamp(-1, 1)
    assert torch.allclose(field.integrate(o, z, 1), expected)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
def test_integration_of_a_constant_velocity_is_exact_for_any_number_of_steps(steps):
    field = VelocityField(3, 2, hidden=16)
    last = field.trunk[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, 0.25)
    actions = field.integrate(torch.randn(4, 3), torch.zeros(4, 2), steps)
    assert torch.allclose(actions, torch.full((4, 2), 0.25), atol=1e-6)


def test_actions_stay_in_bounds():
    field = VelocityField(3, 2, hidden=16)
    actions = field.integrate(100 * torch.randn(64, 3), 10 * torch.randn(64, 2), 3)
    assert actions.abs().max() <= 1


def test_normalizer_standardises_clips_and_travels_with_the_weights():
    normalizer = Normalizer(2)
    normalizer.fit(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 0.0]))
    o = torch.tensor([[3.0, 6.0], [1e9, 5.0]])
    assert normalizer(o).tolist() == [[1.0, 1.0], [20.0, 0.0]]
    copy = Normalizer(2)
    copy.load_state_dict(normalizer.state_dict())
    assert torch.equal(copy(o), normalizer(o))


def test_flow_runs_in_standardised_actions():
    """A field without velocity leaves noise as it is: as actions, that is noise with the data's mean and deviation."""
    field = VelocityField(3, 2, hidden=8)
    for parameter in field.trunk[-1].parameters():
        torch.nn.init.zeros_(parameter)
    field.action_normalizer.fit(torch.tensor([0.5, -0.2]), torch.tensor([0.1, 0.02]))
    z = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    actions = field.integrate(torch.zeros(2, 3), z, 3)
    assert torch.allclose(actions, torch.tensor([[0.6, -0.24], [0.5, -0.2]]))
    assert torch.allclose(field.action_normalizer(actions), z, atol=1e-6)


def test_critic_values_of_sampled_actions_equal_those_of_single_actions():
    critic = CriticEnsemble(4, 3, hidden=16, ensemble=2)
    embedding, actions = critic.encode(torch.randn(5, 4)), torch.randn(7, 5, 3)
    together = critic(embedding, actions)
    assert together.shape == (2, 7, 5)
    one_by_one = torch.stack([critic(embedding, a) for a in actions], 1)
    assert torch.allclose(together, one_by_one, atol=1e-6)


def test_critics_of_the_ensemble_are_independent():
    critic = CriticEnsemble(4, 3, hidden=16, ensemble=2)
    o, a = torch.randn(5, 4), torch.randn(5, 3)
    before = critic(critic.encode(o), a).detach()
    with torch.no_grad():
        for name, parameter in critic.named_parameters():
            if "norm" not in name:  # the first critic's half
                parameter[: len(parameter) // 2] += 0.1
    after = critic(critic.encode(o), a).detach()
    assert not torch.allclose(after[0], before[0])
    assert torch.allclose(after[1], before[1])


def test_values_are_bent_before_they_reach_their_bounds():
    x = torch.tensor([-1e6, -3.0, -1.0, 0.0, 5.0, 9.0, 11.0, 1e6], requires_grad=True)
    y = softly_bounded(x, -2.0, 10.0)
    assert y.tolist() == pytest.approx([-2.0, -2.0, -1.0, 0.0, 5.0, 9.0, 10.0, 10.0], abs=0.02)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.tolist() == pytest.approx([0.0, 0.03, 0.97, 1.0, 1.0, 0.97, 0.03, 0.0], abs=0.01)
    beyond = torch.zeros(1, requires_grad=True)
    y = softly_bounded(beyond, 100.0, 120.0)
    (slope,) = torch.autograd.grad(y, beyond)
    assert 100.0 < y < 101.0 and slope == pytest.approx(0.5)


@torch.no_grad()
def test_critics_keep_to_their_bounds():
    bounded, free = CriticEnsemble(4, 3, hidden=16, bounds=(-2.0, 10.0)), CriticEnsemble(4, 3, hidden=16)
    free.load_state_dict(bounded.state_dict())
    for critic in (bounded, free):
        critic.out.weight.mul_(20.0)
    o, a = torch.randn(50, 4), torch.randn(50, 3)
    q, wild = bounded(bounded.encode(o), a), free(free.encode(o), a)
    assert wild.min() < -4.0 and wild.max() > 12.0
    assert -2.00001 < q.min() < -1.0 and 9.0 < q.max() < 10.00001


def two_modes(n):
    """Actions at +.6 (share .6) and -.6 (share .4), both components alike, with a little spread."""
    side = torch.where(torch.rand(n, 1) < 0.6, 0.6, -0.6)
    return side.expand(-1, 2) + 0.05 * torch.randn(n, 2)


def test_flow_matching_alone_recovers_two_modes_that_a_gaussian_cannot():
    field = VelocityField(1, 2, hidden=64, layers=3)

    def loss():
        a, t = two_modes(256), torch.rand(256, 1)
        z = torch.randn_like(a)
        return losses.flow_matching_loss(field(field.encode(torch.zeros(256, 1)), losses.interpolate(a, z, t), t), a, z)

    train(field.parameters(), loss, updates=2000)
    with torch.no_grad():
        sampled = field.integrate(torch.zeros(4000, 1), torch.randn(4000, 2), 5)
    data = two_modes(4000)
    gaussian = data.mean(0) + data.std(0) * torch.randn(4000, 2)
    assert (sampled[:, 0] > 0).float().mean() == pytest.approx(0.6, rel=0.10)
    assert (sampled[:, 0] < 0).float().mean() == pytest.approx(0.4, rel=0.10)
    # five Euler steps leave a few samples between the modes; a Gaussian puts most there or beyond
    assert off_modes(sampled) < 0.12
    assert off_modes(gaussian) > 0.6


def off_modes(x):
    """Share of samples (n, 2) further than 0.3 from both modes."""
    return ((x.abs() - 0.6).abs().amax(-1) > 0.3).float().mean().item() + (x[:, 0] * x[:, 1] < 0).float().mean().item()


def test_distillation_alone_brings_the_student_to_the_teachers_actions():
    teacher, student = VelocityField(4, 2, hidden=32), VelocityField(4, 2, hidden=128)

    def pair(n):
        o, z = torch.randn(n, 4), torch.randn(n, 2)
        with torch.no_grad():
            target = teacher.integrate(o, z, 5)
        return student.integrate(o, z, 1), target

    train(student.parameters(), lambda: losses.distillation_loss(*pair(256)))
    with torch.no_grad():
        mu, target = pair(4000)
    # 5 % of the actions' own range of [-1, 1]
    assert (mu - target).abs().mean() < 0.05


def test_conservatism_alone_puts_unseen_actions_below_seen_ones():
    critic = CriticEnsemble(2, 1, hidden=32, ensemble=2)

    def seen(n):
        return torch.randn(n, 2), 0.5 + 0.1 * torch.randn(n, 1)

    def loss():
        o, a = seen(128)
        embedding = critic.encode(o)
        return losses.conservative_loss(critic(embedding, torch.rand(8, 128, 1) * 2 - 1), critic(embedding, a))

    train(critic.parameters(), loss, updates=200)
    with torch.no_grad():
        o, a = seen(1000)
        embedding = critic.encode(o)
        assert (critic(embedding, a) > critic(embedding, torch.full_like(a, -0.5))).float().mean() > 0.99


def test_behaviour_cloning_alone_regresses():
    student = VelocityField(3, 2, hidden=64)

    def batch(n):
        o = torch.randn(n, 3)
        return o, torch.tanh(torch.stack([o[:, 0] - o[:, 1], o[:, 2]], -1))

    def loss():
        o, a = batch(256)
        return losses.behavior_cloning_loss(student.integrate(o, torch.randn_like(a), 1), a)

    train(student.parameters(), loss)
    with torch.no_grad():
        o, a = batch(2000)
        mu = student.integrate(o, torch.randn_like(a), 1)
        assert (mu - a).square().mean() < 0.05 * a.var()
