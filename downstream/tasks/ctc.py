# SPDX-License-Identifier: Apache-2.0
"""Speech recognition by a fine-tuned encoder: one linear layer to characters, trained by CTC.

Corpus     LibriSpeech, or Libri-Light's ten minutes, one hour and ten hours of it; any with text
Head       dropout and a linear layer to 32 characters
Loss       CTC summed over an utterance, mean over utterances
Score      word error rate, greedy, and with a language model if there is one; lower is better
Source     wav2vec 2.0 (Baevski et al. 2020, section 4.3) as HuBERT and WavLM follow it;
           values in configs/finetune
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from downstream.corpora import librilight, librispeech, manifest
from downstream.decoding import LanguageModelConfig
from downstream.features import Frames
from downstream.heads.linear import FrameLinear
from downstream.symbols import ctc_loss
from downstream.task import Batch, Example, TaskConfig
from downstream.transcription import Transcription, spoken
from wavlm_lightning.fields import number


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        train: splits of LibriSpeech, or 10min, 1h or 10h of Libri-Light.
        dev: the split that chooses the checkpoint.
        test: splits that are scored, each by itself; the first one is the headline.
        dropout: before the linear layer.
        lm: decoding of the test sets with a language model.
    """

    train: list[str]
    dev: str
    test: list[str]
    dropout: float = number(0, 1, below=True)
    lm: LanguageModelConfig


class CTC(Transcription[Config]):
    """Characters by CTC, on the last layer."""

    name, corpus, Config = "ctc", "librispeech", Config
    suite = "finetuning"

    def __init__(self, *args: Any, **kwargs: Any):
        self._set_of: dict[str, str] = {}  # test utterance -> its split
        super().__init__(*args, **kwargs)

    @property
    def language_model(self) -> LanguageModelConfig:
        """Of the test sets."""
        return self.config.lm

    def read(self, split: str) -> list[Example]:
        """Of LibriSpeech and Libri-Light, or of a manifest."""
        if self.sources.manifest is not None:
            return [
                spoken(row)
                for row in manifest.transcribed(
                    self.sources.manifest, split, lengths=self.sources.lengths
                )
            ]
        wanted = {"train": self.config.train, "dev": [self.config.dev], "test": self.config.test}
        found = []
        for name in wanted[split]:
            utterances = self._utterances(name)
            found += [spoken(u) for u in utterances]
            if split == "test":
                self._set_of |= {u.id: name for u in utterances}
        return found

    def _utterances(self, name: str) -> Sequence[librispeech.Utterance]:
        if name in librilight.PARTS:
            return librilight.utterances(
                self.sources.folder("librilight"), name, lengths=self.sources.lengths
            )
        return librispeech.utterances(
            self.sources.folder("librispeech"), name, lengths=self.sources.lengths
        )

    def encode(self, text: str) -> list[int]:
        """Letters and word ends."""
        return self.characters.encode(text, end=False)

    def head(self, dim: int, stride: int) -> nn.Module:
        """One logit a character and frame."""
        return FrameLinear(dim, len(self.characters), dropout=self.config.dropout)

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """CTC, mean over utterances; one too short for its text counts as zero."""
        encoded = [self.encode(text) for text in batch.targets]
        total = ctc_loss(head(frames), frames.lengths, encoded, reduction="sum")
        return total / len(encoded)

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Of the first set, and of each further one under its name."""
        if split != "test" or len(self.config.test) < 2 or not self._set_of:
            return super().score(split, predictions)
        scores: dict[str, float] = {}
        for name in self.config.test:
            own = {k: p for k, p in predictions.items() if self._set_of[k] == name}
            suffix = "" if name == self.config.test[0] else f"/{name}"
            scores |= {f"{k}{suffix}": v for k, v in super().score(split, own).items()}
        return scores
