# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, and text files whose errors name them.

Everything that a run keeps is written here: beside its target under a name that ends in `.part`,
then moved. A rename within one folder is one step for every reader, which a move from another file
system is not. A kill leaves a `.part` at most, and `remove_parts` removes those.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PART = ".part"  # what names of unfinished files end in
# How a file begins that Git LFS left in place of another, and what to do about it.
LFS_POINTER = b"version https://git-lfs"
LFS_HINT = "a pointer that Git LFS left; git lfs pull fetches the file itself"
PREVIOUS = ".previous"  # before the suffix of a file that is kept beside its successor


@contextmanager
def replacing(path: Path, *, sync: bool = True, keep_previous: bool = False) -> Iterator[Path]:
    """A file to write within the block, which then takes the place of `path` in one step.

    Args:
        path: The target, there or not; its folder must exist.
        sync: Wait until the content is on the disk, so that a power cut cannot leave an empty file.
        keep_previous: Keep the file that was there as `previous_of(path)`.

    Raises:
        OSError: naming the target; what was there before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        yield temporary
        if sync:
            _sync(temporary)
        if keep_previous and path.exists():
            _keep(path, previous_of(path))
        os.replace(temporary, path)
        if sync:
            _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _named(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def previous_of(path: Path) -> Path:
    """Where the file before `path` is kept.

    >>> previous_of(Path("checkpoints/last.ckpt")).as_posix()
    'checkpoints/last.previous.ckpt'
    """
    return path.with_name(f"{path.stem}{PREVIOUS}{path.suffix}")


def _keep(path: Path, kept: Path) -> None:
    """Give a file a second name, so that at no moment there is none under the first."""
    link = kept.with_name(f".{kept.name}.{os.getpid()}{PART}")
    try:
        os.link(path, link)
    except OSError:  # no links on this file system: for a moment there is the second name alone
        os.replace(path, kept)
        return
    os.replace(link, kept)


def remove_parts(folder: Path) -> list[Path]:
    """Remove what writers that were killed left below a folder; nobody may be writing there."""
    parts = [path for path in folder.rglob(f".*{PART}") if path.is_file()]
    for path in parts:
        path.unlink(missing_ok=True)
    return parts


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a text file in UTF-8 so that no reader ever sees half of it."""
    with replacing(path, sync=sync) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems cannot do this for folders: there is nothing more to be had there.
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _named(error: OSError, path: Path) -> OSError:
    """The error with the target's name, and with the free space where that was the reason."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(path.parent).free / 1e6
        return OSError(f"{path} cannot be written: no space left ({free:.0f} MB free)")
    return OSError(f"{path} cannot be written: {error.strerror or error}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Values that do not fit are told with the name of the file that they come from."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: naming the file and the line that is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file {path}") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is in UTF-16: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}, is not UTF-8: save the file as UTF-8") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: naming the file and the place that is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
