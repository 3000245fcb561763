"""Reading what Tune wrote, and drawing it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from rllib_mafql.evaluation.curves import (
    STEPS,
    held_out_curve,
    learning_curves,
    read_progress,
    series,
    trial_folder,
    x_axis,
)


def result(i: int) -> dict:
    """One iteration as Tune's result.json has it; evaluation comes every second time and is repeated once."""
    row = {
        "training_iteration": i,
        STEPS: 1000.0 * i,
        "config": {"evaluation_interval": 2},
        "done": False,
        "trial_id": "abc",
        "env_runners": {"survived": 0.1 * i, "score": 0.05 * i, "episode_return_mean": 10.0 * i},
        "learners": {
            "teacher": {"flow_matching_loss": 1.0 / i},
            "critic": {"td_loss": 1.0 / i, "conservative_loss": float("nan"), "q_mean": 2.0 * i},
            **{f"zone_{z}": {"bc_loss": 0.5 / i, "distillation_loss": 0.1 / i} for z in range(3)},
        },
    }
    if i >= 2:
        evaluated = i - i % 2
        row["evaluation"] = {"env_runners": {"survived": 0.2 * evaluated, "score": 0.1 * evaluated}}
    return row


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint_000001").mkdir()
    (tmp_path / "result.json").write_text("".join(json.dumps(result(i)) + "\n" for i in range(1, 5)))
    return tmp_path


def test_every_evaluation_is_read_once_though_the_first_iteration_has_none(trial: Path) -> None:
    rows = read_progress(trial)
    x, y = series(rows, "evaluation/env_runners/survived")
    np.testing.assert_allclose(x, [2000, 4000])
    np.testing.assert_allclose(y, [0.4, 0.8])
    assert len(series(rows, "learners/critic/conservative_loss")[0]) == 0  # NaN is no point
    assert "trial_id" not in rows[0]


def test_progress_csv_serves_where_there_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text(f"{STEPS},env_runners/score,trial_id\n10,0.5,a\n20,,a\n")
    assert read_progress(tmp_path) == [{STEPS: 10.0, "env_runners/score": 0.5}, {STEPS: 20.0}]


def test_a_folder_without_metrics_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither result\.json nor progress\.csv"):
        read_progress(tmp_path)


def test_the_trial_of_a_checkpoint_is_the_folder_around_it(
    trial: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert trial_folder(trial / "checkpoint_000001") == trial
    assert trial_folder(tmp_path_factory.mktemp("alone") / "checkpoint") is None


def test_a_run_on_recorded_data_is_drawn_over_iterations() -> None:
    assert x_axis([{STEPS: 0.0, "training_iteration": i} for i in (1, 2, 3)]) == "training_iteration"


def test_the_figure_is_a_png_at_150_dpi(trial: Path, tmp_path: Path) -> None:
    path = tmp_path / "learning_curves.png"
    learning_curves(
        read_progress(trial), path, title="MAFQL", references={"do nothing": {"survival": 0.1, "score": 0.3}}
    )
    height, width, _ = imread(path).shape
    assert width == pytest.approx(
        4.1 * 4 * 150, abs=2
    )  # survival, score, three policy losses, TD error and Q: two rows of four
    assert height == pytest.approx((3.0 * 2 + 0.7) * 150, abs=2)


def test_nothing_known_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no known metric"):
        learning_curves([{STEPS: 1.0}], tmp_path / "none.png", title="")
    assert not (tmp_path / "none.png").exists()


def test_a_run_s_held_out_curve(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("\n".join(json.dumps(result(i)) for i in range(1, 5)))
    curve = held_out_curve(tmp_path / "checkpoint_000000")
    assert curve is not None and curve["score"] == [0.2, 0.4] and curve["survival"] == [0.4, 0.8]
    assert held_out_curve(tmp_path / "elsewhere" / "deeper" / "checkpoint") is None
    never = [{**result(i), "config": {"evaluation_interval": 0}} for i in (1,)]
    (tmp_path / "result.json").write_text("\n".join(map(json.dumps, never)))
    assert held_out_curve(tmp_path / "checkpoint_000000") is None
