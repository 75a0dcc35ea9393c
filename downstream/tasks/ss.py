# SPDX-License-Identifier: Apache-2.0
"""Source separation: what does each of two speakers say alone?

Corpus     Libri2Mix, two speakers without noise, as long as the shorter one
Head       three BLSTMs, one spectral mask a speaker
Loss       squared error of masked magnitudes under the best order of speakers
Score      improvement of SI-SDR over the mixture in dB, higher is better
Source     SUPERB-SG (Tsai et al. 2022), task SS; values in configs/superb/ss.yaml

Differs from s3prl: waveforms are padded to whole hops before the transform, so that every sample
lies in a window and none has to be silenced at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.audio import read_audio, write_audio
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.downstream.corpora.librimix import LibriMix
from wavlm_lightning.downstream.corpora.simulate import separated
from wavlm_lightning.downstream.families.mixtures import Mixtures
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.mask import MaskBlstm
from wavlm_lightning.downstream.losses import permutation_mse
from wavlm_lightning.downstream.metrics.separation import best_order, si_sdr_improvement
from wavlm_lightning.downstream.task import Batch, Example, Item, TaskConfig, example_of
from wavlm_lightning.fields import number, whole
from wavlm_lightning.files import write_text
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.names import safe_name, write_index
from wavlm_lightning.seeding import generator

SOURCES = 2


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        hidden: of each BLSTM, a direction.
        num_layers: BLSTMs.
        dropout: between them and after.
        fft: samples of a window and of its transform; the hop is the upstream's stride.
        dev_mixtures: of the corpus's dev split, drawn at random; 0 for all.
        max_seconds: of mixtures that are made of single speakers.
        keep: test mixtures whose estimates are written as audio.
    """

    hidden: int = whole(1, 65536)
    num_layers: int = whole(1, 100)
    dropout: float = number(0, 1, below=True)
    fft: int = whole(2, 65536)
    dev_mixtures: int = whole(0)
    max_seconds: float = number(0.1, 10**5)
    keep: int = whole(0)


class SS(Mixtures[Config]):
    """Masks for two speakers."""

    name, corpus, Config = "ss", "librimix", Config
    field = "sources"
    monitor, mode, headline = "dev/si_sdri", "max", "test/si_sdri"
    headline_mode, unit = "max", "dB"
    trivial_answer = "the mixture itself"
    uses_waveforms = True

    def official(self) -> Corpus:
        """Libri2Mix without noise, with the speakers alone."""
        root = self.sources.folder("librimix")
        return LibriMix(root, mode="min", kind="mix_clean", has="sources")

    @property
    def max_samples(self) -> int:
        """The longest mixture that is made."""
        return round(self.config.max_seconds * SAMPLE_RATE)

    def recorded(self, split: str, recordings: Sequence[Recording]) -> list[Example]:
        """Targets are paths of the sources; of dev a random part, if `dev_mixtures` says so."""
        if split == "dev" and 0 < self.config.dev_mixtures < len(recordings):
            chosen = generator(0, "dev mixtures").permutation(len(recordings))
            recordings = [recordings[i] for i in sorted(chosen[: self.config.dev_mixtures])]
        for r in recordings:
            if not isinstance(r.extra["sources"], list) or len(r.extra["sources"]) != SOURCES:
                raise ValueError(
                    f"{r.where}: sources in extra of {r.id} must be {SOURCES} recordings"
                )
        return [example_of(r, tuple(map(str, r.extra["sources"]))) for r in recordings]

    def load_recorded(self, example: Example) -> Item:
        """A mixture (T,), and its sources (2, T)."""
        sources = torch.stack([read_audio(p, 0, example.stop) for p in example.target])
        return Item(read_audio(example.path), sources)

    def mix(self, recordings: Sequence[Recording], index: int, rng: np.random.Generator) -> Item:
        """The same of two recordings, as long as the shorter one."""
        sources = separated(recordings, index, rng, max_samples=self.max_samples)
        return Item(sources.sum(0), sources)

    def head(self, dim: int) -> nn.Module:
        """Masks (B, S, F, N)."""
        return MaskBlstm(
            dim,
            hidden=self.config.hidden,
            num_layers=self.config.num_layers,
            dropout=self.config.dropout,
            num_sources=SOURCES,
            num_bins=self.config.fft // 2 + 1,
        )

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean squared error () of masked magnitudes against the sources', as far as in phase."""
        mixture = self._spectra(batch.waveforms)  # (B, N, F)
        size = batch.waveforms.shape[1]
        sources = torch.stack([F.pad(s, (0, size - s.shape[1])) for s in batch.targets])
        spectra = self._spectra(sources.flatten(0, 1).to(mixture.device))
        spectra = spectra.unflatten(0, sources.shape[:2])  # (B, S, N, F)
        # The estimate takes the mixture's phase: what is out of phase with it cannot be had.
        in_phase = torch.cos(spectra.angle() - mixture.angle()[:, None]).clamp(min=0)
        targets = (spectra.abs() * in_phase).transpose(2, 3)  # (B, S, F, N)
        lengths = self._num_frames(batch.lengths)
        masks = self._masks(head, frames, lengths, size=mixture.shape[2])
        estimates = masks * mixture.abs().transpose(1, 2)[:, None]
        return permutation_mse(estimates, targets, lengths)

    @property
    def _hop(self) -> int:
        return self.framing.stride

    def _masks(self, head: nn.Module, frames: Frames, lengths: Tensor, *, size: int) -> Tensor:
        """(B, S, F, N) for `size` frames of the transform, a few more than features: zeros there.

        `lengths` (B,) of them are valid.
        """
        x = F.pad(frames.x, (0, 0, 0, max(0, size - frames.x.shape[1])))[:, :size]
        masks: Tensor = head(Frames(x, lengths))
        return masks

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.config.fft, device=like.device)

    def _num_frames(self, lengths: Tensor) -> Tensor:
        return (lengths + self._hop - 1).div(self._hop, rounding_mode="floor") + 1

    def _spectra(self, waveforms: Tensor) -> Tensor:
        """(R, T) -> (R, N, F) complex, centred windows, zeros beyond both ends."""
        padded = F.pad(waveforms, (0, -waveforms.shape[1] % self._hop))
        return torch.stft(
            padded,
            self.config.fft,
            hop_length=self._hop,
            window=self._window(waveforms),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )

    def separate(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Tensor]:
        """Estimates (S, T) of each row: masks on the mixture, its phase, back to waveforms."""
        mixture = self._spectra(batch.waveforms)
        counts = self._num_frames(batch.lengths)
        masks = self._masks(head, frames, counts, size=mixture.shape[2]).transpose(2, 3)
        estimates = []
        for row, (length, count) in enumerate(zip(batch.lengths, counts, strict=True)):
            spectra = (masks[row] * mixture[row])[..., :count]
            waveforms = torch.istft(
                spectra,
                self.config.fft,
                hop_length=self._hop,
                window=self._window(batch.waveforms),
                center=True,
            )
            estimates.append(waveforms[:, :length])
        return estimates

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Improvement in dB; of the first examples the waveforms too."""
        out = []
        for row, estimates in enumerate(self.separate(head, frames, batch)):
            length = int(batch.lengths[row])
            mixture, sources = (
                batch.waveforms[row, :length],
                batch.targets[row].to(estimates.device),
            )
            found: dict[str, Any] = {"si_sdri": si_sdr_improvement(estimates, sources, mixture)}
            if batch.indices[row] < self.config.keep:
                order = list(best_order(estimates, sources))
                found["estimates"] = estimates[order].cpu().numpy()
                found["mixture"] = mixture.cpu().numpy()
            out.append(found)
        return out

    def vocabulary(self) -> dict[str, Any]:
        """Nothing: outputs are speakers of each recording, in any order."""
        return {}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Nothing."""

    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """Each speaker alone."""
        return [
            {"audio": {f"speaker{i}": x.cpu() for i, x in enumerate(row, start=1)}}
            for row in self.separate(head, frames, batch)
        ]

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Score of the mixture for each source: no improvement, by definition."""
        return {"si_sdri": 0.0}

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Mean over mixtures, in dB."""
        return {"si_sdri": float(np.mean([p["si_sdri"] for p in predictions.values()]))}

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """A table of improvements, and a few mixtures with their estimates as audio."""
        paths = [folder / f"{split}.tsv"]
        lines = [f"{name}\t{p['si_sdri']:.4f}\n" for name, p in predictions.items()]
        write_text(paths[0], "id\tsi_sdri\n" + "".join(lines))
        for name, p in predictions.items():
            if "estimates" in p:
                named = [("mixture", p["mixture"])]
                named += [(f"speaker{i}", w) for i, w in enumerate(p["estimates"], 1)]
                for part, waveform in named:
                    paths.append(folder / f"{split}.{safe_name(name)}.{part}.wav")
                    write_audio(paths[-1], waveform)
        write_index(folder, [name for name, p in predictions.items() if "estimates" in p])
        return paths

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Mixtures by improvement."""
        rows = [
            {
                "id": name,
                "reference": "",
                "hypothesis": f"{p['si_sdri']:.2f} dB",
                "error": -p["si_sdri"],
            }
            for name, p in predictions.items()
        ]
        return sorted(rows, key=lambda row: row["error"])[::-1]
