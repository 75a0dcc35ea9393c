# SPDX-License-Identifier: Apache-2.0
"""The one place that builds a Trainer, its loggers and its callbacks from settings."""

import logging
import warnings
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from recipes.callbacks import SaveAndStop, progress
from recipes.processes import Processes
from recipes.settings import Settings
from wavlm_lightning.config import flat

LAST = "last.ckpt"
LOG_EVERY_UPDATES = 10


def quiet_libraries() -> None:
    """Keep the advice of libraries out of a person's way; warnings about the run itself stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (
        ".*tensorboardX.*",
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*isinstance\\(treespec.*",
        ".*litlogger.*",
        ".*dataloader is not resumable.*",  # the plan of an epoch is: see PretrainData
        ".*Checkpoint directory.*",
        ".*using `bf16.*",
    ):
        warnings.filterwarnings("ignore", text)


def accelerator(wanted: str) -> str:
    """Lightning's "auto" and "gpu" as "cuda" or "cpu"; any other name is itself."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if wanted == "gpu" else wanted


def best_precision(device: str) -> str:
    """bf16 where the processor or the GPU computes in it, else float32."""
    if device == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        supported = bool(
            capabilities.get("avx512_bf16")
            or capabilities.get("amx_bf16")
            or capabilities.get("bf16")
        )
    return "bf16-mixed" if supported else "32-true"


def build_trainer(settings: Settings, folder: Path, processes: Processes) -> lightning.Trainer:
    """A Trainer for one iteration that writes into `folder`."""
    flags = {k: v for k, v in settings.trainer.items() if v is not None}
    flags["accelerator"] = accelerator(flags.get("accelerator", "auto"))
    flags.setdefault("log_every_n_steps", LOG_EVERY_UPDATES)
    flags.setdefault("precision", best_precision(flags["accelerator"]))
    if processes.world > 1 and flags.get("strategy", "auto") == "auto":
        flags["strategy"] = "ddp"
    batches = settings.data.batches_per_update(processes.world) // processes.world
    flags["devices"] = processes.local
    flags["num_nodes"] = processes.world // processes.local
    return lightning.Trainer(
        **flags,
        default_root_dir=folder,
        max_steps=settings.optim.total_updates,
        max_epochs=-1,
        accumulate_grad_batches=batches,
        val_check_interval=settings.run.validate_updates * batches,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=build_loggers(settings, folder),
        enable_model_summary=False,
        enable_progress_bar=False,  # ours counts updates: see callbacks.py
        callbacks=build_callbacks(settings, folder),
    )


def build_loggers(settings: Settings, folder: Path) -> list[Logger]:
    """CSV always; W&B and TensorBoard when asked for."""
    name = folder.relative_to(settings.run.dir).as_posix()  # mini/<time>, mini/<time>/iteration1
    loggers: list[Logger] = [CSVLogger(folder, name="logs", flush_logs_every_n_steps=10)]
    if settings.wandb.mode != "disabled":
        loggers.append(
            WandbLogger(
                project=settings.wandb.project,
                name=name,
                id=name.replace("/", "-"),  # the same after a resume
                resume="allow",
                save_dir=folder,
                offline=settings.wandb.mode == "offline",
                config=flat(settings.values),
            )
        )
    if settings.tensorboard:
        try:
            loggers.append(TensorBoardLogger(folder, name="tensorboard"))
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "tensorboard=true needs TensorBoard: make setup EXTRAS=tensorboard"
            ) from error
    return loggers


def finish_loggers(trainer: lightning.Trainer) -> None:
    """Close the W&B run, so that the next iteration gets one of its own."""
    if any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()


def build_callbacks(settings: Settings, folder: Path) -> list[Callback]:
    """Progress; checkpoints: the latest, and the best on mixed dev speech."""
    checkpoints = folder / "checkpoints"
    return [
        progress(settings.optim.total_updates),
        ModelCheckpoint(
            dirpath=checkpoints,
            filename="best",
            monitor="dev_mixed/loss",
            save_top_k=1,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        ),
        SaveAndStop(checkpoints / LAST, every_updates=settings.run.checkpoint_updates),
    ]
