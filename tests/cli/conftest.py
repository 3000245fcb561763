import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from typer.testing import CliRunner, Result

from rllib_mafql.cli.rllib import app


@pytest.fixture
def rllib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command `rllib` in an empty folder: `rllib("train", "file", "x.yaml")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # where results go by default
    return lambda *words: CliRunner().invoke(app, list(words), terminal_width=200)


@pytest.fixture(scope="module")
def small_ray() -> Iterator[None]:
    """A small Ray that the command uses instead of starting one, and whose workers find `environments`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        ray.init(num_cpus=2, object_store_memory=100 * 1024**2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()
