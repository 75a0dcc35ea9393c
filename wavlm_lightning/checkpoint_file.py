# SPDX-License-Identifier: Apache-2.0
"""Torch files that are written whole, hold a hash of their content, and run no code.

A checkpoint is a mapping of tensors and plain values. Its hash stands in it and is checked whenever
it is read, so a file that is cut, zeroed or has changed on the disk is never taken for a good one.
"""

import errno
import pickle
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from wavlm_lightning.files import LFS_HINT, LFS_POINTER, replacing
from wavlm_lightning.hashing import content_sha256

HASH = "content_sha256"  # key of the hash
# Instead of torch's advice to trust the file.
CODE = "it holds more than tensors and plain values, and code in a file is never run"


class DamagedFileError(ValueError):
    """A checkpoint that cannot be read; the message names the file and the reason."""


def write_checkpoint(
    path: Path, content: Mapping[str, Any], *, keep_previous: bool = False
) -> None:
    """Write tensors and plain values, with their hash, in one step.

    Args:
        path: The file; its folder must exist.
        content: What it is to hold.
        keep_previous: Keep the file that was there under `previous_of(path)`.

    Raises:
        OSError: naming the file; what was there before is untouched.
    """
    content = {key: _plain(value) for key, value in content.items() if key != HASH}
    content[HASH] = content_sha256(content)
    with replacing(path, keep_previous=keep_previous) as temporary:
        try:
            # An open file, not a name: names would end up in the file.
            with temporary.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:  # torch's writer hides the reason
            free = shutil.disk_usage(path.parent).free / 1e6
            raise OSError(f"{_first_line(error)} ({free:.0f} MB free)") from error


def _plain(value: Any) -> Any:
    """The same content made anew, so that equal contents are equal bytes.

    A file says which of its texts and lists are one object, and that depends on where they came
    from: on a run's own past.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a torch file, without running code from it, its hash checked if it has one.

    Raises:
        FileNotFoundError: naming the file.
        DamagedFileError: if the file cannot be read, holds more than tensors and plain values, or
            is not what was written.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no checkpoint {path}") from error
    except Exception as error:  # on rubbish, torch's reader fails in any way
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # of the disk, not of the content
        code = isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error).upper()
        reason = CODE if code else why_unreadable(path, kind="torch")
        raise DamagedFileError(f"{path} cannot be read: {reason}") from error
    if not isinstance(content, dict):
        raise DamagedFileError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    if HASH in content:
        wanted = content.pop(HASH)
        if content_sha256(content) != wanted:
            raise DamagedFileError(f"{path} is damaged: its content does not have its hash")
    return content


def why_unreadable(path: Path, *, kind: Literal["torch", "safetensors"]) -> str:
    """What is wrong with a file of weights, from how it begins.

    Args:
        path: The file.
        kind: Whose it should be.
    """
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start:
        return "it is empty"
    if start == LFS_POINTER:
        return f"it is {LFS_HINT}"
    if not start.strip(b"\0"):
        return "it begins with zeros, as files do that a power cut left behind"
    begins = start.startswith((b"PK", b"\x80")) if kind == "torch" else start[8:9] == b"{"
    return "it is cut off or damaged" if begins else f"it is no file of {kind}"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
