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


def seed_torch(seed: int, purpose: str, *numbers: int) -> None:
    """Seed torch's own generators, those of the processor and of devices in use.

    Differs from torch.manual_seed, which leaves a note for devices that may come into use later,
    with a stack trace: two milliseconds, as much as a small head takes for a step.
    """
    value = torch_seed(seed, purpose, *numbers)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)
