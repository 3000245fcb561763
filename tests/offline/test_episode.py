"""Steps become fragments."""

import numpy as np
import pytest

from rllib_mafql.offline import FragmentBuilder


def test_steps_are_kept_although_the_environment_overwrites_its_arrays():
    builder = FragmentBuilder("e1", "week 3", first_step=7)
    obs, action = np.zeros(2), np.zeros(1)
    for t in range(3):
        obs[:], action[:] = t, t / 10
        builder.add(obs, action, float(t), t > 0, "qp" if t else "learned", {"safety": t / 2})
        assert len(builder) == t + 1
    recorded = builder.finish(np.full(2, 3.0), terminated=False, truncated=True)
    fragment = recorded.fragment
    assert fragment.obs.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert fragment.actions[:, 0] == pytest.approx([0, 0.1, 0.2])
    assert fragment.rewards.tolist() == [0, 1, 2]
    assert fragment.behavior.tolist() == [False, True, True]
    assert not fragment.terminated and recorded.truncated
    assert {fragment.obs.dtype, fragment.actions.dtype, fragment.rewards.dtype} == {np.dtype(np.float32)}
    assert recorded.components["safety"].tolist() == [0, 0.5, 1]
    assert recorded.policies == ["learned", "qp", "qp"]
    assert (recorded.episode_id, recorded.first_step, recorded.scenario) == ("e1", 7, "week 3")


def test_a_fragment_without_steps_is_refused():
    with pytest.raises(ValueError, match="episode e1: a fragment needs at least one step"):
        FragmentBuilder("e1").finish(np.zeros(2), terminated=False, truncated=False)


def test_steps_with_other_reward_components_are_refused():
    builder = FragmentBuilder("e1", first_step=4)
    builder.add(np.zeros(1), np.zeros(1), 0.0, False, "learned", {"cost": 1.0})
    builder.add(np.zeros(1), np.zeros(1), 0.0, False, "learned", {})
    with pytest.raises(ValueError, match=r"step 5 has the reward components \[\], but step 4 has \['cost'\]"):
        builder.finish(np.zeros(1), terminated=False, truncated=False)


def test_advice_at_some_steps_only_is_refused():
    builder = FragmentBuilder("e1")
    builder.add(np.zeros(1), np.zeros(1), 0.0, True, "learned", {}, np.ones(1))
    np.testing.assert_array_equal(builder.finish(np.zeros(1), False, False).fragment.advice, [[1.0]])
    builder.add(np.zeros(1), np.zeros(1), 0.0, True, "learned", {})
    with pytest.raises(ValueError, match="episode e1: 1 of 2 steps have advice"):
        builder.finish(np.zeros(1), terminated=False, truncated=False)
