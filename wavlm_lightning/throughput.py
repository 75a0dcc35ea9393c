# SPDX-License-Identifier: Apache-2.0
"""What a machine multiplies at best, as measured here and now."""

import time
from functools import cache

import torch
from torch.nn import functional as F

# Frames of a batch times Large's feed-forward weights; enough to fill the device.
ROWS = {"cpu": 1024, "cuda": 16_384}
INPUTS, OUTPUTS = 1024, 4096
TURNS = 15


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second of one large matrix product, the best of a few.

    A stranger's work only ever makes it slower: a median once said less than half of what the
    machine did a minute later. Measured once a process for each device, format and number of
    threads.

    Args:
        device: "cpu" or "cuda".
        dtype: of both factors.
    """
    return _measured(device, dtype, torch.get_num_threads())


@cache
def _measured(device: str, dtype: torch.dtype, _: int) -> float:
    rows = ROWS.get(device, ROWS["cpu"])
    x = torch.randn(rows, INPUTS, device=device).to(dtype)
    w = torch.randn(OUTPUTS, INPUTS, device=device).to(dtype)
    seconds = [_seconds(x, w) for _ in range(TURNS + 1)][1:]
    return 2 * rows * INPUTS * OUTPUTS / min(seconds)


def _seconds(x: torch.Tensor, w: torch.Tensor) -> float:
    start = time.perf_counter()
    F.linear(x, w)
    if x.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
