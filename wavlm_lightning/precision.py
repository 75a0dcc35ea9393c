# SPDX-License-Identifier: Apache-2.0
"""Which number format a device computes in."""

import torch
from torch import Tensor


def computes_bfloat16(device: str) -> bool:
    """True if this processor ("cpu") or GPU ("cuda") multiplies matrices in bfloat16 itself."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast_dtype(x: Tensor) -> torch.dtype:
    """Format of a product with x (...): autocast's, or x's own."""
    device = x.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype
