"""Running exported policies, without what trains them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from rllib_mafql.bench.latency_models import gaussian_model
from rllib_mafql.deploy import Session
from rllib_mafql.deploy.graph import flow_model
from rllib_mafql.deploy.weights import field_weights
from tests.deploy.fields import integrated, observations, random_field


@pytest.fixture
def field():
    return random_field()


@pytest.fixture
def file(field, tmp_path):
    model = flow_model(field_weights(field), 3)
    helper.set_model_props(model, {"agent": "zone_0", "flow_steps": "3"})
    path = tmp_path / "zone_0.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_it_tells_sizes_and_metadata(file):
    for session in (Session(file), Session(str(file)), Session(file.read_bytes())):
        assert (session.obs_size, session.action_size) == (7, 3)
        assert session.metadata == {"agent": "zone_0", "flow_steps": "3"}


def test_actions_are_the_callers_own(field, file):
    session = Session(file)
    first, second = observations(field, 2)
    action = session(first)
    assert action.dtype == np.float32 and action.shape == (3,)
    kept = action.copy()
    assert not np.array_equal(session(second), kept)
    np.testing.assert_array_equal(action, kept)
    action[:] = 5.0
    np.testing.assert_array_equal(session(first), kept)


def test_noise_of_one_call_is_forgotten_in_the_next(field, file):
    session, obs = Session(file), observations(field, 1)[0]
    before, noise = session(obs), np.ones(3, np.float32)
    assert not np.array_equal(session(obs, noise), before)
    np.testing.assert_array_equal(session(obs), before)
    np.testing.assert_array_equal(noise, 1.0)


def test_other_precisions_and_layouts_are_converted(field, file):
    session, obs = Session(file), observations(field, 1)[0]
    strided = np.zeros((7, 2), np.float64)
    strided[:, 1] = obs
    np.testing.assert_array_equal(session(strided[:, 1]), session(obs))


def test_sessions_do_not_share_buffers(field, file):
    rows = observations(field, 40)
    expected = [integrated(field, row, np.zeros(3, np.float32), 3) for row in rows]
    sessions = [Session(file) for _ in range(4)]

    def play(session):
        return [session(row) for _ in range(50) for row in rows]

    with ThreadPoolExecutor(4) as pool:
        for actions in pool.map(play, sessions):
            np.testing.assert_allclose(actions, expected * 50, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (6,), (8,), (1, 7)])
def test_observations_of_other_shapes_are_refused(file, shape):
    with pytest.raises(ValueError, match="observation: expected shape"):
        Session(file)(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (2,), (1, 3)])
def test_noise_of_other_shapes_is_refused(file, shape):
    with pytest.raises(ValueError, match="noise: expected shape"):
        Session(file)(np.zeros(7, np.float32), np.zeros(shape, np.float32))


def test_policies_without_noise(field):
    session, obs = Session(gaussian_model(field_weights(field)).SerializeToString()), observations(field, 1)[0]
    assert session(obs).shape == (3,)
    with pytest.raises(ValueError, match="no noise"):
        session(obs, np.zeros(3, np.float32))


def test_names_of_the_package():
    import rllib_mafql.deploy

    assert "Session" in dir(rllib_mafql.deploy)
    assert set(rllib_mafql.deploy.__all__) == set(rllib_mafql.deploy._HOMES)
    with pytest.raises(AttributeError, match="no attribute 'Sessions'"):
        _ = rllib_mafql.deploy.Sessions


ALONE = """
import importlib.abc
import sys

BLOCKED = {"ray", "torch", "grid2op", "scipy", "gymnasium", "onnx"}


class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ImportError(f"{name} is blocked")


sys.meta_path.insert(0, Blocker())
import rllib_mafql.deploy

assert "onnxruntime" not in sys.modules and "numpy" not in sys.modules
import numpy as np

action = rllib_mafql.deploy.Session(sys.argv[1])(np.array(sys.argv[2:], np.float32))
assert not BLOCKED & {name.partition(".")[0] for name in sys.modules}
print(*(value.hex() for value in action.tolist()))
"""


def test_it_needs_nothing_that_trains(field, file):
    obs = observations(field, 1)[0]
    command = [sys.executable, "-c", ALONE, str(file), *(repr(value) for value in obs.tolist())]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    np.testing.assert_array_equal([float.fromhex(word) for word in output.split()], Session(file)(obs))
