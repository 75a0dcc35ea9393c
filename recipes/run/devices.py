# SPDX-License-Identifier: Apache-2.0
"""Which device a run takes, and the number format that it computes in."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch

from wavlm_lightning.recipes.run.sections import TrainerSection
from wavlm_lightning.runtime import busy_share, computes_bfloat16

BUSY_SECONDS, BUSY = 0.3, 0.75  # how long to look, and the share from which it is said


def accelerator(wanted: str) -> str:
    """Lightning's "auto" and "gpu" as "cuda" or "cpu"; any other name is itself."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if wanted == "gpu" else wanted


def device_of(trainer: TrainerSection) -> str:
    """The device that a run takes, "cuda" or "cpu"."""
    return accelerator(trainer.accelerator)


def tf32_of(trainer: TrainerSection) -> bool | None:
    """What `trainer.tf32` says to a run on a GPU; None on a CPU, or where it says nothing."""
    return trainer.tf32 if device_of(trainer) == "cuda" else None


def set_tf32(trainer: TrainerSection) -> None:
    """Set it for all that a program computes, upstreams too: before anything is computed."""
    if (allowed := tf32_of(trainer)) is not None:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed


def device_words(trainer: Any) -> str:
    """What a Trainer works on: "cpu, bf16-mixed"; "cuda, 32-true, TF32"."""
    device = trainer.strategy.root_device.type
    allowed = device == "cuda" and torch.get_float32_matmul_precision() != "highest"
    return f"{device}, {trainer.precision}{', TF32' if allowed else ''}"


@cache
def say_if_busy(device: str) -> None:
    """Print, once a process, that others keep the processors busy on which this one would train.

    Threads that share a product wait for the last of them. Where others use the processors too,
    two threads took twice the processor time of one and twice its time on the clock.
    """
    if device != "cpu" or torch.get_num_threads() == 1:
        return
    share = busy_share(BUSY_SECONDS)
    if share >= BUSY:
        print(
            f"note: other processes keep {share:.0%} of this machine's processors busy; where they "
            "go on, one thread is faster: OMP_NUM_THREADS=1 make ...",
            flush=True,
        )


def best_precision(device: str) -> str:
    """bf16 where the processor or the GPU computes in it, else float32."""
    return "bf16-mixed" if computes_bfloat16(device) else "32-true"


def with_precision(trainer: TrainerSection, precision: str | None = None) -> TrainerSection:
    """The section with a precision where it says none.

    Args:
        trainer: The section.
        precision: Such as "32-true"; None for the best one of the device.
    """
    if trainer.precision is not None:
        return trainer
    return replace(trainer, precision=precision or best_precision(device_of(trainer)))
