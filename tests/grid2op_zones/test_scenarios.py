"""The split of the series and the draw of episodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid2op_zones.scenarios import DAY, NOTICE, Scenarios, Segment, split_series

series = st.lists(st.integers(4, 3000), min_size=1, max_size=9)


def rows_of(segments: list[Segment]) -> set[tuple[int, int]]:
    return {(segment.series, row) for segment in segments for row in range(segment.first, segment.last + 1)}


@given(rows=series)
@settings(max_examples=60)
def test_train_and_test_share_no_row_and_leave_none(rows):
    train, test, every = (rows_of(split_series(rows, split)) for split in ("train", "test", "all"))
    assert not train & test
    assert train | test == every == {(k, row) for k, n in enumerate(rows) for row in range(n)}
    assert train and test


def test_the_last_day_is_held_out_where_series_have_two():
    assert split_series([576, 576], "test") == [Segment(0, 288, 575), Segment(1, 288, 575)]
    assert split_series([576, 576], "train") == [Segment(0, 0, 287), Segment(1, 0, 287)]


def test_whole_series_are_held_out_where_they_are_short():
    assert [segment.series for segment in split_series([289] * 7, "test")] == [5, 6]
    assert [segment.series for segment in split_series([289] * 7, "train")] == [0, 1, 2, 3, 4]
    assert [segment.series for segment in split_series([289, 2 * DAY], "test")] == [1]


def test_the_last_third_is_held_out_of_an_only_short_series(caplog):
    assert split_series([289], "train") == [Segment(0, 0, 191)]
    assert split_series([289], "test") == [Segment(0, 192, 288)]
    assert "only one series of 289 steps" in caplog.text


@given(rows=series, seed=st.integers(0, 2**31), max_steps=st.integers(1, 400), split=st.sampled_from(["train", "test"]))
@settings(max_examples=80)
def test_drawn_episodes_stay_inside_their_segment(rows, seed, max_steps, split):
    scenarios = Scenarios(rows, split, max_steps)
    episode = scenarios.draw(np.random.default_rng(seed))
    [segment] = [s for s in scenarios.segments if s.series == episode.series and s.first <= episode.start <= s.last]
    assert episode.start + episode.steps <= segment.last
    assert min(max_steps, 96, segment.steps) <= episode.steps <= max_steps


def test_drawn_starts_reach_both_ends():
    scenarios = Scenarios([12], "all", 4)
    rng = np.random.default_rng(0)
    starts = {scenarios.draw(rng).start for _ in range(200)}
    assert starts == set(range(8))  # from row 7 four steps lead to the last row, 11


@given(rows=series, k=st.integers(0, 200), max_steps=st.integers(1, 400), split=st.sampled_from(["train", "test"]))
@settings(max_examples=80)
def test_numbered_episodes_are_as_long_as_the_data_allow(rows, k, max_steps, split):
    scenarios = Scenarios(rows, split, max_steps)
    seed, episode = scenarios.numbered(k)
    segment = scenarios.segments[k % len(scenarios.segments)]
    assert seed == 10_000 + k
    assert episode.series == segment.series
    assert segment.first <= episode.start
    assert episode.start + episode.steps <= segment.last
    assert episode.steps == min(max_steps, segment.steps)


def test_numbered_episodes_spread_over_the_day():
    scenarios = Scenarios([576], "test", 60)
    starts = [scenarios.numbered(k)[1].start for k in range(8)]
    assert len(set(starts)) == 8
    assert max(np.diff(sorted(starts))) < 60


@pytest.mark.parametrize(("series", "start"), [(0, 287), (0, 575), (2, 300), (-1, 300)])
def test_a_start_outside_the_split_is_refused(series, start):
    with pytest.raises(ValueError, match="it has scenario 0: start 288 to 574, scenario 1: start 288 to 574"):
        Scenarios([576, 576], "test", 10).at(series, start)


def test_a_series_too_short_is_refused():
    with pytest.raises(ValueError, match="a series needs at least 4 steps, one has 3"):
        split_series([576, 3], "train")


# ---------------------------------------------------------------- generated weeks

ROWS = 2016


def calm_weeks(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.sort(rng.choice(ROWS, size, replace=False)) for size in sizes]


@pytest.mark.parametrize("split", ["train", "test"])
def test_weeks_are_whole_in_every_split_and_starts_are_calm_with_room(split):
    calm = calm_weeks(900, 40, 1500)
    scenarios = Scenarios([ROWS] * 3, split, 287, calm)
    assert scenarios.segments == [Segment(k, 0, ROWS - 1) for k in range(3)]
    rng = np.random.default_rng(1)
    episodes = [scenarios.draw(rng) for _ in range(300)] + [scenarios.numbered(k)[1] for k in range(300)]
    assert all(e.start in calm[e.series] and e.steps == 287 for e in episodes)
    counts = np.bincount([e.series for e in episodes[:300]])
    assert counts.min() > 70  # weeks with few calm rows are not rarer


def test_numbered_episodes_go_through_the_weeks_first():
    scenarios = Scenarios([ROWS] * 8, "test", 287, calm_weeks(*[1200] * 8))
    numbered = [scenarios.numbered(k) for k in range(32)]
    assert [seed for seed, _ in numbered] == list(range(10_000, 10_032))
    assert [episode.series for _, episode in numbered] == 4 * list(range(8))
    assert len({(episode.series, episode.start) for _, episode in numbered}) == 32
    # not all weeks are entered at the same time of the day, nor any week twice at nearly the same row
    assert len({episode.start // 288 for _, episode in numbered[:8]}) >= 5
    starts = sorted(episode.start for _, episode in numbered if episode.series == 3)
    assert np.diff(starts).min() > 100


def test_a_week_without_calm_rows_is_left_out(caplog):
    scenarios = Scenarios([ROWS] * 3, "test", 287, calm_weeks(100, 0, 100))
    assert "1 of 3 weeks have no calm start" in caplog.text
    assert {scenarios.numbered(k)[1].series for k in range(6)} == {0, 2}
    assert {scenarios.draw(np.random.default_rng(k)).series for k in range(20)} == {0, 2}


def test_a_share_of_episodes_begins_before_outages_of_every_line_alike():
    calm = [np.arange(1700), np.arange(100, 1700), np.arange(0)]
    outages = [
        np.array([[7, 500, 600], [9, 1000, 1100]]),
        np.array([[7, 900, 950], [4, 120, 130]]),
        np.array([[3, 9, 99]]),
    ]
    none = Scenarios([ROWS] * 3, "train", 287, calm, outages)
    assert none.draw(np.random.default_rng(0)) == Scenarios([ROWS] * 3, "train", 287, calm).draw(
        np.random.default_rng(0)
    )
    half = Scenarios([ROWS] * 3, "train", 287, calm, outages, 0.5)
    rng = np.random.default_rng(1)
    lines = []
    for episode in (half.draw(rng) for _ in range(2000)):
        if episode.outage is not None:
            assert list(episode.outage) in outages[episode.series].tolist()
            assert 0 < episode.outage[1] - episode.start <= NOTICE
        lines.append(episode.outage and episode.outage[0])
    counts = {line: lines.count(line) for line in {*lines}}
    assert counts.keys() == {None, 4, 7, 9}  # line 3's week has no calm start
    assert all(280 < counts[line] < 390 for line in (4, 7, 9)) and 930 < counts[None] < 1070
    assert {half.numbered(k) for k in range(9)} == {none.numbered(k) for k in range(9)}  # evaluation is as it was
    with pytest.raises(ValueError, match="before_outages: no outage that might be planned would overload a line"):
        Scenarios([ROWS], "train", 287, [np.arange(900, 1700)], [outages[0][:1]], 0.5)


def test_an_episode_longer_than_a_week_is_refused():
    with pytest.raises(ValueError, match=r"env_config.max_steps: no generated week has a calm start that leaves 2016"):
        Scenarios([ROWS], "train", ROWS, calm_weeks(ROWS))
