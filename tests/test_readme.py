"""The README's code runs, and its tables name what exists."""

import re
from pathlib import Path

import pytest

from grid2op_zones import DEFAULT_ENV_CONFIG
from rllib_mafql import MAFQLConfig
from rllib_mafql.learner import COEFFICIENTS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("block", [b for b in BLOCKS if "build_algo" not in b])
def test_code_runs(block):
    scope = {}
    exec(block, scope)
    if "config" in scope:
        scope["config"].validate()


def test_the_environments_keys_are_those_of_the_table():
    keys = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert keys == set(DEFAULT_ENV_CONFIG)


def test_every_coefficient_is_explained():
    assert all(f"`{name}`" in README for name in COEFFICIENTS)
    assert all(hasattr(MAFQLConfig(), name) for name in COEFFICIENTS)


def test_the_files_that_it_shows_exist():
    root = Path(__file__).parents[1]
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    assert linked and all((root / path).exists() for path in linked)
