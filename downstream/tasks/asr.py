# SPDX-License-Identifier: Apache-2.0
"""Automatic speech recognition: what is said?

Corpus     LibriSpeech: train-clean-100, dev-clean, test-clean
Head       linear, two BLSTMs, linear to 32 characters
Loss       CTC, on features with SpecAugment
Score      word error rate, greedy, and with a language model if there is one; lower is better
Source     SUPERB (Yang et al. 2021), task ASR; values in configs/superb/asr.yaml
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from downstream.corpora import librispeech, manifest
from downstream.decoding import LanguageModelConfig, LexiconDecoder
from downstream.features import Frames
from downstream.heads.recurrent import ProjectedBlstm
from downstream.metrics.text import character_error_rate, word_error_rate, word_errors
from downstream.specaug import SpecAugmentConfig, spec_augment
from downstream.task import Batch, Example, Task, TaskConfig
from downstream.text import BLANK, Characters, collapse
from wavlm_lightning.result import write_atomically
from wavlm_lightning.seeding import generator

SPLITS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        projection: width of the first linear layer.
        hidden: of each BLSTM, a direction.
        num_layers: BLSTMs.
        dropout: after each BLSTM.
        specaug: masks on features in training.
        lm: decoding of the test set with a language model.
    """

    projection: int
    hidden: int
    num_layers: int
    dropout: float
    specaug: SpecAugmentConfig
    lm: LanguageModelConfig


class ASR(Task[Config]):
    """Characters by CTC."""

    name, corpus, Config = "asr", "librispeech", Config
    monitor, mode, headline = "dev/wer", "min", "test/wer"
    headline_mode, unit = "min", "%"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._splits = {split: self._read(split) for split in SPLITS}
        beyond: set[str] = set()
        if self.sources.manifest is not None:  # another language may have other letters
            beyond = {c for e in self._splits["train"] for c in e.target}
        self.characters = Characters(beyond)
        self._stride = 0  # samples a frame, known with the upstream
        self._decoder: LexiconDecoder | None = None
        if self.config.lm.file:
            self._decoder = LexiconDecoder(self.config.lm, self.characters, self.sources.cache)

    def _read(self, split: str) -> list[Example]:
        if self.sources.manifest is not None:
            rows = manifest.read(self.sources.manifest, needs=("text",))
            found: Sequence[Any] = manifest.rows_of(rows, split, self.sources.manifest)
        else:
            found = librispeech.utterances(self.sources.folder("librispeech"), SPLITS[split])
        return [
            Example(u.id, str(u.path), 0, u.num_samples, " ".join(u.text.upper().split()))
            for u in found
        ]

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are transcripts in upper case."""
        return self._splits[split]

    def head(self, dim: int, stride: int) -> nn.Module:
        """One logit a character and frame."""
        self._stride = stride
        return ProjectedBlstm(
            dim,
            projection=self.config.projection,
            hidden=self.config.hidden,
            num_layers=self.config.num_layers,
            dropout=self.config.dropout,
            num_symbols=len(self.characters),
        )

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """CTC, each utterance divided by its length; one too short for its text counts as zero."""
        rngs = [
            generator(self.seed, "specaug", epoch, index)
            for epoch, index in zip(batch.epochs, batch.indices, strict=True)
        ]
        logits = head(spec_augment(frames, self.config.specaug, rngs))
        encoded = [self.characters.encode(text) for text in batch.targets]
        return F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),  # (F, B, U)
            torch.tensor([n for e in encoded for n in e], device=logits.device),
            frames.lengths,
            torch.tensor([len(e) for e in encoded], device=logits.device),
            blank=BLANK,
            zero_infinity=True,
        )

    def left_out(self) -> dict[str, float]:
        """Training utterances with more characters than frames, whose loss is zero."""
        train = self._splits["train"]
        fit = [
            e.num_samples // self._stride >= len(self.characters.encode(e.target)) for e in train
        ]
        return {"train_texts_longer_than_frames": fit.count(False)}

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Transcript, greedy hypothesis, and emissions where a language model wants them."""
        logits = head(frames).float()
        best = logits.argmax(-1)
        out = []
        for row, text in enumerate(batch.targets):
            length = int(frames.lengths[row])
            numbers = collapse(best[row, :length].tolist())
            found = {"reference": text, "hypothesis": self.characters.decode(numbers)}
            if self._decoder is not None:
                found["emissions"] = logits[row, :length].log_softmax(-1).half().cpu().numpy()
            out.append(found)
        return out

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of words and of characters; on test with the language model too."""
        references = [p["reference"] for p in predictions.values()]
        hypotheses = [p["hypothesis"] for p in predictions.values()]
        scores = {
            "wer": word_error_rate(references, hypotheses),
            "cer": character_error_rate(references, hypotheses),
        }
        if split == "test" and self._decoder is not None:
            for p in predictions.values():
                p["with_lm"] = self._decoder(p["emissions"])
            with_lm = [p["with_lm"] for p in predictions.values()]
            scores["wer_lm"] = word_error_rate(references, with_lm)
        return scores

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """References and hypotheses, one utterance a line, as sclite's trn has it."""
        paths = []
        for kind in ("reference", "hypothesis", "with_lm"):
            lines = [f"{p[kind]} ({name})\n" for name, p in predictions.items() if kind in p]
            if lines:
                paths.append(folder / f"{split}.{kind}.trn")
                write_atomically(paths[-1], "".join(lines))
        return paths

    def worst(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """By word errors over words."""
        rows = [
            {
                "id": name,
                "reference": p["reference"],
                "hypothesis": p["hypothesis"],
                "error": word_errors(p["reference"], p["hypothesis"])
                / max(len(p["reference"].split()), 1),
            }
            for name, p in predictions.items()
        ]
        return sorted(rows, key=lambda row: -row["error"])
