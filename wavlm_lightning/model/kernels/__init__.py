# SPDX-License-Identifier: Apache-2.0
"""Kernels that a CPU runs in place of plain operations, each tested against them.

`model/` says what is computed, in operations that every device has and that a compiler can read:
what GPUs, `torch.compile` and `torch.export` run. On a CPU, outside the compiler, a module takes a
kernel from this folder where one was measured to be faster or smaller.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_plain_only = False


def use_kernels(x: Tensor) -> bool:
    """Whether the work on x (...) goes to kernels: it lies on a CPU and nothing traces it."""
    return x.device.type == "cpu" and not _plain_only and not torch.compiler.is_compiling()


@contextmanager
def plain_operations() -> Iterator[None]:
    """Run plain operations on a CPU too within the block: what kernels are compared with."""
    global _plain_only
    before, _plain_only = _plain_only, True
    try:
        yield
    finally:
        _plain_only = before
