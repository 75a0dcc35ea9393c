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
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from downstream.corpora import audio_snips, manifest
from downstream.corpora.lengths import Lengths
from downstream.features import Frames
from downstream.metrics.slots import slot_type_f1, slot_value_cer, words_of
from downstream.metrics.text import word_error_rate
from downstream.symbols import BlstmConfig, SymbolTask, blstm_head
from downstream.task import Batch, Example
from downstream.text import Tokens
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

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        kinds, characters = self._kinds(), set(CHARACTERS)
        if self.sources.manifest is not None:  # another language may have other letters
            texts = (words_of(e.target) for e in self._splits["train"])
            characters |= {c for text in texts for c in text}
        marks = [mark + kind for kind in kinds for mark in (OPEN, CLOSE)]
        more = sorted(characters - set(CHARACTERS))
        self.tokens = Tokens([*CHARACTERS, *more, *marks])
        self._marks = set(marks)

    def read(self, split: str) -> list[Example]:
        """Of Audio SNIPS, or of a manifest with a slot for each word in `extra`."""
        if self.sources.manifest is not None:
            return _of_manifest(self.sources.manifest, split, self.sources.lengths)
        root = self.sources.folder("audio_snips")
        found = audio_snips.sentences(
            root, split, self.config.voices[split], lengths=self.sources.lengths
        )
        return [_example(s, s.words, s.slots) for s in found]

    def _kinds(self) -> list[str]:
        if self.sources.manifest is None:
            return audio_snips.slot_types(self.sources.folder("audio_snips"))
        words = {word for e in self._splits["train"] for word in e.target.split()}
        return sorted(word.removeprefix(OPEN) for word in words if word.startswith(OPEN))

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

    def head(self, dim: int, stride: int) -> nn.Module:
        """One logit a symbol and frame."""
        return blstm_head(self.config, dim, num_symbols=len(self.tokens))

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """CTC on features with SpecAugment."""
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
        parts.append(text if slot == audio_snips.OUTSIDE else f"{OPEN}{slot} {text} {CLOSE}{slot}")
    return " ".join(parts)


def _of_manifest(folder: Path, split: str, lengths: Lengths) -> list[Example]:
    rows = manifest.rows_of(
        manifest.read(folder, needs=("text", "extra"), lengths=lengths), split, folder
    )
    examples = []
    for row in rows:
        words, slots = spoken_text(row.text).split(), row.extra.get("slots")
        if not isinstance(slots, list) or len(slots) != len(words):
            raise ValueError(
                f"{folder / manifest.NAME}: column extra of {row.id} has no slot for each of its "
                f'{len(words)} words: {{"slots": ["O", "artist", ...]}}'
            )
        examples.append(_example(row, words, slots))
    return examples


def _example(recording: Any, words: Sequence[str], slots: Sequence[str]) -> Example:
    target = marked(words, slots)
    return Example(recording.id, str(recording.path), 0, recording.num_samples, target)
