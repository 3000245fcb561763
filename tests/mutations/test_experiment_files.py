"""`rllib train file` refuses every malformed file before Ray starts, and says where it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mutations.conftest import Refused
from tests.mutations.contradictions import SMALL, contradictions
from tests.mutations.mutate import EXAMPLES, Mutation, misspelt_keys, wrong_values
from tests.mutations.texts import TEXTS

KEYS = list(misspelt_keys(EXAMPLES))
WRONG = list(wrong_values(EXAMPLES))
OTHERS = list(contradictions(EXAMPLES))


def _check(mutation: Mutation, refused: Refused) -> None:
    Path("x.yaml").write_bytes(mutation.content)
    output = refused("rllib", "train", "file", "x.yaml")
    assert "error: x.yaml" in output, output
    assert mutation.place in output, output
    assert mutation.hint in output, output
    assert output.count("error: ") == output.count("\n") == 1, output


def _check_all(mutations: list[Mutation], refused: Refused) -> None:
    problems = []
    for mutation in mutations:
        try:
            _check(mutation, refused)
        except AssertionError as error:
            problems.append(f"{mutation.name}: {str(error).splitlines()[0]}")
    assert not problems, "\n".join(problems)


def test_there_are_many_inputs() -> None:
    assert len({mutation.content for mutation in (*KEYS, *WRONG, *OTHERS, *TEXTS)}) > 1200


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_misspelt_keys_at_every_level(example: Path, refused: Refused) -> None:
    _check_all([mutation for mutation in KEYS if mutation.name.startswith(f"{example.stem}:")], refused)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda file: file.stem)
def test_values_of_a_wrong_kind_or_out_of_range(example: Path, refused: Refused) -> None:
    _check_all([mutation for mutation in WRONG if mutation.name.startswith(f"{example.stem}:")], refused)


@pytest.mark.parametrize("mutation", OTHERS, ids=lambda mutation: mutation.name)
def test_names_combinations_and_places_that_are_wrong(mutation: Mutation, refused: Refused) -> None:
    Path("empty").mkdir()
    _check(mutation, refused)


@pytest.mark.parametrize("mutation", TEXTS, ids=lambda mutation: mutation.name)
def test_files_that_are_no_experiments(mutation: Mutation, refused: Refused) -> None:
    _check(mutation, refused)


def test_a_file_that_may_not_be_read(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.yaml").write_bytes(SMALL.read_bytes())

    def refuse(*args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "x.yaml: cannot be read: Permission denied" in refused("rllib", "train", "file", "x.yaml")


@pytest.mark.parametrize(
    "example", [file for file in EXAMPLES if "input_:" not in file.read_text()], ids=lambda f: f.stem
)
def test_the_examples_themselves_go_on_to_start_ray(example: Path, accepted: Callable[..., None]) -> None:
    accepted("rllib", "train", "file", example)


def test_a_byte_order_mark_is_no_mistake(accepted: Callable[..., None]) -> None:
    Path("x.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.read_bytes())
    accepted("rllib", "train", "file", "x.yaml")
