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


def best_precision(device: str) -> str:
    """bf16 where the processor or the GPU computes in it, else float32."""
    return "bf16-mixed" if computes_bfloat16(device) else "32-true"


def with_precision(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags of a Trainer, with the best precision of its device where none is said."""
    if flags.get("precision") is not None:
        return flags
    return flags | {"precision": best_precision(accelerator(flags["accelerator"]))}
