"""Which episode is drawn, and that it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from rllib_mafql.evaluation.episode_plot import choose_episode, episode_figure
from rllib_mafql.evaluation.rollouts import EpisodeResult, Trace


def played(agent: str, k: int, survived: bool, steps: int = 30) -> EpisodeResult:
    trace = Trace(
        rho_max=np.linspace(0.5, 0.9 if survived else 1.6, steps),
        raised_mw={f"zone_{z}": np.full(steps, 10.0 * z) for z in range(3)},
        lowered_mw={f"zone_{z}": np.full(steps, -5.0 * z) for z in range(3)},
        step_minutes=5.0,
        start="2035-08-14T06:10:00",
    )
    return EpisodeResult(agent, k, metrics={"survived": float(survived), "steps": steps}, trace=trace)


def test_an_episode_that_only_the_agent_survives_comes_first() -> None:
    reference = [played("do_nothing", k, k == 0) for k in range(4)]
    agent = [played("a", 0, True), played("a", 1, False), played("a", 2, True)]
    assert choose_episode(reference, agent) == 2
    assert choose_episode(reference, agent[:2]) == 1  # nobody survives it, but it shows how it ends
    assert choose_episode(reference, agent[:1]) == 0
    assert choose_episode(reference, [EpisodeResult("a", 0, error="lost")]) is None


def test_the_figure_is_a_png_with_a_panel_per_zone(tmp_path: Path) -> None:
    path = tmp_path / "episode.png"
    old, new = played("do_nothing", 2, survived=False, steps=20), played("a", 2, survived=True)
    episode_figure(path, reference=("do nothing", old), agent=("A", new), grid="grid")
    assert imread(path).shape[:2] == (int((3.6 + 1.35 * 3) * 150), 11 * 150)
