# SPDX-License-Identifier: Apache-2.0
"""Frames of a long recording, window by window: memory and time grow with its length alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from wavlm_lightning.downstream.features.frames import Frames, Framing
from wavlm_lightning.fields import Checked, number
from wavlm_lightning.lengths import RECEPTIVE_FIELD, SAMPLE_RATE, similar_lengths

T = TypeVar("T")
GROUP_RATIO = 0.8  # shortest over longest of the recordings that run together


@dataclass(frozen=True, kw_only=True)
class WindowConfig(Checked):
    """How a recording is cut.

    Args:
        window_seconds: longer recordings are computed in windows of this length.
        context_seconds: what a window also sees on each side, and leaves to its neighbours.
        batch_seconds: most seconds of audio that run together.
    """

    window_seconds: float = number(1, 10**6, default=60.0)
    context_seconds: float = number(0, 10**6, default=5.0)
    batch_seconds: float = number(0, 10**6, above=True, default=120.0)


class Window(NamedTuple):
    """Frames that are seen, from `first` up to `last`, and those of them kept."""

    first: int
    start: int
    stop: int
    last: int


def windows_of(frames: int, *, length: int, context: int) -> Iterator[Window]:
    """Windows that keep every frame once.

    >>> [tuple(window) for window in windows_of(25, length=10, context=2)]
    [(0, 0, 10, 12), (8, 10, 20, 22), (18, 20, 25, 25)]
    """
    for start in range(0, frames, length):
        stop = min(start + length, frames)
        yield Window(max(start - context, 0), start, stop, min(stop + context, frames))


def frames_in_windows(
    waveform: Tensor,
    framing: Framing,
    compute: Callable[[list[Tensor]], list[Tensor]],
    config: WindowConfig,
) -> Frames:
    """Frames (1, F, D) of a recording.

    Args:
        waveform: (T,) samples.
        framing: How its frames lie.
        compute: Pieces (T_i,) -> frames (F_i, D) of each.
        config: How it is cut.
    """
    stride, count = framing.stride, framing.num_frames(len(waveform))
    length = max(int(config.window_seconds * SAMPLE_RATE) // stride, 1)
    context = int(config.context_seconds * SAMPLE_RATE) // stride
    windows = list(windows_of(count, length=length, context=context))
    seconds = config.window_seconds + 2 * config.context_seconds
    at_once = max(int(config.batch_seconds / seconds), 1)
    kept = []
    for place in range(0, len(windows), at_once):
        part = windows[place : place + at_once]
        pieces = [_samples(waveform, window, stride=stride, count=count) for window in part]
        for window, found in zip(part, compute(pieces), strict=True):
            kept.append(found[window.start - window.first : window.stop - window.first])
    whole = torch.cat(kept)
    assert len(whole) == count
    return Frames(whole[None], torch.tensor([count]))


def _samples(waveform: Tensor, window: Window, *, stride: int, count: int) -> Tensor:
    """What a window's frames are made of; the last frame reaches beyond its stride."""
    end = None if window.last == count else window.last * stride + RECEPTIVE_FIELD
    return waveform[window.first * stride : end]


def each_recording(
    waveforms: Sequence[Tensor],
    config: WindowConfig,
    *,
    together: Callable[[list[Tensor]], Sequence[T]],
    alone: Callable[[Tensor], T],
) -> list[T]:
    """What is computed of recordings, in their order.

    Args:
        waveforms: (T_i,) samples of each.
        config: Which ones are long, and how much audio runs together.
        together: Computes several of similar lengths.
        alone: Computes a long one, in windows.
    """
    found: dict[int, T] = {}
    longest = round(config.window_seconds * SAMPLE_RATE)
    short = [row for row, waveform in enumerate(waveforms) if len(waveform) <= longest]
    most = round(config.batch_seconds * SAMPLE_RATE)
    lengths = [len(waveforms[row]) for row in short]
    for places in similar_lengths(lengths, ratio=GROUP_RATIO, most=most):
        rows = [short[place] for place in places]
        found |= dict(zip(rows, together([waveforms[row] for row in rows]), strict=True))
    for row in set(range(len(waveforms))) - set(short):
        found[row] = alone(waveforms[row])
    return [found[row] for row in range(len(waveforms))]
