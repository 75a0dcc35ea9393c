# SPDX-License-Identifier: Apache-2.0
"""Intent classification: what shall be done, with what, and where?

Corpus     Fluent Speech Commands: 6 actions, 14 objects, 4 locations
Head       mean over time between two linear layers, the logits of all slots side by side
Loss       cross entropies of the slots, summed
Score      accuracy, an utterance counts if every slot is right; higher is better
Source     SUPERB (Yang et al. 2021), task IC; values in configs/superb/ic.yaml
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording, by_split
from wavlm_lightning.downstream.corpora.fluent_commands import FluentCommands
from wavlm_lightning.downstream.families.classification import (
    Classification,
    ClassifierConfig,
    confusion,
    ranked,
)
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.task import Batch, Example, example_of
from wavlm_lightning.names import safe_field


class IC(Classification[ClassifierConfig]):
    """Several slots, each with classes of its own."""

    name, corpus, Config = "ic", "fluent_commands", ClassifierConfig

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        corpus = self.open_corpus()
        found = by_split(self.read(corpus), self.splits, corpus)
        read = {s: [example_of(r, _values(r)) for r in own] for s, own in found.items()}
        slots = sorted({slot for e in read["train"] for slot in e.target})
        self.values = {
            slot: sorted({e.target[slot] for e in read["train"] if slot in e.target})
            for slot in corpus.classes or slots
        }
        self.classes = [f"{slot}={v}" for slot, values in self.values.items() for v in values]
        self._unknown = 0
        self._splits = {split: self._numbered(examples) for split, examples in read.items()}

    def official(self) -> Corpus:
        """Fluent Speech Commands."""
        return FluentCommands(self.sources.folder("fluent_commands"))

    def _numbered(self, examples: list[Example]) -> list[Example]:
        """A number for each slot; utterances with a value that train does not have are left out."""
        own = []
        for e in examples:
            # No output stands for such a value: it can be neither learned nor predicted.
            if any(e.target.get(slot) not in values for slot, values in self.values.items()):
                self._unknown += 1
                continue
            numbers = [values.index(e.target[slot]) for slot, values in self.values.items()]
            own.append(Example(e.id, e.path, e.start, e.stop, numbers))
        return own

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are numbers of values, one a slot."""
        return self._splits[split]

    def excluded_counts(self) -> dict[str, float]:
        """Utterances with a value that is not in train."""
        return {"utterances_with_unknown_values": self._unknown}

    def warnings(self) -> list[str]:
        """None: utterances with values that train lacks are left out.

        Raises:
            ValueError: if no slot has two values.
        """
        if all(len(values) < 2 for values in self.values.values()):
            raise ValueError(
                f"{self.name}: no slot has two values in train ({', '.join(self.classes)}): there "
                "is nothing to tell apart"
            )
        return []

    def _by_slot(self, logits: Tensor) -> Sequence[Tensor]:
        return logits.split([len(values) for values in self.values.values()], dim=-1)

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Cross entropies () of the slots, summed."""
        targets = torch.tensor(batch.targets, device=frames.x.device)  # (B, S)
        losses = [
            F.cross_entropy(logits, targets[:, i])
            for i, logits in enumerate(self._by_slot(head(frames)))
        ]
        return torch.stack(losses).sum()

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Right values and predicted ones."""
        predicted = torch.stack([x.argmax(1) for x in self._by_slot(head(frames))], dim=1)
        return list(zip(batch.targets, predicted.tolist(), strict=True))

    def vocabulary(self) -> dict[str, Any]:
        """Values of each slot."""
        return {"values": self.values}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Take them."""
        self.values = {slot: list(values) for slot, values in vocabulary["values"].items()}
        self.classes = [f"{slot}={v}" for slot, values in self.values.items() for v in values]

    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """Value and probabilities of each slot."""
        slots = [x.float().softmax(-1).tolist() for x in self._by_slot(head(frames))]
        return [
            {"slots": {s: ranked(v, p) for (s, v), p in zip(self.values.items(), row, strict=True)}}
            for row in zip(*slots, strict=True)
        ]

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of utterances, and of each slot."""
        scores = super().score(split, predictions)
        for i, slot in enumerate(self.values):
            right = sum(target[i] == predicted[i] for target, predicted in predictions.values())
            scores[f"accuracy_{slot}"] = 100.0 * right / len(predictions)
        return scores

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A recording and its values a line."""
        lines = []
        for name, (_, numbers) in predictions.items():
            values = [own[n] for own, n in zip(self.values.values(), numbers, strict=True)]
            lines.append(",".join([safe_field(Path(name).stem), *values]) + "\n")
        return {"ic_public/predict.csv": "".join(lines)}

    def plot_data(self, split: str, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """How often each value was taken for each, by slot."""
        found = []
        for i, (slot, values) in enumerate(self.values.items()):
            pairs = [(target[i], predicted[i]) for target, predicted in predictions.values()]
            found.append(confusion(slot, values, pairs))
        return {"confusion": found}

    def named(self, numbers: Sequence[int]) -> str:
        """Values as text."""
        return " ".join(
            f"{slot}={values[n]}"
            for (slot, values), n in zip(self.values.items(), numbers, strict=True)
        )


def _values(recording: Recording) -> dict[str, str]:
    """Values by slot, of `extra`.

    Raises:
        ValueError: naming a recording without them.
    """
    values = recording.extra.get("classes")
    if not isinstance(values, dict):
        raise ValueError(
            f"{recording.where}: column extra of {recording.id} has no "
            '{"classes": {slot: value, ...}}'
        )
    return values
