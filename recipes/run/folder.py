# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: a new one, or the unfinished one that has the same configuration.

`latest` beside the runs points to the newest one that is finished, and before there is one to the
newest that has something to resume. A run that fails before it has anything leaves no folder.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wavlm_lightning.config import ConfigError, read_yaml
from wavlm_lightning.files import remove_parts, write_text
from wavlm_lightning.locks import Lock, holder, take
from wavlm_lightning.recipes.run.processes import Processes

RESULT, CONFIG, LATEST, LOCK = "result.json", "config.yaml", "latest", ".lock"
CHOICE = "features.json"  # whether features are kept, as it was measured
# Settings that may change without making it another run.
FREE = {"run", "wandb", "tensorboard"}


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes, and what to tell about it."""

    path: Path
    message: str
    lock: Lock


def run_folder(folder: Path) -> Path:
    """The folder of the run that a training in `folder` belongs to; itself where there is none."""
    return next((p for p in (folder, *folder.parents) if (p / CONFIG).is_file()), folder)


def open_run(parent: Path, values: dict[str, Any], *, resume: bool) -> RunFolder:
    """Continue the newest unfinished run in `parent` with the same configuration, or begin one.

    Raises:
        BlockingIOError: if another process is at work in that folder.
    """
    note = ""
    for path in newest_first(parent):
        if (path / RESULT).is_file():
            continue
        if resume and _compared(_config_of(path)) == _compared(values):
            lock = _lock(path)
            remove_parts(path)
            message = f"continuing {path} (a new run instead: run.resume=false)"
            return RunFolder(path, message, lock)
        why = "its settings differ" if resume else "run.resume=false"
        note = note or f"; the unfinished {path} stays as it is, {why}"
    path = _new_folder(parent)
    lock = _lock(path)
    save_config(path, values)
    return RunFolder(path, f"new run {path}{note}", lock)


@contextmanager
def running(
    parent: Path, values: dict[str, Any], *, resume: bool, processes: Processes
) -> Iterator[Path]:
    """The same folder for all processes, which the first one opens, tells about and locks.

    Raises:
        BlockingIOError: if another run is at work in that folder.
    """
    opened = open_run(parent, values, resume=resume) if processes.first else None
    if opened is not None:
        print(opened.message, flush=True)
    path = processes.from_first(opened.path if opened else Path())
    try:
        yield path
    finally:
        if opened is not None:
            opened.lock.close()
            _remove_if_empty(path)


def point_to(path: Path) -> None:
    """Let `latest` point to the run that holds a path; a finished one does not yield to another.

    To be called when the run is finished or has something that it can be resumed from.
    """
    run = next((p for p in (path, *path.parents) if (p / CONFIG).is_file()), None)
    if run is None:
        return
    latest = run.parent / LATEST
    if (latest / RESULT).is_file() and not (run / RESULT).is_file():
        return
    if latest.is_symlink() and os.readlink(latest) == run.name:
        return
    link = run.parent / f".{LATEST}.{os.getpid()}"
    link.symlink_to(run.name)
    os.replace(link, latest)


def newest_first(parent: Path) -> list[Path]:
    """Folders of runs in `parent`, by the time in their names."""
    found = [p.parent for p in parent.glob(f"*/{CONFIG}") if not p.parent.is_symlink()]
    return sorted(found, reverse=True)


def save_config(folder: Path, values: dict[str, Any]) -> None:
    """Write the resolved configuration beside the results."""
    write_text(folder / CONFIG, yaml.safe_dump(values, sort_keys=False))


def _config_of(path: Path) -> dict[str, Any]:
    """Configuration of a run; {} if it cannot be read: such a run is not continued."""
    try:
        return read_yaml(path / CONFIG)
    except ConfigError:
        return {}


def _lock(path: Path) -> Lock:
    lock = take(path / LOCK)
    if lock is None:
        raise BlockingIOError(
            f"{path} is in use by {holder(path / LOCK)}: wait for it or stop it, and the same "
            "command goes on from its last checkpoint (a second run beside it: run.resume=false)"
        )
    return lock


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


def _remove_if_empty(path: Path) -> None:
    """A folder from before training says nothing that the next start does not."""
    if {p.name for p in path.iterdir()} <= {CONFIG, LOCK, CHOICE}:
        shutil.rmtree(path, ignore_errors=True)
