# SPDX-License-Identifier: Apache-2.0
"""A convolution with a long kernel and few channels a group, as one matrix product a group.

cuDNN has no fast kernel for it: 128 taps over 16 groups of 48 channels took 30 of the 53 ms of a
training step on an H200 (benchmarks/results/2026-11-27-h200.md). Here a block of neighbouring
output frames is the product of the input frames that it sees and a banded matrix of the kernel's
taps, of which with 16 frames a block 11 % are zeros. On a CPU, where the banded matrix costs more
than the calls, blocks are shorter.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

# Output frames of one row of the product.
BLOCK = {"cpu": 4}
BLOCK_ELSEWHERE = 16


def grouped_convolution(x: Tensor, weight: Tensor, *, groups: int, before: int) -> Tensor:
    """Convolve over time, stride 1, as many frames out as in.

    Args:
        x: (B, F, D) input.
        weight: (D, D / groups, K) taps, as of `conv1d`.
        groups: Groups of channels.
        before: Zeros in front of the first frame; K - 1 - before follow the last one.

    Returns:
        (B, F, D) in x's dtype.
    """
    batch, frames, _ = x.shape
    taps, size = weight.shape[2], BLOCK.get(x.device.type, BLOCK_ELSEWHERE)
    blocks = -(-frames // size)
    seen = -(-(size + taps - 1) // size)  # blocks of input that a block of output needs
    after = (blocks - 1 + seen) * size - before - frames
    padded = F.pad(x, (0, 0, before, after)).unflatten(1, (-1, size)).unflatten(-1, (groups, -1))
    pieces = padded.permute(3, 0, 1, 2, 4).flatten(3)  # (G, B, blocks - 1 + seen, size * C)
    rows = torch.cat([pieces[:, :, i : i + blocks] for i in range(seen)], -1)
    banded = _banded(weight.to(x.dtype), groups=groups, rows=seen * size, columns=size)
    y = torch.bmm(rows.flatten(1, 2), banded)
    y = y.view(groups, batch, blocks, size, -1).permute(1, 2, 3, 0, 4)
    return y.reshape(batch, blocks * size, -1)[:, :frames]


def _banded(weight: Tensor, *, groups: int, rows: int, columns: int) -> Tensor:
    """Taps (D, C, K) -> (G, rows * C, columns * C): row (i, c), column (o, c') is tap i - o.

    One copy of the taps, padded to one more than a column is long, after the other: cut into
    columns, each starts one frame later than the one before. Its gradient is a sum in fixed order.
    """
    by_tap = weight.unflatten(0, (groups, -1)).permute(0, 3, 2, 1)  # (G, K, C, C')
    by_tap = F.pad(by_tap, (0, 0, 0, 0, 0, rows + 1 - by_tap.shape[1]))
    copies = by_tap[:, None].expand(-1, columns, -1, -1, -1).flatten(1, 2)
    cut = copies[:, : columns * rows].unflatten(1, (columns, rows))  # (G, o, i, C, C')
    return cut.permute(0, 2, 3, 1, 4).flatten(3).flatten(1, 2)
