"""The schema of recorded files: what goes in comes out, and what does not belong in is refused."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rllib_mafql.offline import FragmentWriter, RecordingError, RecordingSchema, open_recording
from tests.offline.recordings import FINGERPRINT, SCHEMA, assert_same, make, write

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SIZES = st.integers(1, 6)
SCHEMAS = st.builds(
    RecordingSchema,
    st.lists(st.tuples(NAMES, SIZES, SIZES), min_size=1, max_size=4, unique_by=lambda agent: agent[0]),
    st.none() | st.just({}) | st.builds(dict, grid=NAMES),
    st.lists(NAMES, max_size=3, unique=True),
    st.booleans(),
)
FRAGMENT = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "steps": st.integers(1, 20),
        "truncated": st.booleans(),
        "episode_id": st.text(st.characters(codec="utf-8")),
        "scenario": st.text(st.characters(codec="utf-8")),
        "first_step": st.integers(0, 10**6),
    }
)


@settings(max_examples=60, deadline=None)
@given(schema=SCHEMAS, parts=st.lists(FRAGMENT, min_size=1, max_size=4), max_rows=st.integers(1, 40))
def test_fragments_come_back_from_files_as_they_were(tmp_path_factory, schema, parts, max_rows):
    folder = tmp_path_factory.mktemp("recording")
    fragments = [make(schema=schema, **part) for part in parts]
    writer = FragmentWriter(folder, schema, "part", max_rows)
    for recorded in fragments:
        writer.add(recorded)
    writer.close()
    recording = open_recording(folder)
    assert recording.schema == schema
    assert recording.rows == sum(part["steps"] for part in parts)
    assert recording.fragments == len(parts)
    for ours, theirs in zip(fragments, recording.read(), strict=True):
        assert_same(ours, theirs)


def test_other_programs_can_read_the_rows(tmp_path):
    (first, second), (path,) = write(tmp_path, count=2, steps=3)
    table = pq.read_table(path)
    assert table.column("obs.west").to_pylist() == [
        row.tolist() for f in (first, second) for row in f.fragment.obs[:-1, :3]
    ]
    assert table.column("final_obs.east").to_pylist() == [
        *(None, None, first.fragment.obs[-1, 3:].tolist()),
        *(None, None, second.fragment.obs[-1, 3:].tolist()),
    ]
    frame = table.to_pandas()
    assert frame["step"].tolist() == [f.first_step + t for f in (first, second) for t in range(3)]
    assert frame["terminated"].tolist() == [
        *(False, False, first.fragment.terminated),
        *(False, False, second.fragment.terminated),
    ]
    assert frame["reward.cost"].tolist() == pytest.approx([*first.components["cost"], *second.components["cost"]])
    digest = hashlib.sha256(json.dumps(FINGERPRINT, sort_keys=True).encode()).hexdigest()
    assert set(frame["fingerprint"]) == {digest[:12]}
    metadata = json.loads(pq.read_schema(path).metadata[b"rllib_mafql"])
    assert metadata["agents"] == [["west", 3, 2], ["east", 2, 1]]
    assert (metadata["schema"], metadata["version"]) == ("joint-transitions", 1)


def test_fragments_are_arrays_of_their_own(tmp_path):
    write(tmp_path, count=1)
    (recorded,) = open_recording(tmp_path).read()
    for values in (*recorded.fragment[:4], *recorded.components.values()):
        values[...] = 0  # a view of Arrow's memory could not be written to


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.fragment.obs.__setitem__((2, 4), np.nan), "'obs.east', row 2, component 1: nan is not a finite"),
        (lambda f: f.fragment.obs.__setitem__((5, 0), np.inf), "'final_obs.west', row 4, component 0: inf is not"),
        (
            lambda f: f.fragment.actions.__setitem__((1, 2), -1.01),
            r"'actions.east', row 1, component 0: -1.01.* is out",
        ),
        (lambda f: f.fragment.rewards.__setitem__(3, np.nan), "column 'reward', row 3: nan"),
        (lambda f: f.components["cost"].__setitem__(0, np.nan), "column 'reward.cost', row 0: nan"),
        (lambda f: f.components.pop("cost"), r"components \['safety'\], but the recording has \['cost', 'safety'\]"),
        (lambda f: f.policies.pop(), r"policies has shape \(4,\), expected \(5,\)"),
    ],
)
def test_what_cannot_be_recorded_is_named(change, message):
    recorded = make(1)
    SCHEMA.table(recorded)
    change(recorded)
    with pytest.raises(RecordingError, match=message):
        SCHEMA.table(recorded)


def test_advice_goes_with_a_schema_that_has_it():
    advised = replace(SCHEMA, advised=True)
    with pytest.raises(RecordingError, match=r"advice has shape \(\), expected \(5, 3\)"):
        advised.table(make(1))
    recorded = make(1, schema=advised)
    with pytest.raises(RecordingError, match=r"advice has shape \(5, 3\), expected \(\)"):
        SCHEMA.table(recorded)
    recorded.fragment.advice[4, 2] = 1.5
    with pytest.raises(RecordingError, match=r"'advice.east', row 4, component 0: 1.5 is outside"):
        advised.table(recorded)


def test_a_fragment_of_other_sizes_is_refused():
    other = RecordingSchema((("west", 3, 2), ("east", 3, 1)), None, SCHEMA.components)
    with pytest.raises(RecordingError, match=r"obs has shape \(6, 6\), expected \(6, 5\)"):
        SCHEMA.table(make(1, schema=other))


@pytest.mark.parametrize("agents", [(), (("a", 1, 1), ("a", 2, 2)), (("a", 0, 1),), (("a", 1, 0),)])
def test_agents_that_cannot_be(agents):
    with pytest.raises(ValueError, match="agents with different names and sizes of at least 1"):
        RecordingSchema(agents)


def test_a_fingerprint_is_compared_as_it_is_stored():
    schema = RecordingSchema([["a", np.int64(1), 1]], {"sizes": (1, 2)}, ["cost"])
    assert schema == RecordingSchema((("a", 1, 1),), {"sizes": [1, 2]}, ("cost",))
    assert RecordingSchema.of_file(schema.arrow) == schema


def test_plain_strings_are_read_like_dictionaries(tmp_path):
    (recorded,), (path,) = write(tmp_path, count=1)
    table = pq.read_table(path)
    plain = [f.with_type(pa.string()) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    pq.write_table(table.cast(pa.schema(plain, table.schema.metadata)), path)
    assert_same(recorded, next(open_recording(path).read()))
