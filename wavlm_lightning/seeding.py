# SPDX-License-Identifier: Apache-2.0
"""Random numbers that depend on what they are for, not on who asks first.

Every draw in data, mixing and masking comes from a generator made from (seed, purpose, epoch,
utterance), so the result is the same for any number of workers or processes, and after a resume.
"""

import zlib

import numpy as np
import torch


def generator(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A NumPy generator for one purpose.

    >>> bool(generator(0, "crop", 1, 7).random() == generator(0, "crop", 1, 7).random())
    True
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *numbers])


def torch_seed(seed: int, purpose: str, *numbers: int) -> int:
    """A seed for torch from the same ingredients."""
    return int(generator(seed, purpose, *numbers).integers(2**63))


def torch_generator(seed: int, purpose: str, *numbers: int) -> torch.Generator:
    """A torch generator of the CPU for one purpose."""
    return torch.Generator().manual_seed(torch_seed(seed, purpose, *numbers))
