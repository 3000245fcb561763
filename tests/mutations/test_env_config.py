"""`ZonedGridEnv(...)` refuses every malformed env_config, and says where it is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from grid2op_zones import ZonedGridEnv
from tests.mutations.contradictions import ENV, SMALL, VALUES
from tests.mutations.mutate import EXAMPLES, misspelt_keys, wrong_values

Case = tuple[str, dict[str, Any], str, str]


def _generated() -> list[Case]:
    """Misspelt keys and wrong values within the examples' env_config."""
    cases = []
    for mutation in (*misspelt_keys(EXAMPLES), *wrong_values(EXAMPLES)):
        (spec,) = yaml.safe_load(mutation.content).values()
        path = mutation.name.partition(": ")[2]
        if path.startswith("config.env_config."):
            cases.append((mutation.name, spec["config"]["env_config"], mutation.place, mutation.hint))
    return cases


def _by_hand() -> list[Case]:
    """Those of `contradictions` that are about env_config, but for zones, which have other words here."""
    cases = []
    for file, path, value, place, hint in VALUES:
        # one week too long would be generated first
        if path[: len(ENV)] == ENV and len(path) > len(ENV) and file.stem != "case118_ppo" and value != 2016:
            config = yaml.safe_load(file.read_text())[file.stem]["config"]["env_config"]
            node = config
            for key in path[len(ENV) : -1]:
                node = node.setdefault(key, {})
            node[path[-1]] = value
            cases.append((f"{'.'.join(path)} = {value!r}", config, place.removeprefix("env_config."), hint))
    return cases


GENERATED, BY_HAND = _generated(), _by_hand()


def _refused(config: Any) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        ZonedGridEnv(config)
    return str(caught.value)


def test_there_are_many_inputs() -> None:
    assert len({repr(config) for _, config, _, _ in (*GENERATED, *BY_HAND)}) > 100


def test_keys_and_values_of_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, config, place, hint in GENERATED:
        message = _refused(config)
        assert place in message, (name, message)
        assert hint in message, (name, message)


@pytest.mark.parametrize(("name", "config", "place", "hint"), BY_HAND, ids=[case[0] for case in BY_HAND])
def test_names_combinations_and_places(
    name: str, config: dict[str, Any], place: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("x.yaml").write_bytes(SMALL.read_bytes())
    message = _refused(config)
    assert place in message
    assert hint in message


@pytest.mark.parametrize("config", ["educ_case14_storage", ["grid"], 3])
def test_what_is_no_mapping(config: Any) -> None:
    assert re.search("env_config: expected a mapping", _refused(config))
