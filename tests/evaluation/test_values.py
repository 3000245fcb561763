"""Values beside returns and actions beside each other: what the measures say of known critics, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rllib_mafql.cli.mafql import app
from rllib_mafql.evaluation.policies import SetupError
from rllib_mafql.evaluation.values import AHEAD, PER_EPISODE, Rows, against_played, against_returns, sample_rows
from rllib_mafql.offline import FragmentWriter, RecordedFragment, RecordingSchema, open_recording
from rllib_mafql.replay import Fragment

GAMMA = 0.8


def rows(returns: np.ndarray, lost: np.ndarray, policies: list[str]) -> Rows:
    nothing = np.zeros((len(returns), 1), np.float32)
    return Rows(nothing, nothing, None, returns, lost, np.array(policies))


def test_a_critic_that_knows_what_comes_is_told_from_one_that_is_off() -> None:
    returns = np.array([1.0, 2.0, 3.0, 4.0])
    sample = rows(returns, returns < 2.5, ["qp", "qp", "qp", "random"])
    right = against_returns(returns, sample)
    assert list(right) == ["all", "qp", "random"] and right["qp"]["rows"] == 3
    assert right["all"]["bias"] == right["all"]["error"] == 0.0
    assert right["all"]["rank"] == right["all"]["warning"] == 1.0
    assert right["random"]["rank"] is None and right["random"]["warning"] is None
    off = against_returns(5.0 - returns, sample)["all"]
    assert off["bias"] == 0.0 and off["error"] == pytest.approx(np.sqrt(5.0))
    assert off["rank"] == -1.0 and off["warning"] == 0.0
    assert against_returns(np.full(4, 3.0), sample)["all"]["warning"] == 0.5  # it tells nothing
    assert against_returns(np.full(4, 3.0), sample)["all"]["bias"] == 0.5


def test_actions_are_valued_beside_what_was_played() -> None:
    played = np.zeros((4, 2), np.float32)
    better = np.full((4, 2), 0.5, np.float32)
    mixed = np.array([[0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [-0.5, -0.5]], np.float32)

    def values(actions: np.ndarray) -> np.ndarray:  # the second critic sees the first component only, and turned
        return np.stack([actions.sum(1), np.array([1, 1, -1, -1]) * actions[:, 0]])

    found = against_played(values, played, {"better": better, "mixed": mixed, "same": played})
    assert found["better"]["distance"] == 0.5
    assert found["better"]["difference"] == 0.5 and found["better"]["agreed"] == 0.5
    assert found["better"]["preferred"] == 1.0
    assert found["mixed"]["preferred"] == 0.5 and found["mixed"]["difference"] == pytest.approx(0.25)
    assert found["mixed"]["size"] == pytest.approx(0.5)
    assert found["same"] == {"distance": 0.0, "difference": 0.0, "size": 0.0, "preferred": 0.0, "agreed": 1.0}


def fragment(steps: int, terminated: bool, schema: RecordingSchema, name: str = "e") -> RecordedFragment:
    rng = np.random.default_rng(steps)
    content = Fragment(
        obs=rng.normal(size=(steps + 1, schema.obs_size)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, schema.action_size)).astype(np.float32),
        rewards=np.ones(steps, np.float32),
        behavior=np.ones(steps, bool),
        terminated=terminated,
    )
    told = {"truncated": not terminated, "components": {}, "policies": ["qp_zones"] * steps, "first_step": 0}
    return RecordedFragment(content, episode_id=name, scenario="", **told)


def recorded(folder: Path, schema: RecordingSchema, *fragments: RecordedFragment) -> Path:
    writer = FragmentWriter(folder, schema, "part", max_rows=1_000)
    for one in fragments:
        writer.add(one)
    writer.close()
    return folder


SCHEMA = RecordingSchema((("west", 3, 2), ("east", 2, 1)), None)


def test_steps_are_taken_whose_return_is_known(tmp_path: Path) -> None:
    lost, whole, short = fragment(30, True, SCHEMA, "a"), fragment(40, False, SCHEMA, "b"), fragment(9, False, SCHEMA)
    recording = open_recording(recorded(tmp_path / "data", SCHEMA, lost, whole, short))
    found = sample_rows(recording, GAMMA, 1_000, seed=0)
    # of the episode that goes on, steps with 14 or more left: .8 ** 14 < .05; of the lost one, all; of the short, none
    assert len(found.returns) == 30 + 27 and found.advice is None
    assert found.lost.sum() == AHEAD
    known = (1 - GAMMA ** np.arange(30, 0, -1)) / (1 - GAMMA)  # rewards of 1 to the grid's loss
    np.testing.assert_allclose(np.sort(found.returns)[:14], np.sort(known)[:14], rtol=1e-5)
    np.testing.assert_allclose(found.returns.max(), 1 / (1 - GAMMA), rtol=1e-5)
    seen = {row.tobytes() for row in found.obs}
    assert {row.tobytes() for row in lost.fragment.obs[:30]} < seen
    assert len(sample_rows(recording, GAMMA, 8, seed=1).returns) == 8
    with pytest.raises(SetupError, match=r"no recorded episode is long enough .* at gamma 0.99"):
        sample_rows(open_recording(recorded(tmp_path / "short", SCHEMA, short)), 0.99, 10, seed=0)


def test_no_episode_counts_for_more_than_its_share(tmp_path: Path) -> None:
    recording = open_recording(recorded(tmp_path, SCHEMA, fragment(400, True, SCHEMA)))
    assert len(sample_rows(recording, GAMMA, 1_000, seed=0).returns) == PER_EPISODE


def test_a_checkpoint_s_critic_is_judged(mafql_run: Path, ppo_run: Path, tmp_path: Path) -> None:
    from rllib_mafql.cli.checkpoints import find_checkpoint
    from rllib_mafql.evaluation.values import Judge

    judge = Judge(find_checkpoint(mafql_run))
    schema = RecordingSchema(tuple(judge.agents), None)
    data = recorded(tmp_path / "data", schema, fragment(30, True, schema))
    out = tmp_path / "values.json"

    def command(run: Path, folder: Path, *words: str):
        return CliRunner().invoke(app, ["values", str(run), str(folder), *words], terminal_width=200)

    result = command(mafql_run, data, "--json", str(out))
    assert result.exit_code == 0, result.output
    written = json.loads(out.read_text())
    assert list(written["actions"]) == ["zones", "teacher", "played elsewhere", "random"]
    assert written["settings"]["rows"] == 30 and {"command", "commit"} <= written["settings"].keys()
    obs = np.zeros((3, schema.obs_size), np.float32)
    assert judge.values(obs, np.zeros((3, schema.action_size), np.float32)).shape == (2, 3)
    assert all(actions.shape == (3, schema.action_size) for actions in judge.proposals(obs).values())

    refused = command(ppo_run, data)
    assert refused.exit_code == 2 and "PPO has no critic of recorded steps" in refused.output
    other = recorded(tmp_path / "other", SCHEMA, fragment(30, True, SCHEMA))
    refused = command(mafql_run, other)
    assert refused.exit_code == 2 and "recorded in another environment: agents:" in " ".join(refused.output.split())
