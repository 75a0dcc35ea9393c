# SPDX-License-Identifier: Apache-2.0
"""Tasks that name one class of an utterance, with SUPERB's utterance-level head."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.pooling import MeanPoolLinear
from wavlm_lightning.downstream.task import Batch, TaskConfig
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.fields import whole
from wavlm_lightning.files import write_text
from wavlm_lightning.names import safe_field


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(TaskConfig):
    """Section `task`.

    Args:
        hidden: width between the two linear layers.
    """

    hidden: int = whole(1, 65536)


C = TypeVar("C", bound=ClassifierConfig)
MOST_DRAWN = 40  # classes
MOST_SHOWN = 10  # classes of a prediction


class Classification(TrainedTask[C]):
    """Head, loss, predictions, accuracy; subclasses set `classes` and give examples.

    Targets are numbers of classes.
    """

    monitor, mode, headline = "dev/accuracy", "max", "test/accuracy"
    headline_mode, unit = "max", "%"
    trivial_answer = "the most frequent class of train"
    pools = True

    def warnings(self) -> list[str]:
        """Warn of classes that train lacks.

        Raises:
            ValueError: if train has one class alone.
        """
        train = {e.target for e in self.examples("train")}
        if len(train) < 2:
            raise ValueError(
                f"{self.name}: all {len(self.examples('train'))} training utterances are of one "
                f"class, {self.named(next(iter(train)))}: there is nothing to tell apart"
            )
        found = []
        for split in ("dev", "test"):
            strange = [e for e in self.examples(split) if e.target not in train]
            if strange:
                found.append(
                    f"warning: {len(strange)} utterances of {split} have a class that train lacks, "
                    f"such as {self.named(strange[0].target)}, and count as wrong"
                )
        return found

    def head(self, dim: int) -> nn.Module:
        """One logit a class."""
        return MeanPoolLinear(dim, hidden=self.config.hidden, num_classes=len(self.classes))

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean cross entropy () of a batch."""
        targets = torch.tensor(batch.targets, device=frames.x.device)
        return F.cross_entropy(head(frames), targets)

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Right class and predicted one."""
        predicted = head(frames).argmax(1).tolist()
        return list(zip(batch.targets, predicted, strict=True))

    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """The class, and the probabilities of the likeliest ones."""
        return [ranked(self.classes, row) for row in head(frames).float().softmax(-1).tolist()]

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of utterances."""
        right = sum(target == predicted for target, predicted in predictions.values())
        return {"accuracy": 100.0 * right / len(predictions)}

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores of the most frequent class of train."""
        common = most_common([e.target for e in self.examples("train")])
        return self.score("test", {name: (p[0], common) for name, p in predictions.items()})

    def named(self, target: Any) -> str:
        """A class as text."""
        return self.classes[target]

    def line(self, name: str, predicted: Any) -> str:
        """Line of the leaderboard's file: its name for an utterance, and the predicted class."""
        return f"{safe_field(name)} {self.named(predicted)}"

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """An utterance and its class a line."""
        lines = [f"{self.line(name, p)}\n" for name, (_, p) in predictions.items()]
        return {f"{self.name}_public/predict.txt": "".join(lines)}

    def plot_data(self, split: str, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """How often each class was taken for each, if they are few."""
        if len(self.classes) > MOST_DRAWN:
            return {}
        return {"confusion": [confusion("", self.classes, predictions.values())]}

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """A table of utterance, class and what was heard."""
        path = folder / f"{split}.tsv"
        lines = [
            f"{name}\t{self.named(target)}\t{self.named(predicted)}\n"
            for name, (target, predicted) in predictions.items()
        ]
        write_text(path, "id\treference\thypothesis\n" + "".join(lines))
        return [path]

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Wrong ones first."""
        rows = [
            {
                "id": name,
                "reference": self.named(target),
                "hypothesis": self.named(predicted),
                "error": float(target != predicted),
            }
            for name, (target, predicted) in predictions.items()
        ]
        return sorted(rows, key=lambda row: -row["error"])


def ranked(classes: Sequence[str], probabilities: Sequence[float]) -> dict[str, Any]:
    """The likeliest class and the probabilities of the first few, the likeliest first.

    >>> ranked(["a", "b"], [0.25, 0.75])
    {'label': 'b', 'probabilities': {'b': 0.75, 'a': 0.25}}
    """
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])[:MOST_SHOWN]
    found = {classes[i]: round(probabilities[i], 4) for i in order}
    return {"label": classes[order[0]], "probabilities": found}


def confusion(
    title: str, classes: Sequence[str], pairs: Iterable[tuple[int, int]]
) -> dict[str, Any]:
    """Counts of pairs of right and predicted class.

    >>> confusion("", ["a", "b"], [(0, 0), (0, 1), (1, 1)])["counts"]
    [[1, 1], [0, 1]]
    """
    counts = [[0] * len(classes) for _ in classes]
    for target, predicted in pairs:
        counts[target][predicted] += 1
    return {"title": title, "classes": list(classes), "counts": counts}


def most_common(values: Sequence[Any]) -> Any:
    """The value that occurs most often, the first of equals.

    >>> most_common([[1, 2], [3, 4], [3, 4]])
    [3, 4]
    """
    counts = Counter(map(repr, values))
    return max(values, key=lambda value: counts[repr(value)])


def numbered(labels: Sequence[str]) -> dict[str, int]:
    """Number of each label, in alphabetical order."""
    return {label: i for i, label in enumerate(sorted(set(labels)))}
