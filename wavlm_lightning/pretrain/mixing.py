# SPDX-License-Identifier: Apache-2.0
"""Masked speech denoising: other speakers and noise laid over part of an utterance.

WavLM (Chen et al. 2021), section 3.2: with probability `prob` an utterance gets a second one of its
batch, or noise, over at most half of its length, at a random energy ratio. The labels stay those
of the first speaker, who is the one that lasts longer.

Differs from the released code (microsoft/UniSpeech 40d3227): nobody is mixed with itself, the
second utterance is taken as it was before mixing, the overlap is at least one sample (the paper's
rule). `self_mixing` and `mixed_secondary` bring the released behaviour back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wavlm_lightning.audio import read_audio
from wavlm_lightning.fields import Checked, number
from wavlm_lightning.pretrain.manifest import Manifest

MAX_NOISE_SAMPLES = 30 * 16_000  # of a longer clip, a random part of this length is the clip


class Mixed(NamedTuple):
    """A batch after mixing."""

    waveforms: Tensor  # (B, T)
    kinds: Tensor  # (B,) int64: 0 clean, 1 another utterance, 2 noise


class NoiseClips:
    """Noise recordings, one drawn at a time."""

    def __init__(self, manifest: Manifest):
        if len(manifest) == 0:
            raise ValueError(f"{manifest.root}: no noise clip")
        self.manifest = manifest

    def draw(self, generator: np.random.Generator) -> Tensor:
        """A random clip (T,) float32."""
        index = int(generator.integers(len(self.manifest)))
        entry = self.manifest[index]
        start, count = entry.start, min(entry.num_samples, MAX_NOISE_SAMPLES)
        start += int(generator.integers(entry.num_samples - count + 1))
        return read_audio(self.manifest.path(index), start, start + count)


@dataclass(frozen=True, kw_only=True)
class MixingConfig(Checked):
    """Settings of the mixer.

    Args:
        prob: probability that an utterance is mixed.
        noise_prob: share of the mixed that get noise, not another utterance.
        speech_db: range of the energy ratio, first utterance over second, in dB.
        noise_db: the same for noise.
        max_overlap: longest overlap as a share of the utterance.
        self_mixing: an utterance may be its own partner.
        mixed_secondary: the partner may hold a mix already.
    """

    prob: float = number(0, 1)
    noise_prob: float = number(0, 1)
    speech_db: tuple[float, float] = number(-200, 200)
    noise_db: tuple[float, float] = number(-200, 200)
    max_overlap: float = number(0, 1, above=True)
    self_mixing: bool = False
    mixed_secondary: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("speech_db", "noise_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(
                    f"mixing.{name} must go from low to high (got [{low:g}, {high:g}])"
                )


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """Mixes the rows of a batch, each from its own generator.

    Args:
        config: how often, what and how loud.
        normalize: give mixed rows zero mean and unit variance again (Large).
        noise: the clips; None mixes speech alone.
    """

    config: MixingConfig
    normalize: bool
    noise: NoiseClips | None = None

    def __post_init__(self) -> None:
        if self.noise is None and self.config.prob > 0 and self.config.noise_prob > 0:
            raise ValueError(
                f"mixing.noise_prob={self.config.noise_prob:g} needs noise: say data.noise=DIR, or "
                "mixing.noise_prob=0"
            )

    def __call__(
        self, waveforms: Tensor, lengths: Tensor, generators: Sequence[np.random.Generator]
    ) -> Mixed:
        """(B, T), (B,) samples and one generator a row -> mixed rows of the same shape."""
        mixed, kinds = waveforms.clone(), torch.zeros(len(waveforms), dtype=torch.int64)
        source = mixed if self.config.mixed_secondary else waveforms
        for row, generator in enumerate(generators):
            # One generator a row, and draws in this order: what a row gets depends on no other row.
            if generator.random() >= self.config.prob:
                continue
            if generator.random() < self.config.noise_prob and self.noise is not None:
                second, decibels, kinds[row] = self.noise.draw(generator), self.config.noise_db, 2
            else:
                partner = self._partner(row, len(waveforms), generator)
                if partner is None:
                    continue
                second = source[partner, : lengths[partner]]
                decibels, kinds[row] = self.config.speech_db, 1
            n = int(lengths[row])
            mixed[row, :n] = self.mix(mixed[row, :n], second, decibels, generator)
        return Mixed(mixed, kinds)

    def _partner(self, row: int, rows: int, generator: np.random.Generator) -> int | None:
        if self.config.self_mixing:
            return int(generator.integers(rows))
        if rows == 1:
            return None
        return (row + 1 + int(generator.integers(rows - 1))) % rows

    def mix(
        self,
        first: Tensor,
        second: Tensor,
        decibels: tuple[float, float],
        generator: np.random.Generator,
    ) -> Tensor:
        """(T,) with a random part of `second` (T',) added at a random place.

        Args:
            first: (T,) samples, whose length and place are kept.
            second: (T',) samples.
            decibels: Range of the energy ratio, `first` over `second`.
            generator: Of ratio, overlap and places.
        """
        ratio = generator.uniform(*decibels)
        # At most half of the first utterance: it stays the main speaker, whose labels these are.
        longest = min(int(len(first) * self.config.max_overlap), len(second))
        overlap = int(generator.integers(1, max(longest, 1) + 1))
        start = int(generator.integers(len(first) - overlap + 1))
        offset = int(generator.integers(len(second) - overlap + 1))
        out = first.clone()
        out[start : start + overlap] += (
            mixing_gain(first, second, ratio) * second[offset : offset + overlap]
        )
        if self.normalize:
            out = torch.nn.functional.layer_norm(out, out.shape)
        return out


def mixing_gain(first: Tensor, second: Tensor, decibels: float) -> Tensor:
    """Factor () on `second` (T,) that puts `first` (T,) so many dB above it, by mean energy.

    Args:
        first: (T,) samples.
        second: (T',) samples.
        decibels: Energy of `first` over that of `second`.

    >>> mixing_gain(torch.ones(4), 2 * torch.ones(8), 0.0)
    tensor(0.5000)
    """
    energy = second.square().mean()
    if energy == 0:  # silence stays silence at any ratio
        return torch.zeros(())
    return (first.square().mean() / (energy * 10 ** (decibels / 10))).sqrt()
