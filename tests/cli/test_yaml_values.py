import pytest

from rllib_mafql.cli.errors import InputError
from rllib_mafql.cli.yaml_values import parse, parse_mapping


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3E6", 3e6),
        ("-2.5e-3", -2.5e-3),
        ("1.e5", 1e5),
        (".5e1", 5.0),
        ("1_000e3", 1e6),
        ("1.0e-4", 1e-4),
    ],
)
def test_exponents_are_numbers(text: str, value: float) -> None:
    assert parse(f"lr: {text}", "x.yaml") == {"lr": value}


@pytest.mark.parametrize("text", ["'1e-4'", "1e", "e5", "v1e5", "1e-4s"])
def test_what_only_resembles_a_number_stays_text(text: str) -> None:
    assert isinstance(parse(f"lr: {text}", "x.yaml")["lr"], str)


def test_json_is_read() -> None:
    assert parse_mapping('{"lr": 1e-4, "a": {"b": [true, null]}}', "--config") == {"lr": 1e-4, "a": {"b": [True, None]}}


def test_a_repeated_key_is_an_error_with_its_place() -> None:
    with pytest.raises(InputError, match=r"x.yaml:3:3: key 'lr' is given twice"):
        parse("a:\n  lr: 1\n  lr: 2\n", "x.yaml")


def test_merge_keys_still_work() -> None:
    text = "base: &base {lr: 1, gamma: 2}\nmine: {<<: *base, lr: 3}\n"
    assert parse(text, "x.yaml")["mine"] == {"lr": 3, "gamma": 2}


@pytest.mark.parametrize("text", ["[1]", "3", "", "a: {"])
def test_what_is_no_mapping_is_an_error_that_names_the_option(text: str) -> None:
    with pytest.raises(InputError, match="--stop"):
        parse_mapping(text, "--stop")
