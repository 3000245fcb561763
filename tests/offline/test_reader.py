"""Every fault of recorded files is named with its place, or left out if asked for."""

import json
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rllib_mafql.offline import FragmentWriter, RecordingError, RecordingSchema, open_recording
from tests.offline.recordings import FINGERPRINT, SCHEMA, assert_same, rewrite, set_values, write

KEY = b"rllib_mafql"


# ---------------------------------------------------------------- what is found


def test_folders_files_globs_and_uris_name_the_same_recording(tmp_path, monkeypatch):
    fragments, files = write(tmp_path / "a [1]" / "data", count=6)
    (tmp_path / "a [1]" / "data" / ".part-00009.parquet.part").write_bytes(b"a draft")
    (tmp_path / "a [1]" / ".hidden").mkdir()
    (tmp_path / "a [1]" / ".hidden" / "x.parquet").write_bytes(b"not to be read")
    (tmp_path / "a [1]" / "notes.txt").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "a [1]"
    for paths in (
        folder,
        str(folder),
        [str(files[0]), files[1:][0], str(files[2])],
        str(tmp_path / "a*" / "**" / "part-*.parquet"),
        str(tmp_path / "a*"),
        folder.as_uri(),
        "~/a [1]/data",
        [files[0], folder],  # each file once
    ):
        recording = open_recording(paths)
        assert [file.resolve() for file in recording.files] == files
        assert recording.skipped == {}
    for ours, theirs in zip(fragments, recording.read(), strict=True):
        assert_same(ours, theirs)


def test_sizes_are_those_of_the_arrays(tmp_path):
    write(tmp_path, count=6, steps=7)
    recording = open_recording(tmp_path)
    fragments = [recorded.fragment for recorded in recording.read()]
    assert recording.nbytes == sum(f.obs.nbytes + f.actions.nbytes for f in fragments)
    assert (recording.rows, recording.fragments) == (42, 6)


def test_any_order_can_be_read(tmp_path):
    fragments, _ = write(tmp_path, count=6)
    recording = open_recording(tmp_path)
    order = [(2, 1), (0, 0), (0, 0), (1, 1), (1, 0)]
    for place, recorded in zip([5, 0, 0, 3, 2], recording.read(order), strict=True):
        assert_same(fragments[place], recorded)
    assert_same(fragments[4], recording.read_one(2, 0))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("empty", r"no file \*.parquet in .*empty or below; `mafql record --out .*empty` makes some"),
        ("recording/part-00000.parqet", "no file or folder .*; did you mean .*recording/part-00000.parquet"),
        ("nowhere/at/all", "no file or folder .*nowhere/at/all; the nearest existing folder is "),
        ("recording/x*.parquet", "nothing matches .*x"),
        ("s3://bucket/data", "local paths, not from s3://: s3://bucket/data"),
    ],
)
def test_paths_that_lead_nowhere(tmp_path, path, message):
    write(tmp_path / "recording")
    (tmp_path / "empty").mkdir()
    for skip_bad in (False, True):
        with pytest.raises(RecordingError, match=message):
            open_recording(path if "://" in path else str(tmp_path / path), skip_bad=skip_bad)


def test_no_path_at_all():
    with pytest.raises(RecordingError, match="no path"):
        open_recording([])


# ---------------------------------------------------------------- bad files


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(path):
    pd.DataFrame({"obs": [1.0, 2.0], "reward": [0.0, 1.0]}).to_parquet(path)


def with_metadata(**changes):
    def change(path):
        metadata = json.loads(pq.read_schema(path).metadata[KEY]) | changes
        rewrite(path, metadata={KEY: json.dumps(metadata).encode()})

    return change


def other_environment(schema):
    def change(path):
        path.unlink()
        write(path.parent / "other", count=1, schema=schema)[1][0].rename(path)

    return change


def without(*columns):
    return lambda path: rewrite(path, lambda table: table.drop_columns(list(columns)))


def with_double_rewards(path):
    table = pq.read_table(path)
    pq.write_table(table.set_column(5, "reward", table["reward"].cast(pa.float64())), path)


OTHER_UNITS = {**FINGERPRINT, "agents": {**FINGERPRINT["agents"], "east": {"units": ["gen_2", "gen_7"]}}}
BAD_FILES = [
    (truncate, "no whole Parquet file, it was cut short or is something else"),
    (halve, "no whole Parquet file, it was cut short or is something else"),
    (lambda path: path.write_bytes(b""), "no whole Parquet file"),
    (lambda path: path.write_text("episode,reward\n1,2\n"), "no whole Parquet file"),
    (foreign, "written by something else: expected the metadata 'rllib_mafql'"),
    (
        with_metadata(schema="joint-rewards"),
        "written by something else: schema 'joint-rewards', version 1; expected 'joi",
    ),
    (
        with_metadata(version=2, written_by="rllib-mafql 9.0"),
        "schema version 2, by rllib-mafql 9.0, is newer than 1.*: update the package",
    ),
    (with_metadata(agents=[["west"]]), "metadata 'rllib_mafql' is damaged"),
    (lambda path: rewrite(path, metadata={KEY: b"{"}), "metadata 'rllib_mafql' is damaged"),
    (without("obs.east"), "column 'obs.east' is missing"),
    (without("step", "reward.cost"), "column 'step' is missing"),
    (with_double_rewards, "column 'reward' is of type double, expected float"),
    (
        other_environment(RecordingSchema(SCHEMA.agents, {"grid": "case_b"})),
        r"recorded on grid 'case_b', but .*part-00000.parquet on grid 'case_a'",
    ),
    (
        other_environment(RecordingSchema((("west", 3, 2), ("east", 4, 1)), FINGERPRINT)),
        r"another environment than .*part-00000.parquet: east's observation: length 4, there 2",
    ),
    (
        other_environment(RecordingSchema((("west", 3, 2), ("south", 2, 1)), FINGERPRINT)),
        r"agents: west, south, there west, east",
    ),
    (
        other_environment(RecordingSchema(SCHEMA.agents[::-1], FINGERPRINT)),
        r"agents: east, west, there west, east",
    ),
    (
        other_environment(RecordingSchema(SCHEMA.agents, OTHER_UNITS)),
        r"agents.east.units: only \[\"gen_7\"\], there \[\]",
    ),
    (other_environment(RecordingSchema(SCHEMA.agents, None)), r"recorded on grid None"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_FILES)
def test_a_bad_file_is_named_or_left_out(tmp_path, caplog, spoil, message):
    fragments, files = write(tmp_path, count=6)
    spoil(files[1])
    with pytest.raises(RecordingError, match=message) as caught:
        open_recording(files)
    assert str(caught.value).startswith(f"{files[1]}: ")
    assert "offline_skip_bad: true" in str(caught.value) and "--skip-bad" in str(caught.value)

    with caplog.at_level(logging.WARNING):
        recording = open_recording(files, skip_bad=True)
    assert recording.files == [files[0], files[2]]
    assert list(recording.skipped) == [files[1]]
    assert recording.skipped[files[1]] in caplog.text and str(files[1]) in caplog.text
    for ours, theirs in zip(fragments[:2] + fragments[4:], recording.read(), strict=True):
        assert_same(ours, theirs)


def test_nothing_but_bad_files_is_an_error_all_the_same(tmp_path):
    _, files = write(tmp_path, count=8)
    for file in files:
        truncate(file)
    with pytest.raises(RecordingError, match=r"none of 4 files can be used: .*part-00000.* \| and 1 more"):
        open_recording(tmp_path, skip_bad=True)


def test_a_file_cut_anywhere_is_never_read_in_part(tmp_path):
    _, (path,) = write(tmp_path, count=2)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises(RecordingError, match="no whole Parquet file"):
            open_recording(path)


def test_damaged_bytes_are_noticed(tmp_path):
    fragments, (path,) = write(tmp_path, count=2, steps=20)
    whole, rng, noticed = path.read_bytes(), np.random.default_rng(0), 0
    for place in rng.integers(0, len(whole), 300):
        damaged = bytearray(whole)
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            found = list(open_recording(path).read())
        except RecordingError:
            noticed += 1
        else:  # a byte that nothing depends on
            for ours, theirs in zip(fragments, found, strict=True):
                assert_same(ours, theirs)
    assert noticed > 200


def test_a_file_without_steps_is_no_data(tmp_path):
    pq.write_table(SCHEMA.arrow.empty_table(), tmp_path / "x.parquet")
    with pytest.raises(RecordingError, match="holds no steps"):
        open_recording(tmp_path)


def test_files_may_differ_in_their_reward_components(tmp_path):
    write(tmp_path, count=1)
    write(tmp_path / "more", count=1, schema=RecordingSchema(SCHEMA.agents, FINGERPRINT, ("cost", "alive")))
    recording = open_recording(tmp_path)
    assert recording.schema.components == ("cost",)
    assert [list(recorded.components) for recorded in recording.read()] == [["cost"], ["cost"]]


def test_files_may_differ_in_having_advice(tmp_path):
    write(tmp_path, count=1)
    [advised], _ = write(tmp_path / "more", count=1, schema=replace(SCHEMA, advised=True), first=1)
    recording = open_recording(tmp_path)
    found, without = sorted((recorded.fragment for recorded in recording.read()), key=lambda f: f.advice is None)
    assert recording.schema.advised and without.advice is None
    np.testing.assert_array_equal(found.advice, advised.fragment.advice)
    recording.clone_only(["qp"])  # what a policy did is cloned, or the advice, not both
    assert all(recorded.fragment.advice is None for recorded in recording.read())


# ---------------------------------------------------------------- bad row groups


def column(name, change):
    return lambda table: set_values(table, name, change)


def put(row, value):
    return lambda values: values.__setitem__(row, value)


BAD_ROWS = [
    (
        column("obs.west", put(3, [0.0, float("nan"), 0.0])),
        "column 'obs.west', row 3, component 1: nan is not a finite",
    ),
    (column("obs.west", put(3, [0.0, None, 0.0])), "column 'obs.west', row 3, component 1: there is no value"),
    (column("obs.west", put(3, None)), "column 'obs.west', row 3: there is no value"),
    (column("final_obs.east", put(4, [0.0, float("inf")])), "column 'final_obs.east', row 4, component 1: inf is not"),
    (
        column("actions.east", put(2, [-1.5])),
        r"column 'actions.east', row 2, component 0: -1.5 is outside of \[-1, 1\]",
    ),
    (column("reward", put(1, float("-inf"))), "column 'reward', row 1: -inf is not a finite number"),
    (column("reward.cost", put(0, float("nan"))), "column 'reward.cost', row 0: nan is not a finite number"),
    (column("behavior", put(2, None)), "column 'behavior', row 2: there is no value"),
    (column("policy", put(2, None)), "column 'policy', row 2: there is no value"),
    (column("episode_id", put(4, "e99")), "not one fragment: column 'episode_id', row 4 is 'e99' after 'e"),
    (column("step", put(2, 7777)), "not one fragment: column 'step', row 2 is 7777 after"),
    (
        column("fingerprint", put(slice(None), 5 * ["0123456789ab"])),
        "column 'fingerprint', row 0: '0123456789ab', but the",
    ),
    (column("fingerprint", put(1, "0123456789ab")), "not one fragment: column 'fingerprint', row 1"),
    (column("terminated", put(1, True)), "not one fragment: column 'terminated', row 1 ends the episode"),
    (column("truncated", put(0, True)), "not one fragment: column 'truncated', row 0 ends the episode"),
    (column("final_obs.west", put(4, None)), "column 'final_obs.west', row 4 has no value, but exactly the last row"),
    (column("final_obs.west", put(1, [0.0] * 3)), "column 'final_obs.west', row 1 has a value, but exactly the last"),
    (column("final_obs.west", put(4, [0.0] * 2)), "column 'final_obs.west', row 4: expected 3 numbers, got 2"),
    (lambda table: table.slice(0, 4), "column 'final_obs.west', row 3 has no value"),
    (lambda table: pa.concat_tables([table, table]), "not one fragment: column 'step', row 5"),
]


@pytest.mark.parametrize(("change", "message"), BAD_ROWS)
def test_a_bad_row_group_is_named_or_left_out(tmp_path, caplog, change, message):
    fragments, files = write(tmp_path, count=6)
    bad = fragments[3].episode_id
    rewrite(files[1], lambda table: change(table) if table["episode_id"][0].as_py() == bad else table)
    recording = open_recording(tmp_path)
    with pytest.raises(RecordingError, match=message) as caught:
        list(recording.read())
    assert str(caught.value).startswith(f"{files[1]}: row group 1: ")
    assert "offline_skip_bad: true" in str(caught.value)
    with pytest.raises(RecordingError, match=message):
        recording.read_one(1, 1)

    recording = open_recording(tmp_path, skip_bad=True)
    for _ in range(2):
        with caplog.at_level(logging.WARNING):
            for ours, theirs in zip(fragments[:3] + fragments[4:], recording.read(), strict=True):
                assert_same(ours, theirs)
    assert list(recording.skipped) == [files[1]]
    assert recording.skipped[files[1]].startswith("row group 1: ")
    assert len(caplog.records) == 1 and str(files[1]) in caplog.text
    assert (1, 1) not in recording.index() and len(recording.index()) == 5


def test_nothing_but_bad_row_groups_is_an_error_all_the_same(tmp_path):
    _, (path,) = write(tmp_path, count=2)
    rewrite(path, column("reward", put(0, float("nan"))))
    recording = open_recording(tmp_path, skip_bad=True)
    for _ in range(2):
        with pytest.raises(RecordingError, match=r"no row group .* can be used: .*row group 0: .*; row group 1: "):
            list(recording.read())


def test_files_that_change_while_they_are_read(tmp_path):
    fragments, files = write(tmp_path, count=6)
    recording = open_recording(tmp_path, skip_bad=True)
    files[0].unlink()
    rewrite(files[1], lambda table: table.drop_columns("obs.west"))
    write(tmp_path / "more", count=1)[1][0].replace(files[2])
    with pytest.raises(RecordingError, match=r"part-00000.parquet: cannot be read \(.*No such file"):
        recording.read_one(0, 0)
    with pytest.raises(RecordingError, match=r"part-00001.parquet: row group 0 is damaged .*obs.west"):
        recording.read_one(1, 0)
    with pytest.raises(RecordingError, match=r"part-00002.parquet: there is no row group 1 any more"):
        recording.read_one(2, 1)
    (recorded,) = recording.read()
    assert_same(fragments[0], recorded)
    assert sorted(recording.skipped) == files


# ---------------------------------------------------------------- other environments


def test_data_of_the_same_environment_pass(tmp_path):
    write(tmp_path)
    recording = open_recording(tmp_path)
    recording.check([["west", 3, 2], ["east", 2, 1]], FINGERPRINT)
    recording.check(SCHEMA.agents, None)  # an environment that does not say what it is


@pytest.mark.parametrize(
    ("agents", "fingerprint", "message"),
    [
        (
            SCHEMA.agents,
            {"grid": "case_b"},
            "on grid 'case_a', but env_config has grid 'case_b'; set env_config grid to 'ca",
        ),
        ([("all", 5, 3)], {"grid": "case_b"}, "on grid 'case_a', but env_config has grid 'case_b'"),
        (
            [("west", 3, 2), ("east", 2, 3)],
            FINGERPRINT,
            "east's action: length 1 in the recording, 3 here; set zones, observability and actions in env_config",
        ),
        ([("west", 9, 2), ("east", 2, 1)], None, "west's observation: length 3 in the recording, 9 here"),
        ([("a", 3, 2), ("b", 2, 1)], None, "agents: west, east in the recording, a, b here"),
        (SCHEMA.agents, OTHER_UNITS, r"agents.east.units: only \[\] in the recording, \[\"gen_7\"\] here"),
    ],
)
def test_data_of_another_environment_are_refused(tmp_path, agents, fingerprint, message):
    write(tmp_path)
    with pytest.raises(RecordingError, match=message):
        open_recording(tmp_path).check(agents, fingerprint)


def test_only_some_policies_actions_are_to_be_cloned(tmp_path):
    written, _ = write(tmp_path)
    for recorded in written[::2]:
        recorded.policies = ["qp", "random", "qp", "random", "qp"]
    writer = FragmentWriter(tmp_path / "new", SCHEMA, "part")
    for recorded in written:
        writer.add(recorded)
    writer.close()
    recording = open_recording(tmp_path / "new")
    recording.clone_only(["random"])
    for before, after in zip(written, recording.read(), strict=True):
        wanted = before.fragment.behavior & np.array([name == "random" for name in before.policies])
        assert np.array_equal(after.fragment.behavior, wanted)
        assert np.array_equal(after.fragment.actions, before.fragment.actions)
    assert np.array_equal(recording.read_one(0, 0).fragment.behavior, next(recording.read()).fragment.behavior)
    with pytest.raises(RecordingError, match="no step was played by 'ramdom', only by learned, qp, random; did you"):
        recording.clone_only(["qp", "ramdom"])
