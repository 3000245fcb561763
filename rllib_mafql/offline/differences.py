"""Says in what two environments differ, by their agents and their fingerprints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rllib_mafql.offline.columns import RecordingError
from rllib_mafql.offline.schema import RecordingSchema

# So many differences are named in full; the first ones tell what happened.
NAMED = 3


def refuse_other_file(path: Path, schema: RecordingSchema, first: Path, expected: RecordingSchema) -> None:
    """Raises RecordingError if `path` was recorded in another environment than `first`."""
    if schema.grid != expected.grid:
        raise RecordingError(
            f"{path}: recorded on grid {schema.grid!r}, but {first} on grid {expected.grid!r}; read one grid at a time"
        )
    found = [f"{what} {theirs}, there {ours}" for what, theirs, ours in _differences(schema, expected)]
    if found:
        raise RecordingError(
            f"{path}: recorded in another environment than {first}: {_listed(found)}; read one environment at a time"
        )


def refuse_other_environment(
    path: Path, schema: RecordingSchema, agents: Sequence[Sequence[Any]], fingerprint: Mapping[str, Any] | None
) -> None:
    """Raises RecordingError if the recording that begins with `path` is of another environment than the given one."""
    here = RecordingSchema(tuple((name, d, m) for name, d, m in agents), fingerprint)
    refuse_other_grid(path, schema, here.grid)
    if None in (schema.fingerprint, here.fingerprint):
        # what is not told cannot differ
        schema, here = RecordingSchema(schema.agents), RecordingSchema(here.agents)
    found = [f"{what} {theirs} in the recording, {ours} here" for what, theirs, ours in _differences(schema, here)]
    if found:
        raise RecordingError(
            f"{path}: recorded in another environment: {_listed(found)}; set zones, observability and actions in "
            "env_config as they were when the data were recorded, or record anew"
        )


def refuse_other_grid(path: Path, schema: RecordingSchema, grid: str | None) -> None:
    """Raises RecordingError if the recording that begins with `path` is of another grid; None fits any."""
    if None not in (schema.grid, grid) and schema.grid != grid:
        raise RecordingError(
            f"{path}: recorded on grid {schema.grid!r}, but env_config has grid {grid!r}; set env_config grid to "
            f"{schema.grid!r}, or read data that were recorded on {grid!r}"
        )


def _differences(a: RecordingSchema, b: RecordingSchema) -> Iterator[tuple[str, str, str]]:
    """(what, its value in `a`, its value in `b`) of each difference."""
    names = tuple([name for name, _, _ in schema.agents] for schema in (a, b))
    if names[0] != names[1]:
        yield "agents:", ", ".join(names[0]), ", ".join(names[1])
    else:
        for (name, d, m), (_, other_d, other_m) in zip(a.agents, b.agents, strict=True):
            if d != other_d:
                yield f"{name}'s observation: length", str(d), str(other_d)
            if m != other_m:
                yield f"{name}'s action: length", str(m), str(other_m)
    yield from _unlike("", a.fingerprint, b.fingerprint)


def _unlike(where: str, a: Any, b: Any) -> Iterator[tuple[str, str, str]]:
    """The leaves in which two JSON values differ; of lists, what only one of them has."""
    if a == b:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _unlike(f"{where}.{key}" if where else key, a.get(key), b.get(key))
    elif (
        isinstance(a, list)
        and isinstance(b, list)
        and (own := [[x for x in a if x not in b], [x for x in b if x not in a]]) != [[], []]
    ):
        yield f"{where}: only", _short(own[0]), _short(own[1])
    else:
        yield f"{where or 'fingerprint'}:", _short(a), _short(b)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _listed(found: list[str]) -> str:
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return "; ".join(found[:NAMED]) + more
