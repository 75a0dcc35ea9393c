# SPDX-License-Identifier: Apache-2.0
"""SpecAugment on features: time warp, masks over dimensions, masks over time.

SpecAugment (Park et al. 2019), order and settings as SUPERB has them for ASR (s3prl ec8064b5,
downstream/specaug.py).

Differs from it: a time mask lies within its utterance, not within the padded batch, so that batch
mates do not matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.fields import Checked, whole

CUBIC = -0.75  # of the cubic kernel (Keys 1981), as torch's interpolation has it


class Taps(NamedTuple):
    """Frames of which others are made: four of them, and how much each counts."""

    places: NDArray[np.int64]  # (F, 4)
    weights: NDArray[np.float32]  # (F, 4)


@dataclass(frozen=True, kw_only=True)
class SpecAugmentConfig(Checked):
    """How much is hidden.

    Args:
        warp_window: frames by which a moment may move; 0 for no warp.
        num_feature_masks: stretches of dimensions, an utterance.
        feature_width: each narrower than this.
        num_time_masks: stretches of frames, an utterance.
        time_width: each shorter than this.
    """

    warp_window: int = whole(0, 10**6)
    num_feature_masks: int = whole(0, 1000)
    feature_width: int = whole(0, 10**6)
    num_time_masks: int = whole(0, 1000)
    time_width: int = whole(0, 10**6)


def spec_augment(
    frames: Frames, config: SpecAugmentConfig, rngs: Sequence[np.random.Generator]
) -> Frames:
    """Frames (B, F, D) with parts hidden; one generator a row.

    All that is drawn is drawn on the host, for all rows, and moved to the device at once.
    """
    size, dim = frames.x.shape[1:]
    keep_features = np.ones((len(rngs), dim), np.float32)
    keep_times = np.ones((len(rngs), size), np.float32)
    warps = []
    for row, (length, rng) in enumerate(zip(frames.lengths.tolist(), rngs, strict=True)):
        keep_times[row, length:] = 0
        if config.warp_window and length > 2 * config.warp_window:
            warps.append((row, _warp(length, config.warp_window, rng)))
        for _ in range(config.num_feature_masks):
            keep_features[row, _stretch(dim, config.feature_width, rng)] = 0
        for _ in range(config.num_time_masks):
            keep_times[row, _stretch(length, config.time_width, rng)] = 0
    x = _warped(frames.x, warps) if warps else frames.x
    features, times = _on(x, keep_features, keep_times)
    return Frames(x * features[:, None] * times[..., None], frames.lengths)


def _on(x: Tensor, *arrays: NDArray[Any]) -> list[Tensor]:
    return [torch.from_numpy(a).to(x.device, non_blocking=True) for a in arrays]


def _stretch(size: int, width: int, rng: np.random.Generator) -> slice:
    """Draw a stretch of at most `width` - 1 places out of `size`."""
    chosen = min(int(rng.integers(width)), size) if width else 0
    start = int(rng.integers(size - chosen + 1))
    return slice(start, start + chosen)


def _warp(length: int, window: int, rng: np.random.Generator) -> Taps:
    """What is at one moment moves by up to `window` frames, the others with it."""
    centre = int(rng.integers(window, length - window))
    moved = int(rng.integers(centre - window, centre + window)) + 1
    before = _resized(centre, moved)
    after = _resized(length - centre, length - moved)
    return Taps(
        np.concatenate([before.places, after.places + centre]),
        np.concatenate([before.weights, after.weights]),
    )


def _resized(frames: int, wanted: int) -> Taps:
    """Frames after torch's bicubic interpolation over time, ends not aligned."""
    position = (np.arange(wanted) + 0.5) * (frames / max(wanted, 1)) - 0.5
    first = np.floor(position)
    t = (position - first)[:, None] + np.array([1.0, 0.0, -1.0, -2.0])  # signed distances
    near, far = np.abs(t) <= 1, np.abs(t)
    weights = np.where(
        near,
        ((CUBIC + 2) * far - (CUBIC + 3)) * far**2 + 1,
        ((CUBIC * far - 5 * CUBIC) * far + 8 * CUBIC) * far - 4 * CUBIC,
    )
    places = np.clip(first[:, None] + np.arange(-1, 3), 0, frames - 1)
    return Taps(places.astype(np.int64), weights.astype(np.float32))


def _warped(x: Tensor, warps: list[tuple[int, Taps]]) -> Tensor:
    """(B, F, D) with some rows warped: four products with a weight for each frame."""
    batch, size, _ = x.shape
    places = np.repeat(np.arange(batch * size).reshape(batch, size, 1), 4, 2)
    weights = np.zeros((batch, size, 4), np.float32)
    weights[..., 1] = 1
    for row, taps in warps:
        places[row, : len(taps.places)] = taps.places + row * size
        weights[row, : len(taps.places)] = taps.weights
    index, scale = _on(x, places.reshape(-1, 4).T.copy(), weights.reshape(-1, 4).T.copy())
    rows = x.flatten(0, 1)
    parts = [
        rows.index_select(0, i) * w[:, None] for i, w in zip(index, scale.to(x.dtype), strict=True)
    ]
    return (parts[0] + parts[1] + parts[2] + parts[3]).view_as(x)
