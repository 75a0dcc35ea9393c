# SPDX-License-Identifier: Apache-2.0
"""Linear layers in float32 without gradients, by oneDNN where torch would take MKL.

On AMD's processors MKL multiplies float32 matrices at four fifths of oneDNN's rate (Zen 4: 84 and
103 GFLOP/s of one thread). torch itself has this operator for its compiler.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from wavlm_lightning.model.kernels import use_kernels
from wavlm_lightning.runtime import autocast_dtype

PROCESSOR = Path("/proc/cpuinfo")


@lru_cache
def onednn_is_faster() -> bool:
    """Whether this is a processor of AMD and torch has the operator."""
    known = PROCESSOR.is_file() and "AuthenticAMD" in PROCESSOR.read_text(errors="replace")
    return known and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """Output (..., C') of the layer for x (..., C)."""
    if not by_onednn(layer, x):
        out: Tensor = layer(x)
        return out
    out = torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "none", [], "")
    return out


def by_onednn(layer: nn.Linear, x: Tensor) -> bool:
    """Whether `linear` leaves x (..., C) to oneDNN."""
    if torch.is_grad_enabled() or not use_kernels(x) or type(layer) is not nn.Linear:
        return False
    exact = x.dtype == layer.weight.dtype == autocast_dtype(x) == torch.float32
    return exact and onednn_is_faster()
