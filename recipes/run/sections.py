# SPDX-License-Identifier: Apache-2.0
"""Sections of configuration that pre-training and the tasks share."""

from dataclasses import dataclass
from typing import Literal

from wavlm_lightning.config import ConfigError
from wavlm_lightning.fields import MOST, Checked, number, whole
from wavlm_lightning.names import safe_name


def plain_name(key: str, name: str) -> None:
    """Refuse a name that is not that of one folder.

    Raises:
        ConfigError: naming the key.
    """
    if safe_name(name) != name:
        raise ConfigError(
            f"{key} must be a plain name, of letters, digits and any of _ . + - (got {name!r})"
        )


@dataclass(frozen=True, kw_only=True)
class WandbSection:
    """Weights & Biases.

    Args:
        mode: "offline" writes to the run folder, without network and account.
        project: where runs are collected.
    """

    mode: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "wavlm_lightning"


@dataclass(frozen=True, kw_only=True)
class TrainerSection(Checked):
    """Flags of Lightning's Trainer, by name and number alone: configuration loads no classes.

    Args:
        accelerator: cpu, gpu, or auto for a GPU where there is one.
        devices: Processes on this machine; auto for all GPUs.
        strategy: How several processes share the work; auto is ddp.
        precision: bf16-mixed, 32-true, ...; None for bf16 where the device computes in it.
        tf32: Let a GPU multiply float32 matrices and convolve in TF32, with 10 bits of mantissa;
            None for torch's own choice, which is TF32 in convolutions and LSTMs alone.
        deterministic: Use deterministic algorithms alone, or warn where there is none.
        benchmark: Let cuDNN try its algorithms first.
        detect_anomaly: Find the operation whose gradient is not finite; slow.
        profiler: Write how long each step of a run takes.
        sync_batchnorm: Share the statistics of batch norms between processes.
        log_every_n_steps: Updates between rows of the logs.
        limit_val_batches: Batches, or share of them, of a validation.
        limit_test_batches: The same of a test.
    """

    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    precision: str | int | None = None
    tf32: bool | None = None
    deterministic: bool | Literal["warn"] | None = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    profiler: Literal["simple", "advanced", "pytorch"] | None = None
    sync_batchnorm: bool = False
    log_every_n_steps: int | None = whole(1, default=None)
    limit_val_batches: int | float | None = number(0, MOST, default=None)
    limit_test_batches: int | float | None = number(0, MOST, default=None)
