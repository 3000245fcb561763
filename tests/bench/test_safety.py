"""`mafql bench safety`: the same episodes at each level."""

import json

import pytest
from typer.testing import CliRunner

from rllib_mafql.bench.cli import app

CONFIG = "{max_steps: 40, scenarios: {source: bundled, weeks: null}}"
PLAY = ["safety", "random", "--grid", "educ_case14_storage", "--episodes", "2", "--workers", "0", "--config", CONFIG]


def test_levels_are_compared_on_the_same_episodes(tmp_path):
    file = tmp_path / "safety.json"
    result = CliRunner().invoke(app, [*PLAY, "--json", str(file)])
    assert result.exit_code == 0, result.output
    rows = {row["level"]: row for row in json.loads(file.read_text())["results"]}
    assert list(rows) == ["none", "units", "lines"]
    for row in rows.values():
        assert row["agent"] == "random" and row["episodes"] == 2 and row["errors"] == 0
        assert 0 < row["steps"] <= 80 and 0 <= row["survival"] <= 1
        assert row["refused_actions"] == row["impossible_redispatch"] == 0
        assert row["overload_steps_per_1000"] == pytest.approx(1e3 * row["overload_steps"] / row["steps"])
    assert "projected" not in rows["none"] and "unguaranteed" not in rows["units"]
    assert rows["lines"]["projection_distance"] > 0 and 0 <= rows["lines"]["unguaranteed"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*PLAY, "--levels", "none,line"], "unknown level 'line'"),
        (["safety", "randon"], "no such checkpoint"),
        (["safety", "random", "--config", "{safty: {}}"], "safety"),
    ],
)
def test_bad_input_is_named(arguments, message, capsys):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert message in result.output
