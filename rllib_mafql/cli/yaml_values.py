"""YAML as people write it in configurations: `1e-4` is a number, and a key given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from rllib_mafql.cli.errors import InputError

#: Values that a document may have.
LARGEST = 1_000_000


class _Loader(yaml.SafeLoader):
    """SafeLoader with floats as in YAML 1.2 and JSON, and without silently repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1, which PyYAML reads, wants a dot and a signed exponent: 1e-4 would be the string "1e-4".
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_text(file: Path) -> str:
    """The text of a file; InputError if it cannot be read, or is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8, if it is text"
        ) from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None


def parse(text: str, source: str) -> Any:
    """The value that the YAML (or JSON, which is YAML) `text` stands for.

    Args:
        text: The document.
        source: Where it comes from, for messages: a file name or an option.

    Raises:
        InputError: If `text` is not one well-formed document, gives a key twice, or has aliases that contain themselves
            or make it endless.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
        if _size(value, {}) > LARGEST:
            raise InputError(f"{source}: has more than {LARGEST:,} values once its aliases are filled in")
        return value
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        begin = error.context_mark
        context = f" ({error.context}, from line {begin.line + 1})" if error.context and begin else ""
        raise InputError(f"{source}{place}: {error.problem}{context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(
            f"{source}:{line}: {text[error.position]!r} is among the special characters that no YAML may have"
        ) from None
    except RecursionError:
        raise InputError(f"{source}: is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: {error}") from None


def _size(value: Any, known: dict[int, int]) -> int:
    """How many values there are in one, each counted wherever it stands."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # while it is being counted
        parts = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    elif known[id(value)] == 0:
        raise ValueError("an alias stands inside what it refers to")
    return known[id(value)]


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """Like `parse`, for a document that must be a mapping with names as keys."""
    value = parse(text, source)
    if not isinstance(value, dict):
        raise InputError(f"{source}: must be a mapping such as '{{\"lr\": 1e-4}}', not {value!r}")
    return value
