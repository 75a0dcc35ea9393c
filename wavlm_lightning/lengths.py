# SPDX-License-Identifier: Apache-2.0
"""Samples and frames: how many, which are real, which are padding.

The letters used in every shape of this project:

    B batch    T samples   F frames    D width     H heads    d width of one head
    L layers   C classes or clusters   S speakers or label sets   U output symbols

A WavLM frame sees 400 samples (25 ms at 16 kHz) and the next one starts 320 samples (20 ms) later:
the strided convolutions of wav2vec 2.0 (Baevski et al. 2020, section 4.2), which WavLM keeps.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
RECEPTIVE_FIELD = 400  # samples that one frame sees
HOP = 320  # samples from one frame to the next

IntOrTensor = TypeVar("IntOrTensor", int, Tensor)


def conv_lengths(
    lengths: IntOrTensor, kernels: Sequence[int] = KERNELS, strides: Sequence[int] = STRIDES
) -> IntOrTensor:
    """Lengths after un-padded convolutions with these kernels and strides; 0 where nothing fits.

    >>> [conv_lengths(n) for n in (399, 400, 16_000, 32_000, 250_000)]
    [0, 1, 49, 99, 781]
    """
    for kernel, stride in zip(kernels, strides, strict=True):
        if isinstance(lengths, Tensor):
            lengths = (lengths - kernel).div(stride, rounding_mode="floor") + 1
            lengths = lengths.clamp(min=0)
        else:
            lengths = max((lengths - kernel) // stride + 1, 0)
    return lengths


def block_lengths(lengths: Tensor, num_samples: int, num_frames: int) -> Tensor:
    """Valid frames (B,) by the released WavLM's rule, which counts up to one frame more.

    The released code cuts the padding mask of `num_samples` into `num_frames` blocks and calls a
    frame padding only if its whole block is (microsoft/unilm 768a3c8, wavlm/WavLM.py).

    Args:
        lengths: (B,) samples that are valid.
        num_samples: Length T of the padded waveforms.
        num_frames: Length F of their features.

    >>> block_lengths(torch.tensor([48_000, 32_000]), 48_000, 149)
    tensor([149, 100])
    """
    block = num_samples // num_frames
    return (
        lengths.div(block, rounding_mode="floor")
        .add((lengths % block != 0).long())
        .clamp(max=num_frames)
    )


def padding_mask(lengths: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """(B, size) bool, True on padding.

    Args:
        lengths: (B,) int64, best on the host.
        size: Of the padded dimension.
        device: Of the mask; None: that of the lengths.
    """
    lengths = lengths.to(device or lengths.device, non_blocking=True)
    return torch.arange(size, device=lengths.device)[None, :] >= lengths[:, None]


def similar_lengths(
    lengths: Sequence[int], *, ratio: float, most: int | None = None
) -> list[list[int]]:
    """Rows of about one length together, longest first: padding costs little then.

    Args:
        lengths: Samples of each row.
        ratio: Shortest row of a group over its longest one, at least.
        most: Samples of a group with padding, at most; a longer row is alone.

    >>> similar_lengths([10, 100, 9, 95, 90], ratio=0.8, most=200)
    [[1, 3], [4], [0, 2]]
    """
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
        longest = lengths[groups[-1][0]] if groups else 0
        full = most is not None and groups and longest * (len(groups[-1]) + 1) > most
        if not groups or full or lengths[row] < ratio * longest:
            groups.append([])
        groups[-1].append(row)
    return groups


def pad_batch(waveforms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waveforms of (T_i,) -> zero-padded (B, T) float32 and their lengths (B,) int64."""
    lengths = torch.tensor([len(w) for w in waveforms], dtype=torch.int64)
    batch = torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True)
    return batch.float(), lengths
