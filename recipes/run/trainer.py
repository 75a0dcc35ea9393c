# SPDX-License-Identifier: Apache-2.0
"""The one place that builds a Trainer, its loggers and its callbacks from settings."""

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from wavlm_lightning.recipes.run.checkpoints import WholeCheckpoints
from wavlm_lightning.recipes.run.devices import device_of, say_if_busy
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.sections import TrainerSection

LOG_EVERY_UPDATES = 10


@dataclass(frozen=True)
class Pace:
    """How long a training is, and what happens when."""

    total_updates: int
    batches_per_update: int  # over all processes
    validate_updates: int
    checkpoint_updates: int

    def trainer_options(self, world: int) -> dict[str, Any]:
        """Arguments of `lightning.Trainer` in each of `world` processes."""
        batches = self.batches_per_update // world
        return {
            "max_steps": self.total_updates,
            "max_epochs": -1,
            "accumulate_grad_batches": batches,
            "val_check_interval": self.validate_updates * batches,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # our batches are shared between processes already
        }


def build_trainer(
    section: TrainerSection,
    folder: Path,
    processes: Processes,
    *,
    pace: Pace,
    loggers: list[Logger],
    callbacks: list[Callback],
) -> lightning.Trainer:
    """A Trainer that writes into `folder`."""
    _quiet_lightning()
    flags = device_flags(section, processes)
    if processes.world == 1:  # to one of several the others would be strangers
        say_if_busy(flags["accelerator"])
    flags.setdefault("log_every_n_steps", LOG_EVERY_UPDATES)
    return lightning.Trainer(
        **flags,
        **pace.trainer_options(processes.world),
        default_root_dir=folder,
        logger=loggers,
        enable_model_summary=False,
        enable_progress_bar=False,  # ours counts updates: see callbacks.py
        enable_checkpointing=False,  # ours know what an update is: see callbacks.py
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
    )


def build_evaluator(section: TrainerSection, processes: Processes) -> lightning.Trainer:
    """A Trainer that only evaluates, without logs, on the devices of a section."""
    _quiet_lightning()
    devices = TrainerSection(
        accelerator=section.accelerator,
        strategy=section.strategy,
        precision=section.precision,
        limit_val_batches=section.limit_val_batches,
        limit_test_batches=section.limit_test_batches,
    )
    return lightning.Trainer(
        **device_flags(devices, processes),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )


def device_flags(section: TrainerSection, processes: Processes) -> dict[str, Any]:
    """The flags that are set, with those that follow from the machine and the processes."""
    flags = {k: v for k, v in vars(section).items() if v is not None}
    flags["accelerator"] = device_of(section)
    for name in ("tf32", "fast_dev_run"):  # ours: see devices.py and sections.py
        flags.pop(name, None)
    if processes.world > 1 and section.strategy == "auto":
        flags["strategy"] = "ddp"
    flags["devices"] = processes.local
    flags["num_nodes"] = processes.world // processes.local
    return flags


def _quiet_lightning() -> None:
    """Leave out advice that does not fit; warnings about the run itself stay."""
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
        ".*in eval mode at the start of training.*",  # the frozen upstream
        ".*sync_dist=True.*",  # scores are of all processes' predictions already
        ".*using `bf16.*",
        ".*overridden `transfer_batch_to_device`.*",  # modules and their data belong together
    ):
        warnings.filterwarnings("ignore", text)
