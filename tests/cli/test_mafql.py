import subprocess
import sys

import pytest


@pytest.mark.parametrize("command", ["rllib", "mafql"])
def test_help_imports_neither_ray_nor_torch(command: str) -> None:
    program = (
        "import sys\n"
        f"from rllib_mafql.cli.{command} import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'ray', 'torch', 'grid2op', 'numpy', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "evaluate" in done.stdout


def test_arguments_reach_the_command_behind_mafql() -> None:
    from typer.testing import CliRunner

    from rllib_mafql.cli.mafql import app

    result = CliRunner().invoke(app, ["evaluate", "--help"])
    assert result.exit_code == 0
    assert "--episodes" in result.output
    result = CliRunner().invoke(app, ["evaluate", "do_nothing", "--episodse", "3"])
    assert result.exit_code == 2
    assert "--episodse" in result.output
