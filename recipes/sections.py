# SPDX-License-Identifier: Apache-2.0
"""Sections of configuration that pre-training and the tasks share."""

from dataclasses import dataclass
from typing import Literal

# Flags of Lightning's Trainer that follow from other settings here.
OWNED_FLAGS = {
    "accumulate_grad_batches",
    "callbacks",
    "check_val_every_n_epoch",
    "default_root_dir",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "fast_dev_run",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "limit_train_batches",
    "logger",
    "max_epochs",
    "max_time",
    "max_steps",
    "min_epochs",
    "min_steps",
    "num_nodes",
    "num_sanity_val_steps",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
    "use_distributed_sampler",
    "val_check_interval",
}


@dataclass(frozen=True, kw_only=True)
class WandbSection:
    """Weights & Biases.

    Args:
        mode: "offline" writes to the run folder, without network and account.
        project: where runs are collected.
    """

    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "wavlm_lightning"
