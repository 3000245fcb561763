"""The code of README and docs runs, and the README's tables name what exists."""

import re
from pathlib import Path

import pytest
import ray

from grid2op_zones import DEFAULT_ENV_CONFIG
from rllib_mafql import MAFQLConfig
from rllib_mafql.learner import COEFFICIENTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    README,
    *((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("safety.md", "deployment.md", "tuning.md")),
]
BLOCKS = [block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]


@pytest.mark.parametrize("block", [b for b in BLOCKS if "build_algo" not in b])
def test_code_runs(block, tmp_path, monkeypatch):
    if "Tuner" in block:
        ray.shutdown()
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)  # its token is in the home that it knows
    monkeypatch.setenv("HOME", str(tmp_path))  # where Tune's results go
    scope = {}
    exec(block, scope)
    ray.shutdown()
    if "config" in scope:
        scope["config"].validate()


def test_the_environments_keys_are_those_of_the_table():
    keys = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert keys == set(DEFAULT_ENV_CONFIG)


def test_every_coefficient_is_explained():
    assert all(f"`{name}`" in README for name in COEFFICIENTS)
    assert all(hasattr(MAFQLConfig(), name) for name in COEFFICIENTS)


def test_the_files_that_it_shows_exist():
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert linked and all((ROOT / path).exists() for path in linked)
