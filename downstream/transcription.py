# SPDX-License-Identifier: Apache-2.0
"""Tasks with a logit for each character and frame: transcripts, and how good they are."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from downstream.decoding import LanguageModelConfig, LexiconDecoder
from downstream.features import Frames
from downstream.metrics.text import character_error_rate, word_error_rate, word_errors
from downstream.task import Batch, Example, Task, TaskConfig
from downstream.text import BLANK, Characters, collapse
from wavlm_lightning.result import write_atomically

C = TypeVar("C", bound=TaskConfig)


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


def spoken(utterance: Any) -> Example:
    """An utterance of a corpus: id, path, num_samples, text."""
    text = " ".join(utterance.text.upper().split())
    return Example(utterance.id, str(utterance.path), 0, utterance.num_samples, text)


class Transcription(Task[C]):
    """Predictions, scores and files of transcripts; subclasses read a corpus and train a head.

    Targets are transcripts in upper case, words parted by one space.
    """

    monitor, mode, headline = "dev/wer", "min", "test/wer"
    headline_mode, unit = "min", "%"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._splits = {split: self.read(split) for split in ("train", "dev", "test")}
        beyond: set[str] = set()
        if self.sources.manifest is not None:  # another language may have other letters
            beyond = {c for e in self._splits["train"] for c in e.target}
        self.characters = Characters(beyond)
        self.stride = 0  # samples a frame, known with the head
        self._decoder: LexiconDecoder | None = None
        if self.language_model.file:
            self._decoder = LexiconDecoder(self.language_model, self.characters, self.sources.cache)

    @property
    @abstractmethod
    def language_model(self) -> LanguageModelConfig:
        """Of the decoder."""

    @abstractmethod
    def read(self, split: str) -> list[Example]:
        """All of a split."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Symbols of a transcript."""

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are transcripts in upper case."""
        return self._splits[split]

    def left_out(self) -> dict[str, float]:
        """Training utterances with more symbols than frames, whose loss is zero."""
        train = self._splits["train"]
        fit = [e.num_samples // self.stride >= len(self.encode(e.target)) for e in train]
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
