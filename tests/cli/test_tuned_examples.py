from pathlib import Path

import pytest

from rllib_mafql.cli.checks import check
from rllib_mafql.cli.experiments import read_file
from rllib_mafql.cli.options import TrainOptions

FOLDER = Path(__file__).parents[2] / "tuned_examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))

#: Experiments in files of several.
SEVERAL = {
    "case118_baselines": ["mac_flow", "bc", "gaussian", "diffusion", "independent_fql", "ppo", "mappo", "sac"],
    "case118_opponent_data": ["attacked", "calm"],
    "case118_modes": ["flow", "flow_5_steps", "flow_wide", "independent_flow", "flow_bc", "gaussian", "diffusion"],
}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_passes_the_checks_and_fits_on_two_cores(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiments = read_file(file, TrainOptions())
    assert [experiment.name for experiment in experiments] == SEVERAL.get(file.stem, [file.stem])
    for experiment in experiments:
        assert all(resources.get("CPU", 0) <= 2 for resources in check(experiment).resources)
        assert "no metric that RLlib or MAFQL reports" not in capsys.readouterr().err
        # What is reported on the way and at the end must come from episodes that training never sees.
        assert experiment.config()["evaluation_config"]["env_config"]["scenarios"]["split"] == "test"


def test_baselines_differ_from_mafql_only_in_what_they_are_there_for() -> None:
    (mafql,) = read_file(FOLDER / "case118_mafql_opponent.yaml", TrainOptions())
    differ = {
        "mac_flow": {"bc_coeff", "conservative_coeff"},
        "bc": {"bc_coeff", "conservative_coeff", "td_coeff", "q_coeff", "flow_matching_coeff", "distillation_coeff"},
        "gaussian": {"distillation_coeff"},
        "diffusion": {"distillation_coeff", "denoising_steps"},
        "independent_fql": set(),
    }
    ours = mafql.config()
    for experiment in read_file(FOLDER / "case118_baselines.yaml", TrainOptions()):
        config = experiment.config()
        assert config["env_config"] == ours["env_config"] and config["evaluation_config"] == ours["evaluation_config"]
        if experiment.name in differ:
            found = {key for key in {*config, *ours} if config.get(key) != ours.get(key)}
            assert (found, experiment.stop) == (differ[experiment.name], mafql.stop)
