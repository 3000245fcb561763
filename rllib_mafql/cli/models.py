"""RLlib's settings of models and of replay buffers, which are mappings with keys of their own."""

import inspect
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest
from rllib_mafql.cli.space import is_space
from rllib_mafql.ranges import MOST, Range

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

_WIDTH = Range(1, 65_536, whole=True)
_BUFFER = {
    "capacity": Range(1, MOST, whole=True),
    "alpha": Range(0),
    "beta": Range(0),
    "batch_size_B": Range(1, MOST, whole=True),
    "batch_length_T": Range(1, MOST, whole=True),
}
#: What algorithms add to the arguments of the buffer's class.
_BUFFER_EXTRA = ("type", "beta", "replay_sequence_length", "replay_burn_in", "replay_mode", "storage_unit")


def check_model_config(settings: dict[str, Any], source: str) -> None:
    """Checks a `model_config` of RLlib's default models.

    Raises:
        InputError: On an unknown key, or a width, activation or switch that is none.
    """
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    known = {field.name: field for field in fields(DefaultModelConfig)}
    for key, value in settings.items():
        place = f"{source}.{key}"
        if key not in known:
            raise InputError(f"{place}: unknown key{nearest(key, known)}")
        if is_space(value):
            continue
        usual = known[key].default
        if key.endswith("_hiddens"):
            listed = isinstance(value, list | tuple)
            if value is not None and not (listed and all(is_space(one) or _WIDTH.holds(one) for one in value)):
                raise InputError(f"{place}: must be a list of layers' widths such as [256, 256], not {value!r}")
        elif key.endswith("_activation"):
            _check_activation(value, place)
        elif isinstance(usual, bool) and not isinstance(value, bool):
            raise InputError(f"{place}: must be true or false, not {value!r}")
        elif usual is not MISSING and type(usual) is int and not Range(0, MOST, whole=True).holds(value):
            raise InputError(f"{place}: must be a whole number such as {usual!r}, not {value!r}")


def _check_activation(value: Any, place: str) -> None:
    from ray.rllib.models.utils import get_activation_fn

    usual = ("tanh", "relu", "swish", "silu", "elu", "linear")
    try:
        if value is not None and not isinstance(value, str):
            raise ValueError
        get_activation_fn(value, framework="torch")
    except (ValueError, AttributeError):
        raise InputError(f"{place}: unknown activation {value!r}{nearest(value, usual)}") from None


def check_replay_buffer_config(settings: dict[str, Any], default: "AlgorithmConfig", source: str) -> None:
    """Checks a `replay_buffer_config` of one of RLlib's algorithms.

    Raises:
        InputError: On an unknown class or key, or a number out of range.
    """
    from ray.rllib.utils import replay_buffers

    usual = getattr(default, "replay_buffer_config", None) or {}
    kind = settings.get("type", usual.get("type"))
    if isinstance(kind, str) and "." not in kind:
        offered = [name for name in replay_buffers.__all__ if name.endswith("Buffer")]
        if kind not in offered:
            raise InputError(f"{source}.type: unknown replay buffer {kind!r}{nearest(kind, offered)}")
        kind = getattr(replay_buffers, kind)
    elif not isinstance(kind, str | type) and not is_space(kind):
        raise InputError(f"{source}.type: must name a replay buffer, not {kind!r}")
    if not isinstance(kind, type) or not kind.__module__.startswith("ray.rllib."):
        return
    known = {*usual, *_BUFFER_EXTRA}
    for base in kind.__mro__:
        known |= {*inspect.signature(vars(base).get("__init__", object.__init__)).parameters} - {
            "self",
            "args",
            "kwargs",
        }
    for key, value in settings.items():
        if key not in known:
            raise InputError(f"{source}.{key}: unknown key{nearest(key, known)}")
        if key in _BUFFER and not is_space(value) and not _BUFFER[key].holds(value):
            raise InputError(f"{source}.{key}: must be {_BUFFER[key].right}, not {value!r}")
