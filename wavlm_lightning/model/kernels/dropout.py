# SPDX-License-Identifier: Apache-2.0
"""Dropout that keeps no mask: it is drawn again for the backward pass.

On a processor torch draws one number after the other, which takes as long as the attention that it
is for. Here one draw of 64 bits serves four elements, and their share is right to 1 in 65,536.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning.model.kernels import use_kernels

_LEVELS = 65_536  # values of 16 bits


def draw_seed() -> int:
    """A seed for `keep_mask` from torch's global generator of the processor."""
    return int(torch.randint(2**62, ()))


def keep_mask(shape: torch.Size, rate: float, *, seed: int, like: Tensor) -> Tensor:
    """Mask (...): 1 where an element stays and 0 where it is dropped, in dtype of `like`.

    Args:
        shape: Of the mask.
        rate: Share of elements that are dropped.
        seed: Of the draw; the same seed gives the same mask.
        like: (...) tensor of the wanted dtype and device.
    """
    kept = torch.empty(shape, dtype=like.dtype, device=like.device)
    return torch.ge(_drawn(shape, seed, like.device), _limit(rate), out=kept)


def drop_mask(shape: torch.Size, rate: float, *, seed: int, like: Tensor) -> Tensor:
    """Mask (...): 1 where an element is dropped and 0 where it stays, in dtype of `like`.

    Args:
        shape: Of the mask.
        rate: Share of elements that are dropped.
        seed: Of the draw; the same seed gives the same mask.
        like: (...) tensor of the wanted dtype and device.
    """
    dropped = torch.empty(shape, dtype=like.dtype, device=like.device)
    return torch.lt(_drawn(shape, seed, like.device), _limit(rate), out=dropped)


def _limit(rate: float) -> int:
    """What an element's draw must reach for it to stay."""
    return round(rate * _LEVELS) - _LEVELS // 2


def _drawn(shape: torch.Size, seed: int, device: torch.device) -> Tensor:
    """16 bits with a sign for each element."""
    generator = torch.Generator(device).manual_seed(seed)
    bits = torch.empty(-(-shape.numel() // 4), dtype=torch.int64, device=device)
    bits.random_(-(2**63), None, generator=generator)
    return bits.view(torch.int16)[: shape.numel()].view(shape)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float, seed: int) -> Tensor:
        ctx.rate, ctx.seed = rate, seed
        return keep_mask(x.shape, rate, seed=seed, like=x).mul_(x).mul_(1 / (1 - rate))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _Dropout.forward(ctx, grads[0], ctx.rate, ctx.seed), None, None


def dropout(x: Tensor, rate: float, *, training: bool) -> Tensor:
    """Zero elements of (...) at this rate in training and scale the others; same dtype.

    Args:
        x: (...) activations.
        rate: Share of elements that are dropped.
        training: False returns x as it is.
    """
    if not training or rate == 0:
        return x
    if not use_kernels(x):
        return F.dropout(x, rate)
    out: Tensor = _Dropout.apply(x, rate, draw_seed())
    return out
