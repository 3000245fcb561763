"""All objectives together are what each of them is alone, written without anything shared between them."""

from types import SimpleNamespace

import pytest
import torch

from rllib_mafql import losses
from rllib_mafql.networks import CriticEnsemble, VelocityField
from rllib_mafql.objectives import COEFFICIENTS, Objectives

OBS, ACTIONS, ROWS = [5, 3, 9], [2, 4, 1], 48
OBS_SLICES, ACTION_SLICES = [slice(0, 5), slice(5, 8), slice(8, 17)], [slice(0, 2), slice(2, 6), slice(6, 7)]
ALL = frozenset(COEFFICIENTS)
DEFAULTS = {
    "flow_steps": 1,
    "teacher_flow_steps": 5,
    "zero_noise_fraction": 0.5,
    "obs_noise": 0.0,
    "num_random_actions": 2,
    "conservatism": "counterfactual",
    "calibrated": False,
    "advantage_temperature": None,
    "own_cloning_weight": 0.3,
    "return_bounds": None,
}


def objectives(stacked=False, critics=2, **settings):
    """With random weights, and normalisers of the same data in all networks."""
    torch.manual_seed(0)
    d, m = sum(OBS), sum(ACTIONS)
    q, target_q = (CriticEnsemble(d, m, hidden=16, ensemble=critics) for _ in range(2))
    teacher = VelocityField(d, m, hidden=16)
    students = [VelocityField(*sizes, hidden=16) for sizes in zip(OBS, ACTIONS, strict=True)]
    obs, actions = (torch.randn(d), 3 * torch.rand(d)), (0.1 * torch.randn(m), 0.1 + torch.rand(m))
    for network in (q, target_q, teacher):
        network.normalizer.fit(*obs)
        network.action_normalizer.fit(*actions)
    for student, own, act in zip(students, OBS_SLICES, ACTION_SLICES, strict=True):
        student.normalizer.fit(*(x[own] for x in obs))
        student.action_normalizer.fit(*(x[act] for x in actions))
    return Objectives(q, target_q, teacher, students, SimpleNamespace(**DEFAULTS | settings), stacked=stacked)


def batch():
    torch.manual_seed(1)
    return {
        "obs": 5 * torch.randn(ROWS, sum(OBS)),
        "actions": torch.rand(ROWS, sum(ACTIONS)) * 2 - 1,
        "rewards": torch.rand(ROWS),
        "discounts": 0.9 * (torch.rand(ROWS) > 0.1).float(),
        "next_obs": 5 * torch.randn(ROWS, sum(OBS)),
        "behavior": (torch.rand(ROWS) > 0.3).float(),
        "returns": torch.rand(ROWS),
    }


def one_by_one(it, b, noise):
    """Every term as its formula says, each network asked anew for each of them."""
    config, a, o, next_o = it.config, b["actions"], b["obs"], b["next_obs"]
    if noise.obs is not None:
        o, next_o = (
            x + config.obs_noise * it.q.normalizer.scale * e for x, e in zip((o, next_o), noise.obs, strict=True)
        )

    def mu(o, z):
        parts = zip(it.students, OBS_SLICES, ACTION_SLICES, strict=True)
        return torch.cat([s.integrate(o[:, own], z[:, act], config.flow_steps) for s, own, act in parts], -1)

    def q(a, critic=it.q, o=o):
        return critic(critic.encode(o), a)

    with torch.no_grad():
        teacher = it.teacher.integrate(o, noise.z, config.teacher_flow_steps)
        acted = mu(o, noise.z)
        y = losses.td_target(
            b["rewards"], b["discounts"], q(mu(next_o, noise.next_z), it.target_q, next_o), config.return_bounds
        )
    sampled = torch.cat([noise.actions, acted[None], teacher[None]])
    if config.conservatism == "counterfactual":
        sampled = losses.counterfactual_actions(a, sampled, noise.agent, ACTION_SLICES)
    q_sampled = q(sampled)
    if config.calibrated:
        q_sampled = torch.cat(
            [q_sampled[:, : len(noise.actions)], q_sampled[:, len(noise.actions) :].maximum(b["returns"])], 1
        )
    weight = b["behavior"] + config.own_cloning_weight * (1 - b["behavior"])
    if config.advantage_temperature is not None:
        with torch.no_grad():
            weight = weight * losses.advantage_weights(b["returns"], q(acted).mean(0), config.advantage_temperature)
    weight = weight / weight.mean()
    scale = it.teacher.action_normalizer.scale.square().mean().sqrt()
    unit = it.teacher.action_normalizer.scale / scale
    standard = it.teacher.action_normalizer(a)
    x = losses.interpolate(standard, noise.flow_z, noise.flow_t)
    v = it.teacher(it.teacher.encode(o), x, noise.flow_t)
    result = {
        "td_loss": losses.td_loss(q(a), y),
        "conservative_loss": losses.conservative_loss(q_sampled, q(a)),
        "flow_matching_loss": losses.flow_matching_loss(v * unit, standard * unit, noise.flow_z * unit, weight),
    }
    it.q.requires_grad_(False)
    result["q_loss"] = losses.q_loss(q(mu(o, noise.z)).mean(0))
    it.q.requires_grad_(True)
    for i, act in enumerate(ACTION_SLICES):
        own = mu(o, noise.z)[:, act] / scale
        result[f"bc_loss/{i}"] = losses.behavior_cloning_loss(own, a[:, act] / scale, weight)
        result[f"distillation_loss/{i}"] = losses.distillation_loss(own, teacher[:, act] / scale)
    return result


def parameters(it):
    return [p for network in (it.q, it.teacher, *it.students) for p in network.parameters()]


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flow_steps": 3, "teacher_flow_steps": 1, "conservatism": "joint", "calibrated": True},
        {"obs_noise": 0.3, "advantage_temperature": 0.5, "critics": 3, "return_bounds": (0.0, 1.0)},
    ],
)
def test_terms_and_gradients_are_those_of_each_objective_alone(settings, stacked):
    it, b = objectives(stacked=stacked, **settings), batch()
    noise = it.draw(b)
    found, expected = it.terms(b, noise, ALL), one_by_one(it, b, noise)
    assert found.keys() - expected.keys() == {"q_mean", "td_target_mean"}
    weights = torch.rand(len(expected)) + 0.5
    totals = []
    for terms in (found, expected):
        for name in expected:
            assert terms[name].item() == pytest.approx(expected[name].item(), rel=1e-5, abs=1e-6)
        totals.append(sum(w * terms[name] for w, name in zip(weights, expected, strict=True)))
    gradients = [torch.autograd.grad(total, parameters(it)) for total in totals]
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=2e-6)


def test_losses_weigh_the_terms():
    it, b = objectives(), batch()
    terms = it.terms(b, it.draw(b), ALL)
    c = {name: 0.5 + i for i, name in enumerate(COEFFICIENTS)}
    critic, teacher, students = it.weigh(terms, c)
    expected = c["td_coeff"] * terms["td_loss"] + c["conservative_coeff"] * terms["conservative_loss"]
    assert torch.allclose(critic, expected)
    assert torch.allclose(teacher, c["flow_matching_coeff"] * terms["flow_matching_loss"])
    share = 4 / 7  # the second agent's of all components
    expected = c["q_coeff"] * terms["q_loss"] / 3 + share * (
        c["bc_coeff"] * terms["bc_loss/1"] + c["distillation_coeff"] * terms["distillation_loss/1"]
    )
    assert torch.allclose(students[1], expected)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_a_term_alone_is_the_same_and_computes_no_other(name):
    it, b = objectives(), batch()
    noise = it.draw(b)
    together, alone = it.terms(b, noise, ALL), it.terms(b, noise, frozenset([name]))
    mine = {key for key in together if key.split("/")[0] == name.replace("_coeff", "_loss")}
    assert mine <= alone.keys() <= mine | {"q_mean", "td_target_mean"}
    for key in mine:
        assert alone[key].item() == pytest.approx(together[key].item(), rel=1e-5)
    sum(alone[key] for key in mine).backward()
    learning = {
        "critic": it.q,
        "teacher": it.teacher,
        "students": it.students[0],
    }
    moved = {part for part, net in learning.items() if any(p.grad is not None for p in net.parameters())}
    owner = {"flow_matching_coeff": "teacher", "td_coeff": "critic", "conservative_coeff": "critic"}
    assert moved == {owner.get(name, "students")}


def test_lower_precision_is_near():
    it, b = objectives(), batch()
    noise = it.draw(b)
    exact = it.terms(b, noise, ALL)
    with torch.autocast("cpu", torch.bfloat16):
        rough = it.terms(b, noise, ALL)
    for name, value in exact.items():
        assert rough[name].dtype == torch.float32
        assert rough[name].item() == pytest.approx(value.item(), rel=0.05, abs=0.05)


def test_noise_starts_part_of_the_rows_at_zero():
    it, b = objectives(zero_noise_fraction=0.25), {"obs": torch.zeros(20_000, 17), "actions": torch.zeros(20_000, 7)}
    noise = it.draw(b)
    assert (noise.z == 0).all(1).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not (noise.next_z == 0).any()
    assert noise.actions.shape == (2, 20_000, 7) and noise.actions.abs().max() <= 1
    assert noise.agent.unique().tolist() == [0, 1, 2]
