from pathlib import Path

import pytest

from rllib_mafql.cli.checks import check
from rllib_mafql.cli.experiments import read_file
from rllib_mafql.cli.options import TrainOptions

EXAMPLES = sorted((Path(__file__).parents[2] / "tuned_examples").glob("*.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_passes_the_checks_and_fits_on_two_cores(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (experiment,) = read_file(file, TrainOptions())
    assert experiment.name == file.stem
    assert all(resources.get("CPU", 0) <= 2 for resources in check(experiment).resources)
    assert "no metric that RLlib or MAFQL reports" not in capsys.readouterr().err
    # What is reported on the way and at the end must come from episodes that training never sees.
    assert experiment.config()["evaluation_config"]["env_config"]["scenarios"]["split"] == "test"
