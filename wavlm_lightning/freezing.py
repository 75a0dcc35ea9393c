# SPDX-License-Identifier: Apache-2.0
"""Parameters that take no part in an update."""

from collections.abc import Iterable

import torch
from torch import Tensor


def zero_loss(parameters: Iterable[Tensor]) -> Tensor:
    """Zero, with a zero gradient for every parameter, whatever these hold.

    Distributed training waits for a gradient of each.

    >>> weights = torch.full((3,), float("nan"), requires_grad=True)
    >>> zero_loss([weights]).backward()
    >>> weights.grad
    tensor([0., 0., 0.])
    """
    return torch.stack([p.flatten()[:0].sum() for p in parameters]).sum()
