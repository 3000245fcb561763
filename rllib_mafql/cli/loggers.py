"""Where results go besides the trial's folder (CSV, JSON, TensorBoard): Ray's own callbacks for trackers."""

import importlib
import importlib.util
from typing import Any

from rllib_mafql.cli.arguments import checked_arguments
from rllib_mafql.cli.errors import InputError, nearest, summary

#: Name -> module of Ray, class, and the package that it needs, which is called like its module.
LOGGERS = {
    "comet": ("ray.air.integrations.comet", "CometLoggerCallback", "comet_ml"),
    "mlflow": ("ray.air.integrations.mlflow", "MLflowLoggerCallback", "mlflow"),
    "wandb": ("ray.air.integrations.wandb", "WandbLoggerCallback", "wandb"),
}


def make_loggers(spec: Any, source: str) -> list[Any]:
    """Tune's callbacks.

    Args:
        spec: `{NAME: {argument: value, ...}, ...}` with arguments of Ray's class; None: no trackers.
        source: Where it stands, for messages.

    Raises:
        InputError: On an unknown name or argument, a package that is missing, or what Ray's class refuses.
    """
    if spec is None:
        return []
    if not isinstance(spec, dict):
        raise InputError(f"{source}: must be a mapping such as {{wandb: {{project: grid}}}}, not {spec!r}")
    return [_make(name, arguments, f"{source}.{name}") for name, arguments in spec.items()]


def _make(name: Any, arguments: Any, source: str) -> Any:
    if name not in LOGGERS:
        raise InputError(f"{source}: unknown logger{nearest(str(name), LOGGERS)}")
    if not isinstance(arguments, dict | None):
        raise InputError(f"{source}: must be a mapping of arguments, not {arguments!r}")
    module, class_name, package = LOGGERS[name]
    cls = getattr(importlib.import_module(module), class_name)
    checked_arguments(cls, arguments or {}, source)
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{source}: needs a package that is not installed: pip install {package}")

    def setup(self: Any, *rest: Any, **info: Any) -> None:
        try:
            cls.setup(self, *rest, **info)
        except Exception as error:  # of whatever the tracker is
            raise InputError(f"{source}: {summary(error)}") from error

    try:
        return type(class_name, (cls,), {"setup": setup})(**(arguments or {}))
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{source}: {summary(error)}") from error
