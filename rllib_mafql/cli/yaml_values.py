"""YAML as people write it in configurations: `1e-4` is a number, and a key given twice is an error."""

import re
from typing import Any

import yaml

from rllib_mafql.cli.errors import InputError


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


def parse(text: str, source: str) -> Any:
    """The value that the YAML (or JSON, which is YAML) `text` stands for.

    Args:
        text: The document.
        source: Where it comes from, for messages: a file name or an option.

    Raises:
        InputError: If `text` is not one well-formed document, or gives a key twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{source}{place}: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: {error}") from None


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """Like `parse`, for a document that must be a mapping with names as keys."""
    value = parse(text, source)
    if not isinstance(value, dict):
        raise InputError(f"{source}: must be a mapping such as '{{\"lr\": 1e-4}}', not {value!r}")
    return value
