"""The code in docs/data.md runs, and its table is the schema."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

import rllib_mafql
from rllib_mafql import MAFQLConfig
from rllib_mafql.offline import open_recording

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
STEPS = 130  # more than two whole episodes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds recordings/case14."""
    folder = tmp_path_factory.mktemp("docs")
    rllib_mafql.register()
    config = (
        MAFQLConfig()
        .environment("grid2op_zones", env_config={"grid": "educ_case14_storage", "max_steps": 48})
        .training(behavior_policies={"qp_zones": 1.0, "do_nothing": 1.0})
        .env_runners(num_env_runners=0)
        .debugging(seed=0)
        .offline_data(output=str(folder / "recordings" / "case14"), output_max_rows_per_file=60)
    )
    runner = config.env_runner_cls(config=config)
    runner.sample(num_timesteps=STEPS, behavior=True)
    runner.stop()
    return folder


def test_the_code_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(BLOCKS) == 4
    pytest.importorskip("torchrl")
    monkeypatch.chdir(folder)
    ray.shutdown()  # another module's
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    scope: dict = {}
    try:
        for block in BLOCKS:
            exec(block, scope)
        assert scope["rows"].count() == len(scope["frame"]) == scope["recording"].rows == len(scope["buffer"]) == STEPS
    finally:
        ray.shutdown()
    stored, fragments = scope["buffer"][:], [recorded.fragment for recorded in scope["recording"].read()]
    following = np.concatenate([fragment.obs[1:] for fragment in fragments])
    assert np.array_equal(stored["next", "observation"], following)
    assert stored["next", "done"].sum() == sum(r.fragment.terminated or r.truncated for r in scope["recording"].read())


def test_the_table_is_the_schema(folder: Path) -> None:
    schema = replace(open_recording(folder / "recordings" / "case14").schema, advised=True)
    found = set(re.findall(r"`([\w.]+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE))))
    written = {re.sub(r"^(obs|actions|advice|final_obs)\..*", r"\1.AGENT", name) for name in schema.arrow.names}
    assert found == {re.sub(r"^reward\..*", "reward.COMPONENT", name) for name in written}
