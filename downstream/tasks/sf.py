# SPDX-License-Identifier: Apache-2.0
"""Slot filling: which values does an utterance give for which slots?

Corpus     Audio SNIPS: sentences and voices disjoint between splits
Head       linear, two BLSTMs, linear to characters and marks of slots
Loss       CTC, on features with SpecAugment
Score      F1 of slot types, higher is better, and character error rate of slot values
Source     SUPERB (Yang et al. 2021), task SF; values in configs/superb/sf.yaml

Targets are the words with a mark before and after each slot: `PLAY B-artist ABBA E-artist`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from wavlm_lightning.downstream.corpora.audio_snips import OUTSIDE, AudioSnips
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.downstream.families.symbols import BlstmConfig, SymbolTask, blstm_head
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.metrics.slots import slot_type_f1, slot_value_cer, words_of
from wavlm_lightning.downstream.metrics.text import word_error_rate
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.downstream.text.symbols import Run, Tokens, split_runs
from wavlm_lightning.tables import spoken_text

# s3prl ec8064b5, downstream/ctc/vocab/character.txt
CHARACTERS = " ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
OPEN, CLOSE = "B-", "E-"


@dataclass(frozen=True, kw_only=True)
class Config(BlstmConfig):
    """Section `task`.

    Args:
        projection: width of the first linear layer.
        hidden: of each BLSTM, a direction.
        num_layers: BLSTMs.
        dropout: after each BLSTM.
        specaug: masks on features in training.
        voices: of each split, of Audio SNIPS.
    """

    voices: dict[str, list[str]]


class SF(SymbolTask[Config]):
    """Characters and marks of slots by CTC."""

    name, corpus, Config = "sf", "audio_snips", Config
    monitor, mode = "dev/slot_type_f1", "max"
    headline, headline_mode = "test/slot_type_f1", "max"
    unknown_number = Tokens.UNKNOWN
    needs = ("text",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        train = [e.target for e in self._splits["train"]]
        words = {word for text in train for word in text.split()}
        found = sorted(w.removeprefix(OPEN) for w in words if w.startswith(OPEN))
        # Another language may have other letters than those of the published set.
        letters = {c for text in train for c in words_of(text)}
        marks = [mark + kind for kind in self.source.classes or found for mark in (OPEN, CLOSE)]
        self.tokens = Tokens([*CHARACTERS, *sorted(letters - set(CHARACTERS)), *marks])
        self._marks = set(marks)

    def vocabulary(self) -> dict[str, Any]:
        """Symbols in their order, and those that are marks of slots."""
        return {
            "symbols": self.tokens.symbols[len(Tokens.SPECIAL) :],
            "marks": sorted(self._marks),
        }

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Take them."""
        self.tokens = Tokens(vocabulary["symbols"])
        self._marks = set(vocabulary["marks"])

    def words(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Between blanks; marks of slots stand with their words."""
        return split_runs(runs, self.tokens.symbols.index(" "))

    def official(self) -> Corpus:
        """Audio SNIPS in the voices of the protocol."""
        return AudioSnips(self.sources.folder("audio_snips"), self.config.voices)

    def text(self, recording: Recording) -> str:
        """Words with marks, from the slots in `extra`.

        Raises:
            ValueError: naming a recording without a slot for each word.
        """
        words, slots = spoken_text(recording.text).split(), recording.extra.get("slots")
        if not isinstance(slots, list) or len(slots) != len(words):
            raise ValueError(
                f"{recording.where}: column extra of {recording.id} has no slot "
                f'for each of its {len(words)} words: {{"slots": ["O", "artist", ...]}}'
            )
        return marked(words, slots)

    def encode(self, text: str) -> list[int]:
        """Characters, a space between words, marks of slots next to their words, the end."""
        symbols: list[str] = []
        for word in text.split():
            if word in self._marks and word.startswith(CLOSE):
                symbols[-1:] = [word, " "]
            elif word in self._marks:
                symbols.append(word)
            else:
                symbols += [*word, " "]
        return self.tokens.encode(symbols[:-1])

    def decode(self, numbers: Sequence[int]) -> str:
        """Words and marks parted by one space."""
        symbols = self.tokens.decode(numbers)
        return " ".join("".join(f" {s} " if s in self._marks else s for s in symbols).split())

    def head(self, dim: int) -> nn.Module:
        """One logit a symbol and frame."""
        return blstm_head(self.config, dim, num_symbols=len(self.tokens))

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean CTC loss () on features with SpecAugment."""
        return super().loss(head, self.augmented(frames, batch, self.config.specaug), batch)

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent; words without their slots beside."""
        references = [p["reference"] for p in predictions.values()]
        hypotheses = [p["hypothesis"] for p in predictions.values()]
        said, heard = ([words_of(text) for text in texts] for texts in (references, hypotheses))
        return {
            "slot_type_f1": slot_type_f1(references, hypotheses),
            "slot_value_cer": slot_value_cer(references, hypotheses),
            "wer": word_error_rate(said, heard),
        }


def marked(words: Sequence[str], slots: Sequence[str]) -> str:
    """Words with a mark before and after each run of one slot.

    >>> marked(["PLAY", "THE", "WHO", "NOW"], ["O", "artist", "artist", "O"])
    'PLAY B-artist THE WHO E-artist NOW'
    """
    parts = []
    for slot, run in groupby(zip(words, slots, strict=True), key=lambda pair: pair[1]):
        text = " ".join(word for word, _ in run)
        parts.append(text if slot == OUTSIDE else f"{OPEN}{slot} {text} {CLOSE}{slot}")
    return " ".join(parts)
