"""Finding the checkpoint a path stands for."""

from pathlib import Path

#: RLlib writes this file at the top of every Algorithm checkpoint (`Algorithm.METADATA_FILE_NAME`).
MARKER = "rllib_checkpoint.json"


def find_checkpoint(path: str | Path) -> Path:
    """The RLlib checkpoint that `path` stands for.

    Args:
        path: A checkpoint folder, or a trial, experiment or storage folder with checkpoints up to three levels below,
            of which the most recently written is taken.

    Returns:
        The absolute path of a folder that `Algorithm.from_checkpoint` loads.

    Raises:
        FileNotFoundError: If `path` does not exist or holds no checkpoint.
    """
    root = Path(path).expanduser().absolute()
    if not root.exists():
        raise FileNotFoundError(f"{path}: no such folder")
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        found = list(root.glob(depth + MARKER))
        if found:
            return max(found, key=lambda file: (file.stat().st_mtime_ns, str(file))).parent
    raise FileNotFoundError(
        f"{path}: no checkpoint in it (no folder with a {MARKER}); give a checkpoint_* folder, "
        "or the folder of a run that wrote one"
    )
