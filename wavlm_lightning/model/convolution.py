# SPDX-License-Identifier: Apache-2.0
"""Strided convolutions over time as matrix products, on channels-last activations.

With a stride s, s neighbouring frames are one row of a matrix that is already in memory, so a
convolution of kernel k is ceil(k / s) products and nothing is copied: the speed of a matrix product
in both precisions, forward and backward.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Norm = tuple[
    Tensor, Tensor, float
]  # gain (C,), bias (C,) and epsilon of a layer norm over channels


def activated(x: Tensor, norm: Norm | None) -> Tensor:
    """GELU of (..., C), after a layer norm in float32 where there is one; in x's dtype."""
    if norm is not None:
        gain, bias, eps = norm
        x = F.layer_norm(x.float(), x.shape[-1:], gain.float(), bias.float(), eps).to(x.dtype)
    return F.gelu(x)


def _windows(x: Tensor, num_frames: int, stride: int, *, tap: int, taps: int) -> Tensor:
    """Rows (T', taps * C) of contiguous (T, C): `taps` frames from `tap` on, every `stride`."""
    width = x.shape[1]
    return x.as_strided(
        (num_frames, taps * width), (stride * width, 1), x.storage_offset() + tap * width
    )


class ActivatedConv(torch.autograd.Function):
    """Convolution of the activation of x: the activation is computed again when going back.

    x (B, T, C), weight (C', C, k) in x's dtype, norm's gain and bias (C,) or None -> (B, T', C').
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        gain: Tensor | None,
        bias: Tensor | None,
        eps: float,
        stride: int,
    ) -> Tensor:
        num_frames = (x.shape[1] - weight.shape[2]) // stride + 1
        parts = _by_taps(weight, stride)
        out = x.new_empty(len(x), num_frames, weight.shape[0])
        for row, y in zip(x, out, strict=True):
            a = activated(row, _norm(gain, bias, eps))
            for first, part in parts:
                rows = _windows(a, num_frames, stride, tap=first, taps=len(part) // x.shape[2])
                if first == 0:
                    torch.mm(rows, part, out=y)
                else:
                    y.addmm_(rows, part)
        ctx.save_for_backward(x, weight, gain, bias)
        ctx.eps, ctx.stride = eps, stride
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, gain, bias = ctx.saved_tensors
        stride, grad = ctx.stride, grads[0].contiguous()
        parts, num_frames = _by_taps(weight, stride), grad.shape[1]
        dparts = [torch.zeros_like(part, dtype=torch.float32) for _, part in parts]
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dnorm = None if gain is None else [torch.zeros_like(gain), torch.zeros_like(bias)]
        for number, g in enumerate(grad):
            leaves = [t.detach().requires_grad_() for t in (x[number], gain, bias) if t is not None]
            with torch.enable_grad():
                a = activated(leaves[0], (leaves[1], leaves[2], ctx.eps) if leaves[1:] else None)
            values = a.detach()
            for (first, part), dpart in zip(parts, dparts, strict=True):
                taps = len(part) // x.shape[2]
                rows = _windows(values, num_frames, stride, tap=first, taps=taps)
                if rows.dtype == torch.float32:
                    dpart.addmm_(rows.T, g)
                else:
                    dpart.add_(rows.T @ g)
            if dx is None:
                continue
            da = torch.zeros_like(values)
            for first, part in parts:
                taps = len(part) // x.shape[2]
                _windows(da, num_frames, stride, tap=first, taps=taps).addmm_(g, part.T)
            found = torch.autograd.grad(a, leaves, da)
            dx[number] = found[0]
            if dnorm is not None:
                for total, one in zip(dnorm, found[1:], strict=True):
                    total += one
        dweight = torch.cat(dparts).unflatten(0, (weight.shape[2], -1)).permute(2, 1, 0)
        return dx, dweight.to(weight.dtype), *(dnorm or (None, None)), None, None


def _norm(gain: Tensor | None, bias: Tensor | None, eps: float) -> Norm | None:
    return None if gain is None or bias is None else (gain, bias, eps)


def _by_taps(weight: Tensor, stride: int) -> list[tuple[int, Tensor]]:
    """(C', C, k) -> first tap and matrix (taps * C, C') of every `stride` taps."""
    taps = weight.permute(2, 1, 0)  # (k, C, C')
    return [
        (first, taps[first : first + stride].reshape(-1, weight.shape[0]))
        for first in range(0, len(taps), stride)
    ]
