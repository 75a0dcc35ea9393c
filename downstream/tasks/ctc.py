# SPDX-License-Identifier: Apache-2.0
"""Speech recognition by a fine-tuned encoder: one linear layer to characters, trained by CTC.

Corpus     LibriSpeech, or Libri-Light's ten minutes, one hour and ten hours of it; any with text
Head       dropout and a linear layer to 32 characters
Loss       CTC summed over an utterance, mean over utterances
Score      word error rate, greedy, and with a language model if there is one; lower is better
Source     wav2vec 2.0 (Baevski et al. 2020, section 4.3) as HuBERT and WavLM follow it;
           values in configs/finetune
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.downstream.corpora.librilight import LibriLight
from wavlm_lightning.downstream.families.symbols import ctc_loss
from wavlm_lightning.downstream.families.transcription import Transcription
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.linear import FrameLinear
from wavlm_lightning.downstream.task import Batch, TaskConfig
from wavlm_lightning.downstream.text.decoding import LanguageModelConfig
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
        self._set_of: dict[str, str] = {}  # test utterance -> its set
        super().__init__(*args, **kwargs)

    @property
    def language_model(self) -> LanguageModelConfig:
        """Language model that decodes the test sets."""
        return self.config.lm

    def official(self) -> Corpus:
        """Sets of LibriSpeech and Libri-Light."""
        config = self.config
        sets = {"train": config.train, "dev": [config.dev], "test": config.test}
        return LibriLight(self.sources.folder, sets)

    def text(self, recording: Recording) -> str:
        """Letters and words; of a test utterance its set is noted."""
        if recording.split == "test" and "set" in recording.extra:
            self._set_of[recording.id] = recording.extra["set"]
        return super().text(recording)

    def encode(self, text: str) -> list[int]:
        """Letters and word ends."""
        return self.characters.encode(text, end=False)

    def head(self, dim: int) -> nn.Module:
        """One logit a character and frame."""
        return FrameLinear(dim, len(self.characters), dropout=self.config.dropout)

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean CTC loss () an utterance; one too short for its text counts as zero."""
        encoded = [self.encode(text) for text in batch.targets]
        total = ctc_loss(head(frames), frames.lengths, encoded, reduction="sum")
        return total / len(encoded)

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores of the first set, and of each further one under its name."""
        if split != "test" or len(self.config.test) < 2 or not self._set_of:
            return super().score(split, predictions)
        scores: dict[str, float] = {}
        for name in self.config.test:
            own = {k: p for k, p in predictions.items() if self._set_of[k] == name}
            suffix = "" if name == self.config.test[0] else f"/{name}"
            scores |= {f"{k}{suffix}": v for k, v in super().score(split, own).items()}
        return scores
