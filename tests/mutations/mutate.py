"""Malformed experiment files, made from the tuned examples: each is one example with one thing wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rllib_mafql.cli.space import EXPRESSIONS
from rllib_mafql.cli.yaml_values import parse

_FOLDER = Path(__file__).parents[2] / "tuned_examples"

#: The examples of one experiment each; the baselines, several in a file, have the same settings.
EXAMPLES = sorted(file for file in _FOLDER.glob("*.yaml") if len(yaml.safe_load(file.read_text())) == 1)

Path_ = tuple[str, ...]

#: Mappings whose keys are the user's own names: their mutations are written by hand, see `contradictions`.
FREE = ("behavior_policies", "stop")

#: Settings that may be left to their default by null.
NULLABLE = (
    *("advisor", "output"),
    *("seed", "torch_num_threads", "evaluation_interval", "min_time_s_per_iteration", "grad_clip", "reward_bounds"),
    *("projected_cloning_distance", "offline_updates", "offline_cloned_policies", "num_to_keep", "callbacks", "weeks"),
    *("checkpoint_frequency", "checkpoint_at_end", "training_intensity", "train_batch_size_per_learner"),
    *("minibatch_size", "num_epochs", "vf_clip_param", "lambda", "input_", "min_sample_timesteps_per_iteration"),
    *("head_fcnet_hiddens", "head_fcnet_activation", "fcnet_activation", "env"),
)

#: Numbers that may be 0.
MAY_BE_ZERO = (
    *("seed", "behavior_noise", "behavior_fraction", "takeover_fraction", "warm_start_steps", "warm_start_updates"),
    "before_outages",
    *(
        "bc_coeff",
        "flow_matching_coeff",
        "td_coeff",
        "distillation_coeff",
        "conservative_coeff",
        "q_coeff",
        "gamma",
        "obs_noise",
        "lr",
        "tau",
        "alpha",
    ),
    *("num_env_runners", "num_cpus_per_env_runner", "evaluation_num_env_runners", "min_time_s_per_iteration"),
    *("offline_updates", "offline_fraction", "others", "projected_cloning_distance", "lambda", "vf_clip_param"),
    *("checkpoint_frequency", "evaluation_interval", "actor_lr", "critic_lr", "alpha_lr", "beta"),
    *("num_steps_sampled_before_learning_starts", "min_sample_timesteps_per_iteration", "grad_clip"),
)


#: What is right after all.
HARMLESS = (
    *(("time_total_s", label) for label in ("huge", "a fraction")),
    *(("training_intensity", label) for label in ("huge", "a fraction")),
    ("rollout_fragment_length", "a number"),  # beside "auto"
    ("output", "another text"),
    *((key, "a fraction") for key in ("perturbation_interval", "burn_in_period", "grace_period", "reduction_factor")),
    *((key, "0") for key in ("burn_in_period", "quantile_fraction", "random_state")),
    ("random_state", "null"),
)


#: What is right after all below these mappings: a weight of 0, a list of values to change to.
HARMLESS_IN = ((("behavior_policies",), "0"), (("hyperparam_mutations",), "a list"))


@dataclass(frozen=True)
class Mutation:
    """A file, and what the message must say."""

    name: str
    content: bytes
    place: str  #: what the message must name, beside the file
    hint: str = ""  #: the nearest right thing, which it must offer


def example(file: Path) -> dict[str, Any]:
    """The experiments in an example."""
    return parse(file.read_text(), file.name)


@cache
def _read(file: Path) -> dict[str, Any]:
    return example(file)


def changed(file: Path, path: Path_, value: Any) -> bytes:
    """The example with another value at a path below its experiment."""
    document = copy.deepcopy(_read(file))
    node = document[file.stem]
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    return dump(document)


def without(file: Path, path: Path_) -> bytes:
    """The example without what is at a path below its experiment."""
    document = copy.deepcopy(_read(file))
    node = document[file.stem]
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    return dump(document)


def dump(document: Any) -> bytes:
    """A document as YAML."""
    return yaml.safe_dump(document, sort_keys=False).encode()


def misspelt_keys(files: list[Path]) -> Iterator[Mutation]:
    """Every key of the examples, at every level, without one of its letters; those of each algorithm once."""
    seen = set()
    for file in files:
        spec = _read(file)[file.stem]
        for path, _ in _nodes(spec):
            key = path[-1]
            if (len(path) > 1 and path[-2] in FREE) or (spec["run"], path) in seen:
                continue
            seen.add((spec["run"], path))
            wrong = key[: len(key) // 2] + key[len(key) // 2 + 1 :]
            document = copy.deepcopy(_read(file))
            node = document[file.stem]
            for step in path[:-1]:
                node = node[step]
            renamed = {wrong if name == key else name: value for name, value in node.items()}
            node.clear()
            node.update(renamed)
            place, hint = wrong, f"{key}'"
            if key in EXPRESSIONS:
                place = ".".join(path[:-1])  # its setting is what is no search space
            elif key == "type" and path[0] in ("scheduler", "search_alg"):
                hint = "type: "
            yield Mutation(f"{file.stem}: {'.'.join(path)} as {wrong}", dump(document), place, hint)


def wrong_values(files: list[Path]) -> Iterator[Mutation]:
    """Every value of the examples replaced by others of a wrong type or range, each setting of an algorithm once."""
    seen = set()
    for file in files:
        spec = _read(file)[file.stem]
        for path, value in _nodes(spec):
            kind = (spec["run"], path)
            if kind in seen or (len(path) > 1 and path[-2] == "stop" and path[-1] not in ("time_total_s",)):
                continue
            seen.add(kind)
            for label, wrong in _wrong(path[-1], value):
                if (path[-1], label) in HARMLESS or (path[-2:-1], label) in HARMLESS_IN:
                    continue
                yield Mutation(f"{file.stem}: {'.'.join(path)} = {label}", changed(file, path, wrong), _place(path))


def _place(path: Path_) -> str:
    """What a message about a value must name: its dotted path, from where the message may begin."""
    if path[-1] in EXPRESSIONS:
        path = path[:-1]
    if len(path) > 2 and path[1] == "behavior_policies":
        path = path[:-1]  # weights are judged together
    return ".".join(path[1:] if len(path) > 2 and path[0] == "config" else path)


def _nodes(node: dict[str, Any], path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    for key, value in node.items():
        yield (*path, key), value
        if isinstance(value, dict):
            yield from _nodes(value, (*path, key))


def _wrong(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Labels and values that no setting with this name and usual value can have."""
    if not isinstance(value, dict):
        yield "a mapping", {"a": 1}
    if not isinstance(value, dict | list) and key not in NULLABLE:
        yield "null", None
    if isinstance(value, bool):
        yield from (("a string", "maybe"), ("a number", 2), ("a list", []))
    elif isinstance(value, int | float):
        yield from (("a string", "fast"), ("true", True), ("a list", ["a", "b"]), ("nan", math.nan), ("-1", -1))
        yield "inf", math.inf
        if isinstance(value, int):
            yield from (("huge", 10**30), ("a fraction", value + 0.5)) if key != "min_time_s_per_iteration" else ()
        if key not in MAY_BE_ZERO:
            yield "0", 0
    elif isinstance(value, str):
        yield from (
            ("a number", 7),
            ("true", True),
            ("a list", ["a", 3]),
            ("another text", f"{value[:-2]}x{value[-1]}"),
        )
        yield "empty", ""
    elif isinstance(value, list):
        yield from (("a string", "fast"), ("a list of mappings", [{}, {}]))
        if key != "policies":
            yield "a list with null", [*value[:-1], None]
    else:
        yield from (("a string", "text"), ("a number", 5), ("a list", [1]))
