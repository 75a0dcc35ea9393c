# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: a new one, or the unfinished one that has the same configuration."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recipes.settings import Settings
from wavlm_lightning.result import write_atomically

RESULT, CONFIG, LATEST = "result.json", "config.yaml", "latest"
# Settings that may change without making it another run.
FREE = {"run", "wandb", "tensorboard"}


@dataclass(frozen=True)
class RunFolder:
    """Where a run writes, and what to tell about it."""

    path: Path
    message: str


def open_run(settings: Settings) -> RunFolder:
    """Continue the latest run of this name if it is unfinished and its configuration the same."""
    parent = Path(settings.run.dir) / settings.run.name
    latest = parent / LATEST
    note = ""
    if (latest / CONFIG).is_file() and not (latest / RESULT).is_file():
        old = yaml.safe_load((latest / CONFIG).read_text(encoding="utf-8"))
        if settings.run.resume and _compared(old) == _compared(settings.values):
            path = parent / os.readlink(latest)
            return RunFolder(path, f"continuing {path} (a new run instead: run.resume=false)")
        why = "its settings differ" if settings.run.resume else "run.resume=false"
        note = f"; the unfinished {parent / os.readlink(latest)} stays as it is, {why}"
    path = _new_folder(parent)
    save_config(path, settings.values)
    link = parent / f".{LATEST}.{os.getpid()}"
    link.symlink_to(path.name)
    os.replace(link, latest)
    return RunFolder(path, f"new run {path}{note}")


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
