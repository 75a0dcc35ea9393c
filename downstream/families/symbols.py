# SPDX-License-Identifier: Apache-2.0
"""Tasks with a logit for each symbol and frame: targets and hypotheses are rows of symbols."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.downstream.corpora.corpus import Recording, by_split
from wavlm_lightning.downstream.data.specaug import SpecAugmentConfig, spec_augment
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.recurrent import ProjectedBlstm
from wavlm_lightning.downstream.metrics.text import word_errors
from wavlm_lightning.downstream.task import Batch, Example, TaskConfig, example_of
from wavlm_lightning.downstream.text.symbols import BLANK, Run, collapse, symbol_runs
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.fields import number, whole
from wavlm_lightning.files import write_text
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.names import safe_field
from wavlm_lightning.seeding import generator

C = TypeVar("C", bound=TaskConfig)
MANY_SHORT = 0.01  # share of training texts that do not fit, above which it is told


@dataclass(frozen=True, kw_only=True)
class BlstmConfig(TaskConfig):
    """What tasks with SUPERB's recurrent head have in section `task`.

    Args:
        projection: width of the first linear layer.
        hidden: of each BLSTM, a direction.
        num_layers: BLSTMs.
        dropout: after each BLSTM.
        specaug: masks on features in training.
    """

    projection: int = whole(1, 65536)
    hidden: int = whole(1, 65536)
    num_layers: int = whole(1, 100)
    dropout: float = number(0, 1, below=True)
    specaug: SpecAugmentConfig


def blstm_head(config: BlstmConfig, dim: int, *, num_symbols: int) -> ProjectedBlstm:
    """The head of that section over frames of width `dim`."""
    return ProjectedBlstm(
        dim,
        projection=config.projection,
        hidden=config.hidden,
        num_layers=config.num_layers,
        dropout=config.dropout,
        num_symbols=num_symbols,
    )


def ctc_loss(
    logits: Tensor, lengths: Tensor, encoded: Sequence[Sequence[int]], *, reduction: str
) -> Tensor:
    """CTC in float32; an utterance with more symbols than frames counts as zero.

    Args:
        logits: (B, F, U).
        lengths: (B,) int64 frames, on the host.
        encoded: symbols of each row.
        reduction: "mean" divides each row by its symbols and averages them; "sum" does neither.
    """
    return F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),  # (F, B, U)
        torch.tensor([n for e in encoded for n in e], device=logits.device),
        lengths,
        torch.tensor([len(e) for e in encoded]),  # on the host, as the frames: torch reads both
        blank=BLANK,
        reduction=reduction,
        zero_infinity=True,
    )


def _span(runs: Sequence[Run], seconds: float) -> dict[str, float]:
    """Begin and end of a word, in seconds."""
    return {
        "start": round(runs[0].first * seconds, 3),
        "stop": round((runs[-1].last + 1) * seconds, 3),
    }


class SymbolTask(TrainedTask[C]):
    """Greedy hypotheses and their files; subclasses name a corpus, spell, and score.

    Targets are texts that `encode` turns into symbols.
    """

    headline_mode, unit = "min", "%"
    trivial_answer = "an empty text"
    unknown_number: ClassVar[int]  # what `encode` gives for a symbol that it does not have

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.source = self.open_corpus()
        found = by_split(self.read(self.source), self.splits, self.source)
        self._splits = {
            split: [example_of(r, self.text(r)) for r in own] for split, own in found.items()
        }

    @abstractmethod
    def text(self, recording: Recording) -> str:
        """The target of a recording."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Symbols of a target."""

    @abstractmethod
    def decode(self, numbers: Sequence[int]) -> str:
        """Text of collapsed symbols."""

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are texts."""
        return self._splits[split]

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores of an empty text for each utterance."""
        empty = {
            name: {"reference": p["reference"], "hypothesis": ""} for name, p in predictions.items()
        }
        return self.score("test", empty)

    def excluded_counts(self) -> dict[str, float]:
        """Training utterances whose loss is zero, and symbols that no output stands for."""
        train = self._splits["train"]
        short = sum(self.framing.num_frames(e.num_samples) < self._needed(e.target) for e in train)
        unknown = {
            f"{split}_unknown_symbols": sum(self._unknown(e.target) for e in self._splits[split])
            for split in ("dev", "test")
        }
        return {"train_texts_longer_than_frames": short, **unknown}

    def _needed(self, text: str) -> int:
        """Frames that CTC needs at least: one a symbol, and a blank between two equal ones."""
        symbols = self.encode(text)
        return len(symbols) + sum(a == b for a, b in pairwise(symbols))

    def _unknown(self, text: str) -> int:
        return sum(number == self.unknown_number for number in self.encode(text))

    def warnings(self) -> list[str]:
        """Warn of texts that teach nothing, and of symbols in dev and test that train lacks.

        Raises:
            ValueError: if no training text fits its recording.
        """
        train, found = self._splits["train"], []
        counts = self.excluded_counts()
        short = counts["train_texts_longer_than_frames"]
        if short == len(train):
            raise ValueError(
                f"{self.name}: each of the {len(train)} training texts has more symbols than its "
                f"recording has frames, such as {train[0].id}: do texts and recordings belong "
                "together?"
            )
        if short > MANY_SHORT * len(train):
            found.append(
                f"warning: {short:.0f} of {len(train)} training texts have more symbols than their "
                "recordings have frames, and teach nothing"
            )
        for split in ("dev", "test"):
            if count := counts[f"{split}_unknown_symbols"]:
                example = next(e for e in self._splits[split] if self._unknown(e.target))
                found.append(
                    f"warning: {count:.0f} symbols of {split} are not in train, and count as "
                    f"errors, such as in {example.id}: {example.target!r}"
                )
        return found

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean CTC loss () a symbol; an utterance that is too short for its text counts as zero."""
        encoded = [self.encode(text) for text in batch.targets]
        return ctc_loss(head(frames), frames.lengths, encoded, reduction="mean")

    def augmented(self, frames: Frames, batch: Batch, config: SpecAugmentConfig) -> Frames:
        """SpecAugment, drawn for each utterance and epoch."""
        rngs = [
            generator(self.seed, "specaug", epoch, index)
            for epoch, index in zip(batch.epochs, batch.indices, strict=True)
        ]
        return spec_augment(frames, config, rngs)

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Target and greedy hypothesis."""
        # One copy to the host for the batch: rows are decoded there.
        logits = head(frames).float().cpu()
        best = logits.argmax(-1)
        out = []
        for row, text in enumerate(batch.targets):
            length = int(frames.lengths[row])
            numbers = collapse(best[row, :length].tolist())
            found = {"reference": text, "hypothesis": self.decode(numbers)}
            out.append(found | self.beside(logits[row, :length]))
        return out

    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """The text, and when each of its words begins and ends, in seconds."""
        best = head(frames).argmax(-1).cpu()
        seconds = self.framing.stride / SAMPLE_RATE
        found = []
        for row, length in enumerate(frames.lengths.tolist()):
            runs = symbol_runs(best[row, :length].tolist())
            words = [
                {"word": self.decode([r.symbol for r in word]), **_span(word, seconds)}
                for word in self.words(runs)
            ]
            text = self.decode([r.symbol for r in runs])
            found.append({"text": text, "words": [w for w in words if w["word"]]})
        return found

    def words(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Runs of symbols that make a word each; every symbol by itself if they are none."""
        return [[run] for run in runs]

    def beside(self, logits: Tensor) -> dict[str, Any]:
        """What else is kept of an utterance's logits (F, U)."""
        return {}

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """References and hypotheses, one utterance a line, as sclite's trn has it."""
        paths = []
        for kind in ("reference", "hypothesis", "with_lm"):
            lines = [
                f"{p[kind]} ({safe_field(name)})\n" for name, p in predictions.items() if kind in p
            ]
            if lines:
                paths.append(folder / f"{split}.{kind}.trn")
                write_text(paths[-1], "".join(lines))
        return paths

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """An utterance and its hypothesis a line."""
        files = {"hypothesis": f"{self.name}_public", "with_lm": f"{self.name}_lm_public"}
        found = {}
        for kind, folder in files.items():
            lines = [
                f"{safe_field(name)} {p[kind]}\n" for name, p in predictions.items() if kind in p
            ]
            if lines:
                found[f"{folder}/predict.ark"] = "".join(lines)
        return found

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Utterances by errors over words of the target."""
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
