# SPDX-License-Identifier: Apache-2.0
"""Tasks with a logit for each symbol and frame: targets and hypotheses are rows of symbols."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from downstream.features import Frames
from downstream.heads.recurrent import ProjectedBlstm
from downstream.metrics.text import word_errors
from downstream.specaug import SpecAugmentConfig, spec_augment
from downstream.task import Batch, Example, Task, TaskConfig
from downstream.text import BLANK, collapse
from wavlm_lightning.files import write_text
from wavlm_lightning.names import safe_field
from wavlm_lightning.seeding import generator

C = TypeVar("C", bound=TaskConfig)


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

    projection: int
    hidden: int
    num_layers: int
    dropout: float
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
        lengths: (B,) int64 frames.
        encoded: symbols of each row.
        reduction: "mean" divides each row by its symbols and averages them; "sum" does neither.
    """
    return F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),  # (F, B, U)
        torch.tensor([n for e in encoded for n in e], device=logits.device),
        lengths,
        torch.tensor([len(e) for e in encoded], device=logits.device),
        blank=BLANK,
        reduction=reduction,
        zero_infinity=True,
    )


class SymbolTask(Task[C]):
    """Greedy hypotheses and their files; subclasses read a corpus, spell, and score.

    Targets are texts that `encode` turns into symbols.
    """

    headline_mode, unit = "min", "%"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._splits = {split: self.read(split) for split in self.splits}
        self.stride = 0  # samples a frame, known with the head

    @abstractmethod
    def read(self, split: str) -> list[Example]:
        """All of a split."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Symbols of a target."""

    @abstractmethod
    def decode(self, numbers: Sequence[int]) -> str:
        """Text of collapsed symbols."""

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are texts."""
        return self._splits[split]

    def left_out(self) -> dict[str, float]:
        """Training utterances with more symbols than frames, whose loss is zero."""
        train = self._splits["train"]
        fit = [e.num_samples // self.stride >= len(self.encode(e.target)) for e in train]
        return {"train_texts_longer_than_frames": fit.count(False)}

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """CTC, each utterance divided by its length; one too short for its text counts as zero."""
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
        logits = head(frames).float()
        best = logits.argmax(-1)
        out = []
        for row, text in enumerate(batch.targets):
            length = int(frames.lengths[row])
            numbers = collapse(best[row, :length].tolist())
            found = {"reference": text, "hypothesis": self.decode(numbers)}
            out.append(found | self.beside(logits[row, :length]))
        return out

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

    def worst(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """By errors over words of the target."""
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
