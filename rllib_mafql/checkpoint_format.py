"""What a checkpoint says of its own format, and whether its files are whole; nothing is unpickled to find that out.

MAFQL writes `rllib_mafql.json` last into every checkpoint: {"package", "format", "grid", "files", "sum"}. "files" leads
from each file's path to [bytes, CRC-32], the latter null for large files; "sum" is the CRC-32 of all the rest. Other
algorithms' checkpoints, and MAFQL's of before this file, are checked by what RLlib says of them in its own metadata,
and their pickles for being whole.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from rllib_mafql.checkpoint_pickles import package_version, pickle_problem

FILE = "rllib_mafql.json"

#: The format that is written, and the oldest that is read. To be raised when MAFQL's state changes.
FORMAT = 1
OLDEST = 1

#: RLlib's description of a whole algorithm, of a component, and what every checkpoint begins with.
ALGORITHM_METADATA, METADATA = "rllib_checkpoint.json", "metadata.json"

#: Key of `ALGORITHM_METADATA`, which is written first, with the format: tells that `FILE` belongs to the checkpoint.
DECLARED = "rllib_mafql_format"

#: Larger files are compared by their size alone, and are not read through.
LARGE = 64 * 2**20
_CHUNK = 2**20

_DAMAGED = "use another checkpoint, or copy this one again if it is a copy"


def write_format(path: str, grid: str | None, filesystem: FileSystem | None = None) -> None:
    """Writes `FILE` into a checkpoint that is otherwise complete.

    Args:
        path: the checkpoint's folder, or its URI where `filesystem` is None.
        grid: name of the grid trained on, where the environment says it.
        filesystem: where `path` is.
    """
    filesystem, root = located(path, filesystem)
    local = isinstance(filesystem, LocalFileSystem)  # from elsewhere, files would have to be read back
    files = {
        name: [size, _sum(filesystem, f"{root}/{name}", size) if local else None]
        for name, size in _files(filesystem, root)
    }
    files.pop(FILE, None)
    content = {"package": package_version(), "format": FORMAT, "grid": grid, "files": files}
    content["sum"] = _sum_of(content)
    with filesystem.open_output_stream(f"{root}/{FILE}") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def check_checkpoint(path: str, filesystem: FileSystem | None = None) -> dict[str, Any] | None:
    """Checks a checkpoint as far as that goes without unpickling anything.

    Args:
        path: the checkpoint's folder, or its URI where `filesystem` is None.
        filesystem: where `path` is.

    Returns:
        The content of `FILE`; None for a checkpoint of another algorithm or of before that file.

    Raises:
        ValueError: it is no checkpoint of RLlib's new API stack, its format is newer or older than what is read here,
            or a file is missing or damaged; says which, and what to do.
    """
    try:
        return _checked(*located(path, filesystem), path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error


def located(path: str, filesystem: FileSystem | None) -> tuple[FileSystem, str]:
    """The file system of a folder or URI, and its path there."""
    return (filesystem, str(path)) if filesystem is not None else FileSystem.from_uri(str(path))


def _checked(filesystem: FileSystem, root: str, path: str) -> dict[str, Any] | None:
    kind = filesystem.get_file_info(root).type
    if kind != FileType.Directory:
        state = "there is no such folder" if kind == FileType.NotFound else "it is a file, and a checkpoint is a folder"
        raise ValueError(f"{path}: {state}")
    declared = _metadata(filesystem, root, path, ALGORITHM_METADATA)
    if filesystem.get_file_info(f"{root}/{FILE}").type == FileType.File:
        content = _metadata(filesystem, root, path, FILE)
        _check_format(content, path)
        if content.get("sum") != _sum_of(content):
            raise ValueError(f"{path}: damaged: the content of {FILE} has changed since it was written; {_DAMAGED}")
        _check_listed(filesystem, root, path, content["files"])
        return content
    if DECLARED in declared:
        raise ValueError(
            f"{path}: incomplete: it lacks {FILE}, which is written last; the process that wrote it was stopped on the "
            f"way, or not everything was copied: {_DAMAGED}"
        )
    _check_unlisted(filesystem, root, path)
    return None


def _check_format(content: dict[str, Any], path: str) -> None:
    number, package, files = content.get("format"), content.get("package"), content.get("files")
    if type(number) is not int or not isinstance(files, dict):
        raise ValueError(f"{path}: {FILE} is damaged: it names no format or no files; {_DAMAGED}")
    written = f"{path}: written by rllib-mafql {package} in checkpoint format {number}"
    if number > FORMAT:
        raise ValueError(
            f"{written}, and rllib-mafql {package_version()} reads no format above {FORMAT}: "
            f"install rllib-mafql {package} or newer"
        )
    if number < OLDEST:
        raise ValueError(
            f"{written}, and rllib-mafql {package_version()} reads no format below {OLDEST}: "
            f"install rllib-mafql {package}, or train anew"
        )


def _check_listed(filesystem: FileSystem, root: str, path: str, files: dict[str, Any]) -> None:
    sizes = dict(_files(filesystem, root))
    for name, (size, checksum) in sorted(files.items()):
        if name not in sizes:
            raise ValueError(f"{path}: damaged: {name} is missing; {_DAMAGED}")
        if sizes[name] != size:
            raise ValueError(f"{path}: damaged: {name} has {sizes[name]} bytes instead of {size}; {_DAMAGED}")
        if checksum is not None and _sum(filesystem, f"{root}/{name}", size) != checksum:
            raise ValueError(f"{path}: damaged: the content of {name} has changed since it was written; {_DAMAGED}")


def _check_unlisted(filesystem: FileSystem, root: str, path: str) -> None:
    sizes = dict(_files(filesystem, root))
    for name in sorted(sizes):
        folder, file = PurePosixPath(name).parent, PurePosixPath(name).name
        if file in (ALGORITHM_METADATA, METADATA):
            described = _metadata(filesystem, root, path, name)
            if "class_and_ctor_args_file" not in described or "state_file" not in described:
                raise ValueError(
                    f"{path}: {name} is not of RLlib's new API stack; the Ray version that wrote it can load it"
                )
            states = [str(folder / f"{described['state_file']}{end}") for end in (".pkl", ".msgpack")]
            for needed in ([str(folder / described["class_and_ctor_args_file"])], states):
                if not any(one in sizes for one in needed):
                    raise ValueError(f"{path}: incomplete: it lacks {needed[0]}; {_DAMAGED}")
        elif file.endswith(".pkl"):
            problem = _pickle_problem(filesystem, f"{root}/{name}", sizes[name])
            if problem:
                raise ValueError(f"{path}: damaged or of another version: {name}: {problem}; {_DAMAGED}")
    if not any(name.startswith("learner_group/") for name in sizes):
        raise ValueError(f"{path}: incomplete: it lacks the folder learner_group, with the weights; {_DAMAGED}")


def _pickle_problem(filesystem: FileSystem, path: str, size: int) -> str:
    """What is wrong with a pickle, "" if nothing."""
    with filesystem.open_input_file(path) as file:
        if size > LARGE:  # by its ends
            ends = file.read(1), file.read_at(1, size - 1)
            return "" if ends == (b"\x80", b".") else "it was cut off"
        return pickle_problem(file.read())


def _metadata(filesystem: FileSystem, root: str, path: str, name: str) -> dict[str, Any]:
    try:
        with filesystem.open_input_stream(f"{root}/{name}") as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        raise ValueError(f"{path}: it has no {name}, so it is no RLlib checkpoint, or not a whole one") from None
    except ValueError:  # no JSON or no UTF-8
        raise ValueError(f"{path}: damaged: {name} is no JSON; {_DAMAGED}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: damaged: {name} holds no mapping; {_DAMAGED}")
    return content


def _files(filesystem: FileSystem, root: str) -> Iterator[tuple[str, int]]:
    """The files below a folder, hidden ones left out: path within it, bytes."""
    for info in filesystem.get_file_info(FileSelector(root, recursive=True)):
        name = PurePosixPath(info.path).relative_to(root)
        if info.type == FileType.File and not any(part.startswith(".") for part in name.parts):
            yield str(name), info.size


def _sum_of(content: dict[str, Any]) -> int:
    """CRC-32 of what `FILE` says, but for that sum."""
    return zlib.crc32(json.dumps({key: content[key] for key in sorted(content) if key != "sum"}).encode())


def _sum(filesystem: FileSystem, path: str, size: int) -> int | None:
    """CRC-32 of a file; None for a large one."""
    if size > LARGE:
        return None
    checksum = 0
    with filesystem.open_input_stream(path) as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
