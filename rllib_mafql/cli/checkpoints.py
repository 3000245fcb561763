"""Finding the checkpoint a path stands for."""

from pathlib import Path

from rllib_mafql.checkpoint_format import check_checkpoint

#: RLlib writes this file at the top of every Algorithm checkpoint (`Algorithm.METADATA_FILE_NAME`).
MARKER = "rllib_checkpoint.json"
#: What Ray Tune calls the folders of checkpoints; one of them without `MARKER` is a checkpoint that is not whole.
FOLDERS = "checkpoint_"
#: Levels of folders below a storage folder: experiment, trial, checkpoint.
LEVELS = 3


def find_checkpoint(path: str | Path) -> Path:
    """The RLlib checkpoint that `path` stands for.

    Args:
        path: A checkpoint folder, or a trial, experiment or storage folder with checkpoints up to three levels below,
            of which the most recently written is taken.

    Returns:
        The absolute path of a folder that `Algorithm.from_checkpoint` loads.

    Raises:
        FileNotFoundError: If `path` does not exist or holds no checkpoint.
        ValueError: If the checkpoint, or the newest one, is damaged or of a format that is not read here. An older one
            is never taken in its place, but the newest that is whole is named.
    """
    root = Path(path).expanduser().absolute()
    if not root.exists():
        raise FileNotFoundError(f"{path}: no such folder")
    if not root.is_dir():
        raise ValueError(f"{path}: it is a file; give a checkpoint_* folder, or the folder of a run that wrote one")
    found = _newest_first(root)
    if not found:
        raise FileNotFoundError(
            f"{path}: no checkpoint in it (no folder with a {MARKER}); give a checkpoint_* folder, "
            "or the folder of a run that wrote one"
        )
    try:
        check_checkpoint(str(found[0]))
    except ValueError as error:
        others = found[1:] or [one for one in _newest_first(root.parent) if one != root]
        whole = next(filter(_is_whole, others), None)
        instead = f". The newest whole one beside it is {whole}: give that path to use it" if whole else ""
        raise ValueError(f"{error}{instead}") from None
    return found[0]


def _newest_first(root: Path) -> list[Path]:
    """The checkpoints at the first level that has any, the most recently written first."""
    for level in range(LEVELS + 1):
        folders = [root] if level == 0 else list(root.glob("/".join("*" * level)))
        found = [folder for folder in folders if (folder / MARKER).is_file() or _is_unfinished(folder)]
        if found:
            return sorted(found, key=_age_key, reverse=True)
    return []


def _is_unfinished(folder: Path) -> bool:
    return folder.name.startswith(FOLDERS) and folder.is_dir()


def _age_key(folder: Path) -> tuple[int, str]:
    marker = folder / MARKER
    return (marker if marker.exists() else folder).stat().st_mtime_ns, str(folder)


def _is_whole(folder: Path) -> bool:
    try:
        check_checkpoint(str(folder))
    except ValueError:
        return False
    return True
