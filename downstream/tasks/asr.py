# SPDX-License-Identifier: Apache-2.0
"""Automatic speech recognition: what is said?

Corpus     LibriSpeech: train-clean-100, dev-clean, test-clean
Head       linear, two BLSTMs, linear to 32 characters
Loss       CTC, on features with SpecAugment
Score      word error rate, greedy, and with a language model if there is one; lower is better
Source     SUPERB (Yang et al. 2021), task ASR; values in configs/superb/asr.yaml
"""

from dataclasses import dataclass

from torch import Tensor, nn

from wavlm_lightning.downstream.corpora.corpus import Corpus
from wavlm_lightning.downstream.corpora.librispeech import LibriSpeech
from wavlm_lightning.downstream.families.symbols import BlstmConfig, blstm_head
from wavlm_lightning.downstream.families.transcription import Transcription
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.downstream.text.decoding import LanguageModelConfig


@dataclass(frozen=True, kw_only=True)
class Config(BlstmConfig):
    """Section `task`.

    Args:
        projection: width of the first linear layer.
        hidden: of each BLSTM, a direction.
        num_layers: BLSTMs.
        dropout: after each BLSTM.
        specaug: masks on features in training.
        lm: decoding of the test set with a language model.
    """

    lm: LanguageModelConfig


class ASR(Transcription[Config]):
    """Characters by CTC."""

    name, corpus, Config = "asr", "librispeech", Config

    @property
    def language_model(self) -> LanguageModelConfig:
        """Language model that decodes the test set."""
        return self.config.lm

    def official(self) -> Corpus:
        """The splits of SUPERB."""
        return LibriSpeech(self.sources.folder("librispeech"))

    def encode(self, text: str) -> list[int]:
        """Letters, word ends, and `</s>`, as SUPERB's reference has it."""
        return self.characters.encode(text)

    def head(self, dim: int) -> nn.Module:
        """One logit a character and frame."""
        return blstm_head(self.config, dim, num_symbols=len(self.characters))

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean CTC loss () on features with SpecAugment."""
        return super().loss(head, self.augmented(frames, batch, self.config.specaug), batch)
