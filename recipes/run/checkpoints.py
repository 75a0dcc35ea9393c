# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a run: written whole, the one before kept, and the newest good one found again."""

from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.io import CheckpointIO

from wavlm_lightning.checkpoint_file import DamagedFileError, read_checkpoint, write_checkpoint
from wavlm_lightning.files import previous_of
from wavlm_lightning.recipes.run.processes import Processes

CHECKPOINTS, LAST, BEST = "checkpoints", "last.ckpt", "best.ckpt"
DAMAGED = "damaged"  # suffix of a checkpoint that could not be read


class WholeCheckpoints(CheckpointIO):
    """Lightning's own goes through the folder of temporary files and moves from there.

    Where that is another file system, a full disk or a kill within the move leaves neither the old
    checkpoint nor the new one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside the target, then move; the `last.ckpt` that was there is kept."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(path, checkpoint, keep_previous=path.name == LAST)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Its content, on the processor, hash checked, no code run."""
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file."""
        Path(path).unlink(missing_ok=True)


def to_resume(folder: Path, processes: Processes) -> Path | None:
    """The newest good checkpoint in the folder of a run, the same for all processes; None: none.

    One that cannot be read is told of and put aside, and the one before it is taken.
    """
    found = _newest_good(folder / CHECKPOINTS / LAST) if processes.first else None
    return processes.from_first(found)


def _newest_good(last: Path) -> Path | None:
    told = ""
    for path in (last, previous_of(last)):
        if not path.exists():
            continue
        try:
            update = _update_of(path)
        except DamagedFileError as error:
            aside = path.with_name(f"{path.name}.{DAMAGED}")
            path.replace(aside)
            told = f"warning: {error} (now {aside.name}); "
            continue
        if told:
            print(f"{told}going on from {path}, update {update}", flush=True)
        return path
    if told:
        print(f"{told}there is none before it: training begins anew", flush=True)
    return None


def _update_of(path: Path) -> int:
    content = read_checkpoint(path)
    if not {"loops", "optimizer_states", "global_step"} <= content.keys():
        raise DamagedFileError(f"{path} is not the checkpoint of a run: it has no optimizer state")
    return int(content["global_step"])
