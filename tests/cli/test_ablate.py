"""`mafql ablate`: one thing changed at a time, trained once, evaluated together."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rllib_mafql.checkpoint_pickles import read_settings
from rllib_mafql.cli.checkpoints import find_checkpoint
from rllib_mafql.cli.mafql import app
from rllib_mafql.evaluation.ablation_report import markdown, rows
from rllib_mafql.evaluation.ablations import ABLATIONS

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "tuned_examples" / "case14_mafql_smoke.yaml"


def ablate(*words):
    return CliRunner().invoke(app, ["ablate", str(SMOKE), *map(str, words)], terminal_width=200)


def test_variants_are_trained_once_and_evaluated_together(small_ray, tmp_path):
    words = ["--out", tmp_path, "--seeds", 1, "--episodes", 2, "--workers", 0, "--stop", "{num_learner_updates: 50}"]
    words += ["--only", "no_q", "--only", "no_projection", "--config", "{safety: {level: lines}}"]
    result = ablate(*words)
    assert result.exit_code == 0, result.output
    _, settings = read_settings(find_checkpoint(tmp_path / "runs" / "no_q_seed0"))
    assert [settings[name] for name in ("q_coeff", "td_coeff", "conservative_coeff", "bc_coeff")] == [0, 0, 0, 0.1]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mafql_seed0", "no_q_seed0"]
    summary = json.loads((tmp_path / "results.json").read_text())
    assert list(summary["agents"]) == ["mafql", "no_q", "no_projection"]
    scores = [[episode["score"] for episode in agent["episodes"]] for agent in summary["agents"].values()]
    assert scores[0] != scores[1] and scores[0] != scores[2]
    assert "| without values (no critic, no Q) |" in (tmp_path / "ablations.md").read_text()
    assert (tmp_path / "ablations.png").stat().st_size > 10_000

    again = ablate(*words)
    assert again.exit_code == 0, again.output
    assert "mafql_seed0 is trained" in again.output and "iter" not in again.output

    other = ablate(*words, "--stop", "{num_learner_updates: 75}")
    assert other.exit_code == 2 and "mafql_seed0: was trained with another run or stop" in other.output


def test_what_was_found_is_told_beside_what_was_expected():
    def agent(difference):
        compared = {"mafql": {"difference": dict(zip(("mean", "low", "high"), difference, strict=True))}}
        metrics = {"score": {"mean": 0.8 + difference[0]}, "survival": {"mean": 0.75}}
        return {"label": "it", "metrics": metrics, "comparisons": compared}

    cases = {"no_bc": (-0.02, -0.03, -0.01), "no_q": (0.02, 0.01, 0.03), "no_flow": (0.01, -0.01, 0.03)}
    agents = {"mafql": agent((0.0, 0.0, 0.0)), **{name: agent(ends) for name, ends in cases.items()}}
    found = {row.name: (row.expected, row.found) for row in rows({"agents": agents})}
    assert found == {"no_bc": ("lower", "lower"), "no_q": ("lower", "higher"), "no_flow": ("lower", "same")}
    assert "| it | 75% | 0.780 | -0.020 [-0.030, -0.010] | lower | lower |" in markdown({"agents": agents})


def test_variants_are_listed_without_a_file():
    result = CliRunner().invoke(app, ["ablate", "--list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(ABLATIONS)


def test_every_variant_is_a_valid_setting_of_the_algorithm():
    from rllib_mafql import MAFQLConfig

    for ablation in ABLATIONS.values():
        settings = {name: value for name, value in ablation.training.items() if name != "env_config"}
        config = MAFQLConfig().environment("grid2op_zones").training(**settings)
        if ablation.data == "recorded":
            config.offline_data(input_="recordings")
        config.validate()
        assert ablation.expected in ("lower", "same", "open")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "no_bcc"], "the nearest valid one is 'no_bc'"),
        (["--only", "cloned_poor"], "--only cloned_poor: is of recorded data, the experiment's are played"),
        (["--only", "no_projection"], "--only no_projection: changes nothing of the experiment"),
        (["--only", "local"], "--only local: changes nothing of the experiment"),
        (["--config", "{grid: 3}"], "grid"),
        (["--seeds", 0], "--seeds"),
    ],
)
def test_bad_input_is_named(words, message, tmp_path):
    result = ablate("--out", tmp_path, *words)
    assert result.exit_code == 2 and message in result.output
    assert not (tmp_path / "runs").exists()


def test_variants_of_policies_that_are_not_in_the_data_are_refused(small_ray, tmp_path):
    words = ["--policy", "qp_zones", "--steps", "60", "--grid", "educ_case14_storage", "--config", "{max_steps: 48}"]
    assert CliRunner().invoke(app, ["record", *words, "--out", str(tmp_path / "data")]).exit_code == 0
    (experiment,) = yaml.safe_load(SMOKE.read_text()).values()
    experiment["config"]["input_"] = str(tmp_path / "data")
    file = tmp_path / "recorded.yaml"
    file.write_text(yaml.safe_dump({"recorded": experiment}))
    words = ["ablate", str(file), "--out", str(tmp_path / "out"), "--only", "cloned_poor"]
    result = CliRunner().invoke(app, words, terminal_width=200)
    message = "--only cloned_poor: no step was played by 'proportional_zones', only by qp_zones"
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
