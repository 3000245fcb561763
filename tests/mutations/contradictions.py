"""Malformed experiment files written by hand: one thing wrong in an example that no rule of `mutate` would find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.mutations.mutate import EXAMPLES, Mutation, changed, without

_BY_NAME = {file.stem: file for file in EXAMPLES}
SMALL, SAFE, PPO = _BY_NAME["case14_mafql"], _BY_NAME["case14_mafql_safe"], _BY_NAME["case118_ppo"]
SAC, OFFLINE, MAIN = _BY_NAME["case14_sac"], _BY_NAME["case118_mafql_offline"], _BY_NAME["case118_mafql"]

ENV = ("config", "env_config")
EVAL_ENV = ("config", "evaluation_config", "env_config")
SCENARIOS = (*ENV, "scenarios")
CASE14 = [[0, 1, 4], [2, 3, 6, 7, 8], [5, 9, 10, 11, 12, 13]]

#: Example, path below the experiment, wrong value, what the message must name, nearest right thing.
VALUES: list[tuple[Path, tuple[str, ...], Any, str, str]] = [
    # names
    (SMALL, ("run",), "MAFQ", "run: unknown algorithm 'MAFQ'", "'MAFQL'"),
    (SMALL, ("run",), "mafql", "run: unknown algorithm", "'MAFQL'"),
    (SMALL, ("run",), "rllib_mafql.MAFQLL", "run: rllib_mafql", "'MAFQL"),
    (SMALL, ("run",), "rllib_mafql.slots.RingSlots", "run: ", ""),
    (SMALL, ("env",), "grid2op_zone", "env: unknown environment 'grid2op_zone'", "'grid2op_zones'"),
    (SMALL, ("config", "env"), "CartPole-v1", "env 'grid2op_zones' and config.env 'CartPole-v1' disagree", ""),
    (SMALL, ("config", "behavior_policies"), {"qp_zone": 1.0}, "config.behavior_policies", "'qp_zones'"),
    (SMALL, ("config", "behavior_policies"), {"QP": 1.0}, "config.behavior_policies", "'qp'"),
    (SMALL, ("config", "behavior_policies"), {"qp": 0.0}, "config.behavior_policies", "not all 0"),
    (SMALL, ("config", "behavior_policies"), {}, "config.behavior_policies", "not all 0"),
    (SMALL, ("config", "behavior_policies"), {3: 1.0}, "config.behavior_policies", "names"),
    (SMALL, ("config", "advisor"), "qp_zone", "config.advisor", "'qp_zones'"),
    (SMALL, ("config", "advisor"), "random", "config.advisor", "other than random"),
    (SMALL, ("config", "conservatism"), "join", "config.conservatism", "'joint'"),
    (SMALL, ("config", "execution"), "centralised", "config.execution", "'centralized'"),
    (SMALL, ("config", "precision"), "float16", "config.precision", "float32"),
    (SMALL, ("config", "batch_mode"), "complete_episode", "config.batch_mode", "'complete_episodes'"),
    (SMALL, ("config", "framework"), "tf2", "config.framework", "torch"),
    (PPO, ("config", "callbacks"), "grid2op_zones.callbacks.EpisodeMetric", "config.callbacks", "'EpisodeMetrics'"),
    (PPO, ("config", "callbacks"), "grid2op_zone.callbacks.EpisodeMetrics", "config.callbacks", "PYTHONPATH"),
    # grids and zones
    (SMALL, (*ENV, "grid"), "educ_case14_storag", "env_config.grid", "'educ_case14_storage'"),
    (MAIN, (*ENV, "grid"), "l2rpn_idf_2032", "env_config.grid", "'l2rpn_idf_2023'"),
    (MAIN, (*ENV, "grid"), "/no/such/folder", "env_config.grid", "unknown grid"),
    (MAIN, (*ENV, "grid"), ".", "env_config.grid", "Grid2Op cannot make"),
    (MAIN, (*EVAL_ENV, "grid"), "l2rpn_idf_2032", "evaluation_config.env_config.grid", "'l2rpn_idf_2023'"),
    (SMALL, (*ENV, "zones"), [[0, 1], [2, 3]], "env_config.zones", "is in no zone"),
    (SMALL, (*ENV, "zones"), [*CASE14, [0]], "env_config.zones", "stands 2 times"),
    (SMALL, (*ENV, "zones"), [*CASE14[:2], [*CASE14[2], 14]], "env_config.zones[2]", "ids run from 0 to 13"),
    (SMALL, (*ENV, "zones"), [*CASE14, []], "env_config.zones[3]", "is empty"),
    (SMALL, (*ENV, "zones"), [["sub_0", "sub_99"], [1]], "env_config.zones[0]", "the nearest name is 'sub_"),
    (SMALL, (*ENV, "zones"), {"north": [0]}, "env_config.zones", "a number of zones or a list of lists"),
    (SMALL, (*ENV, "zones"), [0, 1, 2], "env_config.zones[0]", "expected a list of substation ids"),
    (SMALL, (*ENV, "zones"), [[0.5], [1]], "env_config.zones[0]", "is no substation"),
    (SMALL, (*ENV, "zones"), 15, "env_config.zones", "1..14"),
    (SMALL, (*ENV, "zones"), 0, "env_config.zones", "a number of zones"),
    (SMALL, (*ENV, "zones"), "three", "env_config.zones", "a number of zones"),
    (SMALL, (*EVAL_ENV, "zones"), 15, "evaluation_config.env_config.zones", "1..14"),
    # what zones see, do and are rewarded for
    (SMALL, (*ENV, "reward"), {"safty": 1.0}, "reward.safty", "'reward.safety'"),
    (SMALL, (*ENV, "reward"), {"emissions": 0.2}, "reward.emissions", "valid key"),
    (SMALL, (*ENV, "reward"), {"cost": -0.1}, "env_config.reward.cost", "at least 0"),
    (SMALL, (*ENV, "reward"), {"cost": "0,2"}, "env_config.reward.cost", "a weight"),
    (SMALL, (*ENV, "reward"), dict.fromkeys(("safety", "cost", "renewables", "alive"), 0), "env_config.reward", "all"),
    (SMALL, (*ENV, "observability"), "locale", "env_config.observability", "'local'"),
    (SMALL, (*ENV, "actions"), ["redispatch", "curtial"], "env_config.actions", "'curtail'"),
    (SMALL, (*ENV, "actions"), ["storage", "storage"], "env_config.actions", "different"),
    (SMALL, (*ENV, "actions"), [], "env_config.actions", "at least one"),
    (SMALL, (*ENV, "actions"), "redispatch", "env_config.actions", "a list"),
    (SMALL, (*ENV, "balance"), "zones", "env_config.balance", "'zone'"),
    (SMALL, (*ENV, "curtail_step"), 1.5, "env_config.curtail_step", "(0, 1]"),
    (SMALL, (*ENV, "opponent"), "yes please", "env_config.opponent", "true or false"),
    (SMALL, (*ENV, "idle_threshold"), -0.5, "env_config.idle_threshold", "at least 0"),
    (SMALL, (*ENV, "thermal_limit_scale"), 0, "env_config.thermal_limit_scale", "above 0"),
    (SMALL, (*ENV, "fast_step"), 1, "env_config.fast_step", "true or false"),
    (SMALL, (*ENV, "max_steps"), 287.5, "env_config.max_steps", "whole number"),
    (SAFE, (*ENV, "max_steps"), 2016, "env_config.max_steps", "2016 rows"),
    (SAFE, (*ENV, "safety"), "lines", "env_config.safety", "a mapping"),
    (SAFE, (*ENV, "safety", "level"), "line", "env_config.safety.level", "'lines'"),
    (SAFE, (*ENV, "safety", "loading"), 0, "env_config.safety.loading", "above 0"),
    (SAFE, (*ENV, "redispatch_solver"), "slsq", "env_config.redispatch_solver", "'slsqp'"),
    # scenarios
    (SMALL, (*SCENARIOS, "source"), "generate", "env_config.scenarios.source", "'generated'"),
    (SMALL, (*SCENARIOS, "source"), "folder", "env_config.scenarios.path", "give a path"),
    (SMALL, (*SCENARIOS, "path"), "series", "env_config.scenarios.path", "give a path"),
    (SMALL, SCENARIOS, {"source": "folder", "path": "/no/such/folder"}, "env_config.scenarios.path", "is no folder"),
    (SMALL, SCENARIOS, {"source": "folder", "path": "empty"}, "env_config.scenarios.path", "no series in"),
    (SMALL, SCENARIOS, {"source": "folder", "path": "x.yaml"}, "env_config.scenarios.path", "is no folder"),
    (SMALL, SCENARIOS, {"source": "generated", "path": "x.yaml"}, "env_config.scenarios.path", "is no folder"),
    (SMALL, (*SCENARIOS, "split"), "training", "env_config.scenarios.split", "'train'"),
    (SMALL, (*SCENARIOS, "weeks"), 1000, "env_config.scenarios.weeks", "goes beyond"),
    (SMALL, (*SCENARIOS, "weeks"), [0, 99], "env_config.scenarios.weeks", "goes beyond"),
    (SMALL, (*SCENARIOS, "weeks"), [1, 1], "env_config.scenarios.weeks", "different"),
    (MAIN, (*SCENARIOS, "weeks"), [0, 1], "env_config.scenarios.weeks", "a number of weeks"),
    (MAIN, (*SCENARIOS, "seed"), -1, "env_config.scenarios.seed", "at least 0"),
    (SMALL, (*EVAL_ENV, "scenarios", "split"), "tset", "evaluation_config.env_config.scenarios.split", "'test'"),
    # schedules
    (MAIN, ("config", "lr"), [[0, 1e-3], [5000, 1e-4], [2500, 1e-3]], "config.lr", "growing steps"),
    (MAIN, ("config", "lr"), [[100, 1e-3], [2500, 1e-4]], "config.lr", "[[0, value]"),
    (MAIN, ("config", "lr"), [[0, 1e-3]], "config.lr", "schedule"),
    (MAIN, ("config", "lr"), [[0, 1e-3], [2500, -1e-4]], "config.lr", "at least 0"),
    (MAIN, ("config", "lr"), [[0, 1e-3, 1], [2500, 1e-4, 2]], "config.lr", "[step, value]"),
    (MAIN, ("config", "lr"), {0: 1e-3, 2500: 1e-4}, "config.lr", ""),
    (MAIN, ("config", "bc_coeff"), [[0, 0.5], [0, 0.1]], "config.bc_coeff", "growing steps"),
    (MAIN, ("config", "bc_coeff"), [[0, 0.5], [-5, 0.1]], "config.bc_coeff", "growing steps"),
    (MAIN, ("config", "q_coeff"), [[0, 0.5], ["end", 0.1]], "config.q_coeff", "schedule"),
    (PPO, ("config", "lr"), [[0, 1e-3], [5000, 1e-4], [2500, 1e-3]], "config.lr", "growing steps"),
    (PPO, ("config", "entropy_coeff"), [[10, 0.1], [50, 0.0]], "config.entropy_coeff", "schedule"),
    # settings against each other
    (SMALL, ("config", "warm_start_steps"), 50001, "warm_start_steps", "at most replay_capacity (50000)"),
    (SMALL, ("config", "reward_bounds"), [1.0, 0.0], "config.reward_bounds", "[low, high]"),
    (SMALL, ("config", "reward_bounds"), [0.0, 0.5, 1.0], "config.reward_bounds", "[low, high]"),
    (SMALL, ("config", "gamma"), 1.0, "config.gamma", "less than 1"),
    (SMALL, ("config", "flow_steps"), 6, "config.flow_steps", "from 1 to 5"),
    (SMALL, ("config", "n_step"), 256, "config.n_step", "from 1 to 255"),
    (SMALL, ("config", "actor_hidden"), 10**6, "config.actor_hidden", "from 1 to 65536"),
    (SMALL, ("config", "offline_updates"), 100, "offline_updates", "input_"),
    (SMALL, ("config", "offline_cloned_policies"), ["qp"], "offline_cloned_policies", "input_"),
    (SMALL, ("config", "num_env_runners"), 1000, "a trial needs 501 CPU", "num_env_runners"),
    (SMALL, ("config", "num_env_runners"), 10**9, "config.num_env_runners", "100000"),
    (SMALL, ("config", "total_train_batch_size"), 5, "config.total_train_batch_size", "follows from other settings"),
    (SMALL, ("config", "num_rollout_workers"), 2, "config.num_rollout_workers", "num_env_runners"),
    (SMALL, ("config", "buffer_size"), 100, "config.buffer_size", "no longer uses"),
    (PPO, ("config", "minibatch_size"), 8192, "minibatch_size", "train_batch_size_per_learner"),
    (PPO, ("config", "policies"), ["zone_0", "zone_1"], "config.policies", "none for zone_2"),
    (PPO, ("config", "policies"), ["zone_0", "zone_1", "zone_3"], "config.policies", "none for zone_2"),
    (PPO, ("config", "policies"), None, "config.policies", "[zone_0, zone_1, zone_2]"),
    (PPO, (*ENV, "zones"), 4, "config.policies", "none for zone_3"),
    (PPO, ("config", "lambda"), 1.5, "config.lambda", "from 0 to 1"),
    (PPO, ("config", "clip_param"), 0, "config.clip_param", "above 0"),
    (PPO, ("config", "seed"), 2**32, "config.seed", "from 0"),
    (OFFLINE, ("config", "input_"), "recordings/none", "config.input_", "there is no file or folder"),
    (OFFLINE, ("config", "input_"), "x.yaml", "config.input_", "x.yaml"),
    (OFFLINE, ("config", "input_"), [], "config.input_", "a path"),
    (OFFLINE, ("config", "input_"), "s3://bucket/data", "config.input_", "local paths"),
    # evaluation
    (SMALL, ("config", "evaluation_duration"), 0, "config.evaluation_duration", "at least 1"),
    (SMALL, ("config", "evaluation_duration"), "all", "config.evaluation_duration", "'auto'"),
    (SMALL, ("config", "evaluation_duration_unit"), "episode", "config.evaluation_duration_unit", "'episodes'"),
    (SMALL, ("config", "evaluation_config"), {"explor": False}, "evaluation_config.explor", "'explore'"),
    (SMALL, ("config", "evaluation_config"), {"explore": "no way"}, "evaluation_config.explore", "true or false"),
    (SMALL, ("config", "evaluation_config"), [False], "config.evaluation_config", "a mapping"),
    (SMALL, ("config", "evaluation_config", "env_config"), "test", "evaluation_config.env_config", "a mapping"),
    # models and buffers
    (PPO, ("config", "model_config", "fcnet_hiddens"), [256, 0], "model_config.fcnet_hiddens", "widths"),
    (PPO, ("config", "model_config", "fcnet_hiddens"), [256, "256"], "model_config.fcnet_hiddens", "widths"),
    (PPO, ("config", "model_config", "fcnet_activation"), "thanh", "model_config.fcnet_activation", "'tanh'"),
    (PPO, ("config", "model_config", "fcnet_hidden"), [64], "model_config.fcnet_hidden", "'fcnet_hiddens'"),
    (PPO, ("config", "model_config", "use_lstm"), "no", "model_config.use_lstm", "true or false"),
    (PPO, ("config", "model_config", "max_seq_len"), 0.5, "model_config.max_seq_len", "whole number"),
    (SAC, ("config", "replay_buffer_config", "type"), "PrioritisedBuffer", "replay_buffer_config.type", "Prioritized"),
    (SAC, ("config", "replay_buffer_config", "capacity"), 0, "replay_buffer_config.capacity", "at least 1"),
    (SAC, ("config", "replay_buffer_config", "size"), 10, "replay_buffer_config.size", "valid one"),
    # stop criteria that can never be met, or are met at once
    (SMALL, ("stop",), {"training_iterations": 10}, "stop.training_iterations", "'training_iteration'"),
    (SMALL, ("stop",), {"num_learner_update": 10}, "stop.num_learner_update", "'num_learner_updates'"),
    (SMALL, ("stop",), {"loss": 0.1}, "stop.loss", "no metric that MAFQL reports"),
    (SMALL, ("stop",), {"env_runner/episode_return_mean": 5}, "stop.env_runner/", "'env_runners/episode_return_mean'"),
    (SMALL, ("stop",), {"env_runners": {"episode_retrun_mean": 5}}, "stop.env_runners/", "episode_return_mean'"),
    (SMALL, ("stop",), {"training_iteration": 0}, "stop.training_iteration", "above 0"),
    (SMALL, ("stop",), {"num_learner_updates": -5}, "stop.num_learner_updates", "above 0"),
    (SMALL, ("stop",), {"num_learner_updates": float("nan")}, "stop.num_learner_updates", "finite"),
    (SMALL, ("stop",), {"time_total_s": float("inf")}, "stop.time_total_s", "finite"),
    (SMALL, ("stop",), {"time_total_s": "1h"}, "stop.time_total_s", "a number"),
    (SMALL, ("stop",), {"time_total_s": True}, "stop.time_total_s", "a number"),
    (SMALL, ("stop",), {"time_total_s": None}, "stop.time_total_s", "a number"),
    (SMALL, ("stop",), [10], ".stop", "a mapping"),
    (SMALL, ("stop",), 10, ".stop", "a mapping"),
    (PPO, ("stop",), {"num_learner_updates": 100}, "stop.num_learner_updates", "only MAFQL"),
    (OFFLINE, ("stop",), {"num_env_steps_sampled_lifetime": 100}, "stop.num_env_steps_sampled_lifetime", "recorded"),
    (OFFLINE, ("stop",), {"env_runners/episode_return_mean": 1}, "stop.env_runners/episode_return_mean", "recorded"),
    # the rest of an experiment
    (SMALL, ("num_samples",), 0, ".num_samples", "at least 1"),
    (SMALL, ("num_samples",), 1.5, ".num_samples", "whole number"),
    (SMALL, ("num_samples",), True, ".num_samples", "whole number"),
    (SMALL, ("max_failures",), -2, ".max_failures", "at least -1"),
    (SMALL, ("storage_path",), 5, ".storage_path", "a text"),
    (SMALL, ("storage_path",), "", ".storage_path", "a text"),
    (SMALL, ("storage_path",), "x.yaml", "storage_path", "x.yaml"),
    (SMALL, ("storage_path",), "s4://bucket/runs", "storage_path", "'s3'"),
    (SMALL, ("restore",), "nowhere", "restore: nowhere", "no such folder"),
    (SMALL, ("restore",), ".", "restore: .", "no checkpoint in it"),
    (SMALL, ("restore",), "x.yaml", "restore: x.yaml", "it is a file"),
    (SMALL, ("restore",), 3, ".restore", "a text"),
    (SMALL, ("checkpoint_config",), {"checkpoint_freq": 5}, "checkpoint_config.checkpoint_freq", "_frequency'"),
    (SMALL, ("checkpoint_config",), {"num_to_keep": 0}, "checkpoint_config.num_to_keep", "at least 1"),
    (SMALL, ("checkpoint_config",), {"checkpoint_frequency": -5}, "checkpoint_config.checkpoint_frequency", "at least"),
    (SMALL, ("checkpoint_config",), {"checkpoint_frequency": "5"}, "checkpoint_config.checkpoint_frequency", "whole"),
    (SMALL, ("checkpoint_config",), {"checkpoint_score_order": "best"}, "checkpoint_config.checkpoint_score_order", ""),
    (SMALL, ("checkpoint_config",), {"checkpoint_score_attribute": 5}, "checkpoint_score_attribute", "a metric"),
    (
        SMALL,
        ("checkpoint_config",),
        {"checkpoint_score_attribute": "env_runners/episode_return_men"},
        "checkpoint_score_attribute",
        "'env_runners/episode_return_mean'",
    ),
    (SMALL, ("checkpoint_config",), [True], ".checkpoint_config", "a mapping"),
    (SMALL, ("keep_checkpoints_num",), 0, ".keep_checkpoints_num", "at least 1"),
    (SMALL, ("config",), [1], ".config", "a mapping"),
    (SMALL, ("config",), "fast", ".config", "a mapping"),
    (SMALL, ("config", "lr"), {"grid_search": 3}, "config.lr", "a list"),
    (SMALL, ("config", "lr"), {"grid_search": [1e-3, -1]}, "lr: must be", "at least 0"),
    (SMALL, ("config", "flow_steps"), {"grid_search": [1, 9]}, "flow_steps: must be", "from 1 to 5"),
]

#: Example, path below the experiment to leave out, what the message must name, what it must say.
MISSING: list[tuple[Path, tuple[str, ...], str, str]] = [
    (SMALL, ("run",), ".run", "must name an algorithm"),
    (SMALL, ("env",), ".env", "missing"),
    (PPO, ("env",), ".env", "missing"),
    (PPO, ("config", "policies"), "config.policies", "zone_0"),
    (SAC, ("config", "policies"), "config.policies", "zone_0"),
    (SAC, ("config",), "config.policies", "zone_0"),
    (OFFLINE, ("config", "input_"), "offline_cloned_policies", "input_"),
]


def contradictions(files: list[Path]) -> Iterator[Mutation]:
    """All of the above."""
    for file, path, value, place, hint in VALUES:
        yield Mutation(f"{file.stem}: {'.'.join(path)} = {value!r}", changed(file, path, value), place, hint)
    for file, path, place, hint in MISSING:
        yield Mutation(f"{file.stem} without {'.'.join(path)}", without(file, path), place, hint)
    content = changed(SMALL, ("stop",), {"evaluation/env_runners/episode_return_mean": 5})
    content = content.replace(b"evaluation_interval: 5\n", b"evaluation_interval: null\n")
    yield Mutation("a stop criterion of evaluation, without it", content, "stop.evaluation/", "evaluation_interval")
