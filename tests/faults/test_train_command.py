"""`rllib train` in a process of its own: a learner that is killed, preemption, and a full disk."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from rllib_mafql.checkpoint_format import check_checkpoint
from rllib_mafql.cli.checkpoints import find_checkpoint
from tests.faults.patience import patience

ROOT = Path(__file__).parents[2]
TRAIN = """
import sys
from ray import tune
from rllib_mafql.cli.rllib import app
from tests.faults.ledger import LedgerEnv
tune.register_env("ledger", LedgerEnv)
app(["train", "file", *sys.argv[1:]], prog_name="rllib")
"""
#: Of the issue: within which a run goes on that has lost its learner.
BACK_S = 30.0


class Training:
    """`rllib train file` of a small run with a learner and two runners of its own, and what it has printed so far."""

    def __init__(self, folder, *words, iterations=100_000, shell=(), **spec):
        self.folder, self.began = folder, time.monotonic()
        self.storage = folder / "runs"
        config = {
            "num_learners": 1,
            "num_cpus_per_learner": 1,
            "num_env_runners": 2,
            "rollout_fragment_length": 10,
            "sample_async": True,
            "warm_start_steps": 40,
            "num_updates": 2,
            "env_config": {"sleep_s": 0.005},
            **dict.fromkeys(("actor_hidden", "teacher_hidden", "critic_hidden"), 32),
            "train_batch_size_per_learner": 32,
            "min_sample_timesteps_per_iteration": 200,
        }
        spec = {"run": "MAFQL", "env": "ledger", "stop": {"training_iteration": iterations}, "config": config, **spec}
        spec = {"checkpoint_config": {"checkpoint_frequency": 2, "num_to_keep": 2}, **spec}
        (folder / "run.yaml").write_text(yaml.safe_dump({"small": {**spec, "storage_path": str(self.storage)}}))
        self.log = folder / f"log-{time.monotonic_ns()}"
        command = [sys.executable, "-c", TRAIN, str(folder / "run.yaml"), "--ray-num-cpus", "5", *words]
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as out:
            self.process = subprocess.Popen([*shell, *command], stdout=out, stderr=out, env=env, cwd=folder)

    @property
    def output(self):
        return self.log.read_text()

    def iterations(self):
        return [int(number) for number in re.findall(r"^iter +(\d+)", self.output, flags=re.MULTILINE)]

    def wait_for(self, text, limit_s=45.0):
        """Waits until it has printed what matches `text`, or ended."""
        deadline = time.monotonic() + patience(limit_s)
        while not re.search(text, self.output, flags=re.MULTILINE):
            assert time.monotonic() < deadline and self.process.poll() is None, self.output
            time.sleep(0.05)

    def find(self, name):
        """The processes of Ray's actors of a class."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in found if name in " ".join(process.cmdline())]

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience(20))
            except subprocess.TimeoutExpired:
                for child in psutil.Process(self.process.pid).children(recursive=True):
                    child.kill()
                self.process.kill()


@pytest.fixture
def training(tmp_path):
    """Starts one, which ends with the test."""
    started = []

    def start(*words, **settings):
        started.append(Training(tmp_path, *words, **settings))
        return started[-1]

    yield start
    for one in started:
        one.end()


def test_a_killed_learner_costs_no_more_than_the_way_back_to_the_last_checkpoint(training):
    run = training(max_failures=3)
    run.wait_for(r"^iter +5 ")
    (learner,) = run.find("_WrappedExecutable")  # as Ray calls it
    learner.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    run.wait_for("failed")
    (line,) = re.findall(r"^.* failed.*$", run.output, flags=re.MULTILINE)
    promised = r"goes on from iteration (\d+), its last checkpoint \(failure 1, of which 3 are allowed\)"
    last = int(re.search(promised, line)[1])
    assert last >= 4 and "died" in line
    seen = len(run.iterations())
    while len(run.iterations()) == seen:
        assert run.process.poll() is None, run.output
        time.sleep(0.05)
    back = time.monotonic() - killed
    assert run.iterations()[seen] == last + 1
    assert back < patience(BACK_S)

    # as a machine's end is announced
    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(patience(60)) == 128 + signal.SIGTERM, run.output
    assert "SIGTERM: the run ends after the present iteration, with a checkpoint" in run.output
    newest = run.iterations()[-1]
    assert f"would go on from iteration {newest}, its last checkpoint" in run.output
    saved = find_checkpoint(run.storage)  # which refuses a damaged one

    # and a checkpoint that a disk has damaged since is told, not loaded, and not started over from nothing
    state = next(saved.rglob("module_state.pkl"))
    state.write_bytes(state.read_bytes()[:-10])
    again = training("--resume")
    again.process.wait(patience(90))
    assert again.process.returncode != 0 and not again.iterations(), again.output
    assert saved.name in again.output and "damaged" in again.output


@pytest.fixture
def small_disk(tmp_path):
    """What to put before a command so that it finds 4 MB at `tmp_path`/runs; `tmp_path`/kept has these afterwards."""
    runs, kept = tmp_path / "runs", tmp_path / "kept"
    runs.mkdir()
    mount = f"mount -t tmpfs -o size=4m none {runs}"
    if subprocess.run(["unshare", "-Urm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here, not even in a namespace of its own")
    script = f'{mount} || exit 99; "$@"; code=$?; cp -r {runs} {kept}; exit $code'
    return ["unshare", "-Urm", "sh", "-c", script, "sh"], kept


def test_a_disk_that_is_full_ends_the_run_and_leaves_whole_checkpoints(training, small_disk):
    shell, kept = small_disk
    run = training(shell=shell, checkpoint_config={"checkpoint_frequency": 1})
    assert run.process.wait(patience(90)) == 1, run.output
    assert "No space left on device" in run.output
    saved = sorted(path.parent for path in kept.rglob("rllib_checkpoint.json") if path.parent.name.startswith("check"))
    assert len(saved) >= 2
    for checkpoint in saved[:-1]:
        check_checkpoint(str(checkpoint))
