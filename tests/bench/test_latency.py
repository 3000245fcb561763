"""Measuring latencies, and the models that are measured."""

import gc
import json
import math
import os
import time

import numpy as np
import onnx
import pytest
import torch
import typer
from typer.testing import CliRunner

from rllib_mafql.bench import decision, latency, latency_cli
from rllib_mafql.bench.latency_models import DIFFUSION_STEPS, ddim, diffusion_model, gaussian_model
from rllib_mafql.deploy.session import Session
from rllib_mafql.deploy.weights import field_weights
from tests.deploy.fields import integrated, observations, random_field


def test_percentiles_of_a_known_array():
    milliseconds = np.random.default_rng(0).permutation(np.arange(1001.0))
    expected = {"p50": 500.0, "p90": 900.0, "p99": 990.0, "p999": 999.0, "max": 1000.0}
    assert latency.distribution(milliseconds) == pytest.approx(expected)
    assert all(type(value) is float for value in latency.distribution(milliseconds).values())


def test_calls_are_counted_and_inputs_vary():
    calls = []
    assert latency.measure(calls.append, 2, 5, inputs=["a", "b", "c"]).shape == (5,)
    assert calls == ["a", "b", "c", "a", "b", "c", "a"]
    without = []
    latency.measure(lambda: without.append(1), 3, 4)
    assert len(without) == 7


def test_each_call_is_timed_in_milliseconds():
    measured = latency.measure(time.sleep, 1, 4, inputs=[0.0, 0.03])
    assert (measured[[0, 2]] >= 30).all() and (measured[[1, 3]] < 30).all()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_collected_before_and_after_but_not_meanwhile(enabled):
    before, seen = gc.isenabled(), []
    gc.enable() if enabled else gc.disable()
    try:
        latency.measure(lambda: seen.append(gc.isenabled()), 1, 2)
        assert seen == [enabled, False, False]
        assert gc.isenabled() == enabled and gc.get_freeze_count() == 0
        with pytest.raises(ZeroDivisionError):
            latency.measure(lambda: 1 / 0, 0, 1)
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if before else gc.disable()


def test_the_core_is_given_back():
    before = os.sched_getaffinity(0)
    with latency.on_one_core() as core:
        assert os.sched_getaffinity(0) == {core} <= before
    assert os.sched_getaffinity(0) == before


def test_whole_decisions_are_measured_beside_inference(monkeypatch):
    monkeypatch.setattr(decision, "BLOCK", 8)
    monkeypatch.setattr(decision, "WARM_UP", 1)
    monkeypatch.setattr(decision, "STATES", 12)
    affinity, threads, done = os.sched_getaffinity(0), torch.get_num_threads(), []
    config = {"grid": "educ_case14_storage", "safety": {"level": "lines"}}
    report = decision.measure_decisions(config, 5, 16, 1, "cpu", 20, done.append)
    assert sum(done) == 20 * decision.measurements(config)
    assert list(report["zones"]) == ["zone_0", "zone_1", "zone_2"]
    assert list(report["compared"]) == ["gaussian", "diffusion_20", "torch_eager", "qp"]
    assert list(report["by_flow_steps"]) == [1, 2, 3, 4, 5]
    for qp in (report["compared"]["qp"], report["central"]["qp"]):
        assert list(qp) == ["end_to_end_ms"]
    both = [*report["zones"].values(), *(report["compared"][name] for name in ("gaussian", "torch_eager"))]
    for kinds in both:
        assert list(kinds["per_agent_ms"]) == ["p50", "p90", "p99", "p999", "max"]
        assert 0 < kinds["per_agent_ms"]["p50"] < kinds["end_to_end_ms"]["p50"]
    for kind in ("per_agent_ms", "end_to_end_ms"):
        assert report[kind]["p99"] == max(kinds[kind]["p99"] for kinds in report["zones"].values())
    assert all(sum(ways.values()) == pytest.approx(1.0) and "refused" not in ways for ways in report["how"].values())
    assert (os.sched_getaffinity(0), torch.get_num_threads()) == (affinity, threads)


def test_the_file_says_what_made_it(monkeypatch, tmp_path):
    both = {kind: latency.distribution(np.arange(3.0)) for kind in decision.KINDS}
    report = {**both, "runtime": "onnxruntime", "flow_steps": 1, "zone": "zone_0", "zones": {"zone_0": both}}
    report |= {"compared": {}, "central": {"qp": both}, "by_flow_steps": {1: both["per_agent_ms"]}}
    monkeypatch.setattr(decision, "measurements", lambda env_config: 1)
    monkeypatch.setattr(decision, "measure_decisions", lambda *arguments: report)
    app = typer.Typer()
    app.command()(latency_cli.latency)
    result = CliRunner().invoke(app, ["--grid", "educ_case14_storage", "--json", str(tmp_path / "latency.json")])
    assert result.exit_code == 0, result.output
    assert "qp, all zones" in result.output and "zone_0: 1: 1.980" in result.output
    written = json.loads((tmp_path / "latency.json").read_text())
    assert written["zones"]["zone_0"] == both
    assert {"command", "version", "commit"} <= written.keys()


@pytest.mark.parametrize("layers", [1, 2])
def test_flows_of_all_runtimes_agree(layers):
    field = random_field(layers=layers)
    policies, zeros = latency.contenders(field), np.zeros(3, np.float32)
    for obs in observations(field, 4):
        for steps in latency.FLOW_STEPS:
            expected = integrated(field, obs, zeros, steps)
            for runtime in ("onnx", "torch"):
                action = policies[f"{runtime}_flow_{steps}"](obs)
                np.testing.assert_allclose(action, expected, rtol=0, atol=1e-5)
        for other in ("onnx_gaussian", "onnx_diffusion_20"):
            assert policies[other](obs).shape == (3,)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_graphs_agree():
    field = random_field()
    policies, zeros = latency.contenders(field, "cuda"), np.zeros(3, np.float32)
    for obs in observations(field, 4):
        for steps in latency.FLOW_STEPS:
            expected = integrated(field, obs, zeros, steps)
            np.testing.assert_allclose(policies[f"cuda_flow_{steps}"](obs), expected, rtol=0, atol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named():
    with pytest.raises(RuntimeError, match="torch finds no GPU"):
        latency.contenders(random_field(), "cuda")


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def embedding(w, obs):
    x = np.clip((obs - w.obs_mean) / w.obs_scale, -w.max_normalized, w.max_normalized)
    x = w.obs_encoder[0] @ x + w.obs_encoder[1]
    x = (x - x.mean()) / np.sqrt(x.var() + w.norm_epsilon) * w.norm[0] + w.norm[1]
    return w.obs_in[0] @ gelu(x) + w.obs_in[1]


def network(w, x):
    x = gelu(x)
    for weight, bias in w.hidden:
        x = gelu(weight @ x + bias)
    return w.out[0] @ x + w.out[1]


def denoised(w, obs, noise, steps):
    """DDIM by its definition: the action that a step predicts, noised again as much as the step before it has it."""
    cosine = [math.cos((k / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(steps + 1)]
    signal = [1.0]
    for k in range(1, steps + 1):
        signal.append(signal[-1] * (1 - min(1 - cosine[k] / cosine[k - 1], 0.999)))
    x = noise.astype(np.float64)
    for k in range(steps, 0, -1):
        predicted = network(w, embedding(w, obs) + w.action_in @ x + w.time_in * (k / steps))
        action = (x - math.sqrt(1 - signal[k]) * predicted) / math.sqrt(signal[k])
        x = math.sqrt(signal[k - 1]) * action + math.sqrt(1 - signal[k - 1]) * predicted
    return np.clip(w.action_mean + w.action_scale * x, -1, 1)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_gaussian_policy(layers):
    field = random_field(layers=layers)
    weights = field_weights(field)
    model = gaussian_model(weights)
    onnx.checker.check_model(model, full_check=True)
    session = Session(model.SerializeToString())
    for obs in observations(field, 8):
        expected = np.tanh(network(weights, embedding(weights, obs)))
        np.testing.assert_allclose(session(obs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 5, DIFFUSION_STEPS])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_diffusion_policy(steps, layers):
    field = random_field(layers=layers)
    # random weights predict no noise, and many steps lead far away: such small scales take most actions into [-1, 1]
    weights = field_weights(field)._replace(action_scale=np.full(3, 1e-3, np.float32))
    model = diffusion_model(weights, steps)
    onnx.checker.check_model(model, full_check=True)
    session, rng, actions = Session(model.SerializeToString()), np.random.default_rng(0), []
    for obs in observations(field, 8):
        noise = rng.standard_normal(3, np.float32)
        for z in (np.zeros(3, np.float32), noise):
            actions.append(session(obs, z))
            np.testing.assert_allclose(actions[-1], denoised(weights, obs, z, steps), rtol=0, atol=1e-5)
    assert (np.abs(actions) < 1).mean() > 0.5


def test_denoising_ends_in_what_is_predicted():
    times, kept, added = np.array(list(ddim(DIFFUSION_STEPS))).T
    np.testing.assert_allclose(times, np.arange(DIFFUSION_STEPS, 0, -1) / DIFFUSION_STEPS)
    assert (kept > 1).all() and (added < 0).all()
    # of a point that is all noise, predicted without error, no noise is left
    point, noise = 0.0, 1.0
    signal = 1 / np.prod(kept) ** 2
    point = math.sqrt(signal) * 0.3 + math.sqrt(1 - signal) * noise
    for k, a in zip(kept, added, strict=True):
        point = k * point + a * noise
    assert point == pytest.approx(0.3)
