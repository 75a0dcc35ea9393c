# SPDX-License-Identifier: Apache-2.0
"""Emotion recognition: which of four emotions does an utterance carry?

Corpus     IEMOCAP: neutral, happy with excited, angry, sad; five folds, one session tested in each
Head       mean over time between two linear layers
Loss       cross entropy
Score      accuracy of each fold, and their mean, higher is better
Source     SUPERB (Yang et al. 2021), task ER; values in configs/superb/er.yaml
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from wavlm_lightning.downstream.corpora.corpus import Corpus, read
from wavlm_lightning.downstream.corpora.iemocap import IEMOCAP
from wavlm_lightning.downstream.families.classification import Classification, ClassifierConfig
from wavlm_lightning.downstream.task import Example, Sources, example_of
from wavlm_lightning.fields import number, seed
from wavlm_lightning.names import safe_field, safe_name

SHORT = {"neutral": "neu", "happy": "hap", "angry": "ang", "sad": "sad"}  # of the leaderboard


@dataclass(frozen=True, kw_only=True)
class Config(ClassifierConfig):
    """Section `task`.

    Args:
        hidden: width between the two linear layers.
        dev_share: of the utterances outside the test fold, drawn at random.
        dev_seed: of torch's generator that draws them.
    """

    dev_share: float = number(0, 1, above=True, below=True)
    dev_seed: int = seed()


class ER(Classification[Config]):
    """One fold."""

    name, corpus, Config = "er", "iemocap", Config

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        rows, self.classes = _rows(self.sources)
        self._splits = self._split(rows)

    @classmethod
    def variants(cls, sources: Sources) -> list[str]:
        """One a fold: a session of IEMOCAP, a group of speakers of another corpus."""
        return sorted({fold for fold, _ in _rows(sources)[0]})

    def _split(self, rows: list[tuple[str, Example]]) -> dict[str, list[Example]]:
        others = [example for fold, example in rows if fold != self.variant]
        generator = torch.Generator().manual_seed(self.config.dev_seed)
        order = torch.randperm(len(others), generator=generator).tolist()
        num_train = int((1 - self.config.dev_share) * len(others))
        return {
            "train": [others[i] for i in order[:num_train]],
            "dev": [others[i] for i in order[num_train:]],
            "test": [example for fold, example in rows if fold == self.variant],
        }

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are numbers of classes."""
        return self._splits[split]

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A turn and its emotion a line, a file a fold."""
        lines = [
            f"{safe_field(name)} {SHORT.get(self.classes[p], self.classes[p])}\n"
            for name, (_, p) in predictions.items()
        ]
        return {f"er_{safe_name(str(self.variant))}_public/predict.txt": "".join(lines)}


def _rows(sources: Sources) -> tuple[list[tuple[str, Example]], tuple[str, ...]]:
    """Every utterance with its fold, in an order that never changes, and the classes."""
    corpus = sources.choose(
        own=lambda corpus: corpus, official=lambda: IEMOCAP(sources.folder("iemocap"))
    )
    found = read(corpus, needs=("label", "speaker"), lengths=sources.lengths)
    classes = tuple(corpus.classes or sorted({r.label for r in found}))
    # Who has no folds gets one a speaker: no voice is in training and test.
    folds = [f"fold{r.extra['fold']}" if "fold" in r.extra else "" for r in found]
    if not all(folds):  # one speaker each
        folds = [f"speaker{r.speaker}" for r in found]
    _check_disjoint(folds, [r.speaker for r in found], corpus)
    examples = [example_of(r, classes.index(r.label)) for r in found]
    return list(zip(folds, examples, strict=True)), classes


def _check_disjoint(folds: list[str], speakers: list[str], corpus: Corpus) -> None:
    """Refuse folds that share a speaker, and a corpus with one fold alone."""
    of: dict[str, str] = {}
    for fold, speaker in zip(folds, speakers, strict=True):
        if of.setdefault(speaker, fold) != fold:
            raise ValueError(
                f"{corpus}: speaker {speaker} is in {of[speaker]} and {fold}; the fold in extra "
                "must be the same for all rows of a speaker"
            )
    if len(set(folds)) < 2:
        raise ValueError(f"{corpus}: folds need two speakers or more")
