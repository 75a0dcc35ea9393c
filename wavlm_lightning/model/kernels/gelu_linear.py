# SPDX-License-Identifier: Apache-2.0
"""Linear of a GELU that keeps one tensor for the backward pass in place of two."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class GeluLinear(torch.autograd.Function):
    """Linear of the GELU of x, which is computed again when going back instead of being kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grads[0].flatten(0, -2)
        dweight = grad.T @ F.gelu(x).flatten(0, -2)
        dx = torch.ops.aten.gelu_backward(grads[0] @ weight, x)
        return dx, dweight, grad.sum(0)


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., C), weight (C', C) and bias (C',) -> (..., C'), computed in x's dtype.

    Args:
        x: (..., C) before GELU.
        weight: (C', C).
        bias: (C',).
    """
    out: Tensor = GeluLinear.apply(x, weight.to(x.dtype), bias.to(x.dtype))
    return out
