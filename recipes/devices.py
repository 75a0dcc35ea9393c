# SPDX-License-Identifier: Apache-2.0
"""Which device a run takes, and the number format that it computes in."""

from typing import Any

import torch

from wavlm_lightning.precision import computes_bfloat16


def accelerator(wanted: str) -> str:
    """Lightning's "auto" and "gpu" as "cuda" or "cpu"; any other name is itself."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if wanted == "gpu" else wanted


def allow_tf32(allowed: bool) -> None:
    """Set whether a GPU multiplies float32 matrices and convolves in TF32, for all that follows.

    torch by itself allows it in convolutions and LSTMs and not in matrix products.
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


def device_words(trainer: Any) -> str:
    """What a Trainer works on: "cpu, bf16-mixed"; "cuda, 32-true, TF32"."""
    device, allowed = trainer.strategy.root_device.type, torch.backends.cudnn.allow_tf32
    tf32 = ", TF32" if device == "cuda" and allowed else ""
    return f"{device}, {trainer.precision}{tf32}"


def best_precision(device: str) -> str:
    """bf16 where the processor or the GPU computes in it, else float32."""
    return "bf16-mixed" if computes_bfloat16(device) else "32-true"


def with_precision(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags of a Trainer, with the best precision of its device where none is said."""
    if flags.get("precision") is not None:
        return flags
    return flags | {"precision": best_precision(accelerator(flags["accelerator"]))}
