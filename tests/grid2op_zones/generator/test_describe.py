"""The report on a folder of weeks."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from grid2op_zones.generator import GridModel, describe, plot, write_weeks


def test_the_report_compares_weeks_with_the_recorded_series(case14: GridModel, tmp_path: Path) -> None:
    weeks = [(date(2035, 1, 8), 0), (date(2035, 1, 8), 2), (date(2035, 7, 9), 0)]
    list(write_weeks(case14, weeks, tmp_path))
    report = json.loads(json.dumps(describe(tmp_path, episodes=6, resets=10)))
    assert report["grid"] == "l2rpn_case14_sandbox" and report["weeks"] == 3
    assert report["months"] == pytest.approx({"1": 1.0, "7": 1.0}, abs=0.1)
    assert len(report["series"]) == 3
    for entry in report["series"]:
        assert entry["weeks"] == 2  # July is no neighbour of January
        assert entry["generated"]["load_mw"] == pytest.approx(entry["recorded"]["load_mw"], rel=0.2)
        assert entry["load_shape_correlation"][1] > 0.7
    # the 14-bus grid holds without help, recorded or generated
    survival = report["survival"]
    assert survival["recorded"]["survived"] == 1.0 and survival["generated"]["survived"] == 1.0
    assert survival["generated"]["low"] == pytest.approx(0.6097, abs=1e-4)  # of six, all
    assert {month: shares["episodes"] for month, shares in survival["months"].items()} == {"1": 4, "7": 2}
    assert {month: shares["shortest"] for month, shares in survival["whole_weeks"].items()} == {"1": 2015, "7": 2015}
    assert 0.0 < report["reset_ms"]["generated"] < report["reset_ms"]["recorded_csv"]

    july = describe(tmp_path, episodes=2, months=[7], resets=0)
    assert list(july["survival"]["months"]) == ["7"] and "reset_ms" not in july
    with pytest.raises(ValueError, match=r"no week begins in the months \[5\]"):
        describe(tmp_path, episodes=2, months=[5], resets=0)

    picture = plot(tmp_path, tmp_path / "report" / "weeks.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
