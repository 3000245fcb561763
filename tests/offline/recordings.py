"""Small recordings of random numbers, and what makes them bad."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rllib_mafql.offline import FragmentWriter, RecordedFragment, RecordingSchema
from rllib_mafql.replay import Fragment

FINGERPRINT = {"grid": "case_a", "agents": {"west": {"units": ["gen_0", "gen_1"]}, "east": {"units": ["gen_2"]}}}
SCHEMA = RecordingSchema((("west", 3, 2), ("east", 2, 1)), FINGERPRINT, ("safety", "cost"))


def make(seed: int, steps: int = 5, schema: RecordingSchema = SCHEMA, **other) -> RecordedFragment:
    """A fragment of random numbers."""
    rng = np.random.default_rng(seed)
    fragment = Fragment(
        obs=rng.normal(size=(steps + 1, schema.obs_size)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, schema.action_size)).astype(np.float32),
        rewards=rng.normal(size=steps).astype(np.float32),
        behavior=rng.random(steps) < 0.5,
        terminated=bool(rng.random() < 0.5),
        advice=rng.uniform(-1, 1, (steps, schema.action_size)).astype(np.float32) if schema.advised else None,
    )
    told = {
        "truncated": False,
        "components": {name: rng.random(steps).astype(np.float32) for name in schema.components},
        "policies": ["qp" if acted else "learned" for acted in fragment.behavior],
        "episode_id": f"e{seed}",
        "first_step": int(rng.integers(100)),
        "scenario": f"week {seed}",
    }
    return RecordedFragment(fragment, **told | other)


def write(folder: Path, count: int = 6, steps: int = 5, per_file: int = 2, schema: RecordingSchema = SCHEMA, first=0):
    """`count` fragments in files of `per_file`; returns them, and the files."""
    fragments = [make(first + i, steps, schema) for i in range(count)]
    writer = FragmentWriter(folder, schema, "part", max_rows=steps * per_file)
    for recorded in fragments:
        writer.add(recorded)
    writer.close()
    return fragments, sorted(folder.glob("*.parquet"))


def assert_same(a: RecordedFragment, b: RecordedFragment) -> None:
    """Every number and every word."""
    for name, ours, theirs in zip(Fragment._fields, a.fragment, b.fragment, strict=True):
        assert np.array_equal(ours, theirs), name
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None), name
    assert list(a.components) == list(b.components)
    assert all(np.array_equal(a.components[name], b.components[name]) for name in a.components)
    told = ("truncated", "policies", "episode_id", "first_step", "scenario")
    assert [getattr(a, name) for name in told] == [getattr(b, name) for name in told]


def rewrite(path: Path, change=lambda table: table, metadata=None) -> None:
    """Changes the row groups of a file, each a table, or the metadata, keeping its columns' types."""
    file = pq.ParquetFile(path)
    tables = [change(file.read_row_group(group)) for group in range(file.num_row_groups)]
    file.close()
    schema = tables[0].schema if metadata is None else tables[0].schema.with_metadata(metadata)
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=max(1, len(table)))


def set_values(table: pa.Table, column: str, change) -> pa.Table:
    """`table` with a column's values as a list changed in place by `change`."""
    values = table.column(column).to_pylist()
    change(values)
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
