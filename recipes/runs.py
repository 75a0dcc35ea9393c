# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: a new one, or the unfinished one that has the same configuration."""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from recipes.processes import Processes
from wavlm_lightning.config import read_yaml
from wavlm_lightning.result import write_atomically

RESULT, CONFIG, LATEST = "result.json", "config.yaml", "latest"
# Settings that may change without making it another run.
FREE = {"run", "wandb", "tensorboard"}


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes, and what to tell about it."""

    path: Path
    message: str
    lock: IO[bytes] | None  # of the first process, held while it is referred to


def open_run(parent: Path, values: dict[str, Any], *, resume: bool) -> RunFolder:
    """Continue the newest unfinished run in `parent` with the same configuration, or begin one.

    Raises:
        BlockingIOError: if another process is at work in that folder.
    """
    note = ""
    for path in sorted((p.parent for p in parent.glob(f"*/{CONFIG}")), reverse=True):
        if path.is_symlink() or (path / RESULT).is_file():
            continue
        old = read_yaml(path / CONFIG)
        if resume and _compared(old) == _compared(values):
            _point_to(path)
            message = f"continuing {path} (a new run instead: run.resume=false)"
            return RunFolder(path, message, _lock(path))
        why = "its settings differ" if resume else "run.resume=false"
        note = note or f"; the unfinished {path} stays as it is, {why}"
    path = _new_folder(parent)
    save_config(path, values)
    _point_to(path)
    return RunFolder(path, f"new run {path}{note}", _lock(path))


def open_together(
    parent: Path, values: dict[str, Any], *, resume: bool, processes: Processes
) -> RunFolder:
    """The same folder for all processes, which the first one opens and tells about.

    Raises:
        BlockingIOError: if another run is at work in that folder.
    """
    opened = open_run(parent, values, resume=resume) if processes.first else None
    if opened is not None:
        print(opened.message, flush=True)
    path = processes.from_first(opened.path if opened else Path())
    return opened or RunFolder(path, "", None)


def _point_to(path: Path) -> None:
    link = path.parent / f".{LATEST}.{os.getpid()}"
    link.symlink_to(path.name)
    os.replace(link, path.parent / LATEST)


def _lock(path: Path) -> IO[bytes]:
    """A lock that ends with this process, however that ends."""
    file = (path / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(
            f"another process is training in {path}; for a second run say run.resume=false"
        ) from error
    return file


def save_config(folder: Path, values: dict[str, Any]) -> None:
    """Write the resolved configuration beside the results."""
    write_atomically(folder / CONFIG, yaml.safe_dump(values, sort_keys=False))


def _compared(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in FREE}


def _new_folder(parent: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{i}" for i in range(2, 100))):
        path = parent / (stamp + suffix)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{parent}: a hundred runs in one second")
