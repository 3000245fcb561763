"""The paths of an experiment: recorded data to learn from, and where results go."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_mafql.cli.errors import InputError, nearest, summary
from rllib_mafql.cli.space import is_space

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm

#: Kinds of storage that pyarrow knows, which Ray Tune writes with; further ones come with fsspec.
SCHEMES = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")


def check_recordings(algorithm: type["Algorithm"], settings: dict[str, Any], source: str) -> None:
    """Checks MAFQL's recorded data, as far as the ends of their files and the names of who played tell.

    Raises:
        InputError: If there are none, one cannot be read, they are of another grid, or a policy is not in them.
    """
    import rllib_mafql
    from rllib_mafql.offline.reader import open_recording

    given = settings.get("input_")
    if given is None or is_space(given) or given == "sampler" or not issubclass(algorithm, rllib_mafql.MAFQL):
        return
    try:
        recording = open_recording(given, skip_bad=settings.get("offline_skip_bad") is True)
    except (ValueError, OSError) as error:
        raise InputError(f"{source}.config.input_: {error}") from error
    cloned = settings.get("offline_cloned_policies")
    if isinstance(cloned, list):
        try:
            recording.clone_only(cloned)
        except (ValueError, OSError) as error:
            raise InputError(f"{source}.config.offline_cloned_policies: {error}") from error


def storage_folder(storage: str, source: str) -> str:
    """The absolute folder, made if it is missing, or the URI where results go.

    Raises:
        InputError: If nothing can be written there.
    """
    scheme, colon, _ = storage.partition("://")
    if colon:
        from fsspec import available_protocols

        if scheme not in (*SCHEMES, *available_protocols()):
            raise InputError(f"{source}: storage_path: unknown kind of storage {scheme!r}{nearest(scheme, SCHEMES)}")
        return storage
    folder = Path(storage).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{source}: storage_path: {summary(error)}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{source}: storage_path: nothing can be written into {folder}: no permission")
    return str(folder)
