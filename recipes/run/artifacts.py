# SPDX-License-Identifier: Apache-2.0
"""What W&B knows of a training beside its curves: best values, checkpoints, where it began."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from wavlm_lightning.recipes.run.callbacks import KeepBest
from wavlm_lightning.recipes.run.folder import run_folder
from wavlm_lightning.recipes.run.loggers import with_wandb

LATEST = "latest"


def artifact_name(folder: Path) -> str:
    """Name of the checkpoint of a training, from the names of its run.

    >>> artifact_name(Path("runs/pretrain/mini/20261128-144413"))
    'mini-20261128-144413'
    """
    run = run_folder(folder)
    parts = [run.parent.name, run.name, *folder.relative_to(run).parts]
    return re.sub(r"[^\w.-]", "-", "-".join(parts))


def keep_best_in_summary(loggers: Sequence[Logger], keep: Iterable[KeepBest]) -> None:
    """Let the summary of a run show the best value of what chooses checkpoints, not the last."""

    def define(run: Any) -> None:
        for kept in keep:
            run.define_metric(kept.monitor, summary=kept.mode, step_metric="trainer/global_step")

    with_wandb(loggers, define)


def use_checkpoints(loggers: Sequence[Logger], sources: Iterable[Path]) -> None:
    """Note which artifacts a training starts from; one that was never uploaded has none."""

    def use(run: Any) -> None:
        import wandb

        if run.offline:  # the server alone knows artifacts; hashes are in the configuration
            return
        for source in sources:
            try:
                run.use_artifact(f"{artifact_name(source.parent.parent)}:{LATEST}")
            except (wandb.Error, ValueError):
                continue

    with_wandb(loggers, use)


def upload_checkpoints(
    loggers: Sequence[Logger], folder: Path, keep: Iterable[KeepBest], about: dict[str, Any]
) -> None:
    """Upload the best checkpoints of a training, of all heads in one artifact.

    Args:
        loggers: Of the training.
        folder: Of the training.
        keep: What kept them.
        about: Plain values to find an artifact by.
    """

    def upload(run: Any) -> None:
        import wandb

        artifact = wandb.Artifact(artifact_name(folder), type="model", metadata=about)
        for kept in keep:
            if kept.checkpoint.is_file():
                artifact.add_file(
                    str(kept.checkpoint), name=kept.checkpoint.relative_to(folder).as_posix()
                )
                artifact.metadata[f"best {kept.monitor}"] = kept.best.get("value")
        run.log_artifact(artifact, aliases=["best"])

    with_wandb(loggers, upload)
