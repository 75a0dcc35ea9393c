# SPDX-License-Identifier: Apache-2.0
"""Automatic speaker verification: do two utterances come from one speaker?

Corpus     VoxCeleb1: training speakers classified, the trials of the test speakers scored
Head       x-vector over the weighted sum of layers
Loss       softmax with additive margin
Score      equal error rate of cosine scores, lower is better
Source     SUPERB (Yang et al. 2021), task ASV; values in configs/superb/asv.yaml

Differs from s3prl: the checkpoint is chosen on trials of held-out training speakers. The best of
ten on the test trials, which is what the leaderboard has, is eer_best_of_10_test beside it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_lightning.audio import AudioError, read_audio
from wavlm_lightning.downstream.corpora import voxceleb1
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording, Trial, read
from wavlm_lightning.downstream.corpora.trials import all_trials, halves
from wavlm_lightning.downstream.data.silence import remove_silence
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.pooling import mean_over_time
from wavlm_lightning.downstream.heads.xvector import XVector
from wavlm_lightning.downstream.losses import am_softmax
from wavlm_lightning.downstream.metrics.eer import det_curve, equal_error_rate, min_dcf
from wavlm_lightning.downstream.task import Batch, Example, Item, TaskConfig, example_of
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.fields import number, whole
from wavlm_lightning.files import write_text
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.names import safe_field
from wavlm_lightning.seeding import generator

DET_POINTS = 200  # of a curve in a report
EMBEDDING, MEAN = "embedding", "mean"  # what is predicted
WATCHED = 40  # training speakers whose trials show progress where none are held out


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        width: of the x-vector's layers and of the embedding.
        init: first weights of the head: torch's own, as published, or he, which learns sooner.
        margin: additive, in cosine.
        scale: of the cosines.
        max_seconds: training crop, drawn at random.
        crop: what is cropped: the waveform, or the upstream's frames, which can then be kept.
        min_seconds: shorter training utterances are left out.
        gain_db: applied to every waveform.
        remove_silence: cut out what is digitally silent.
        held_out_speakers: training speakers who choose the checkpoint; the head is trained on the
            others, 1,171 of VoxCeleb1's 1,211 where 40 are held out. 0 trains on all of them, as
            the published protocol does, and reports what that reports, the best checkpoint on test;
            dev is then of speakers who are trained on, and chooses nothing. A corpus with a dev
            split of its own holds nobody out.
        dev_utterances: of each of dev's speakers.
        dev_trials: most trials of one kind on dev, and on test where none are published.
        best_of: checkpoints also scored on the test trials.
    """

    width: int = whole(1, 65536)
    init: Literal["torch", "he"]
    margin: float = number(0, 1)
    scale: float = number(0, 1000, above=True)
    max_seconds: float = number(0.1, 10**5)
    crop: Literal["waveform", "features"]
    min_seconds: float = number(0, 10**5)
    gain_db: float = number(-200, 200)
    remove_silence: bool
    held_out_speakers: int = whole(0, 10**6)
    dev_utterances: int = whole(2, 10**6)
    dev_trials: int = whole(1)
    best_of: int = whole(1, 1000)


class ASV(TrainedTask[Config]):
    """Classification of speakers in training, cosine of embeddings afterwards."""

    name, corpus, Config = "asv", "voxceleb1", Config
    needs = ("speaker",)
    monitor, mode, headline = "dev/eer", "min", "test/eer"
    headline_mode, unit = "min", "%"
    trivial_answer = "the cosine of mean frames, without a head"
    published_on_test = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._of_other_splits = self._impossible = 0
        corpus = self.open_corpus()
        found = self._disjoint(self.read(corpus), corpus)
        self._has_dev = bool(found["dev"])
        if not self._has_dev:
            found |= self._held_out(found["train"], corpus)
        self._trials = {
            "dev": self._of_all(found, "dev"),
            "test": self._published(found, corpus.trials()),
        }
        self._splits = {s: [example_of(r, r.speaker) for r in own] for s, own in found.items()}
        shortest = self.config.min_seconds * SAMPLE_RATE
        train = [e for e in self._splits["train"] if e.num_samples > shortest]
        self._too_short = len(self._splits["train"]) - len(train)
        self.speakers = self.classes = sorted({e.target for e in train})
        numbers = {speaker: i for i, speaker in enumerate(self.speakers)}
        self._splits["train"] = [replace(e, target=numbers[e.target]) for e in train]

    def official(self) -> Corpus:
        """VoxCeleb1 with its first list of trials."""
        return voxceleb1.Verification(self.sources.folder("voxceleb1"))

    def read(self, corpus: Corpus) -> list[Recording]:
        """Lengths are those without silence, where it is removed."""
        if not self.config.remove_silence:
            return super().read(corpus)
        measure = partial(
            self.sources.lengths.remembered,
            measure=self._trimmed_length,
            name="asv_lengths.json",
        )
        return read(corpus, needs=self.needs, lengths=measure)

    def _trimmed_length(self, path: Path) -> int:
        length = len(self.prepared(read_audio(path)))
        if length == 0:
            raise AudioError(f"{path}: silent, nothing is left of it without its silence")
        return length

    def _disjoint(
        self, recordings: Sequence[Recording], corpus: Corpus
    ) -> dict[str, list[Recording]]:
        """Recordings by split, without speakers that test, or dev, has too; dev may be empty."""
        found: dict[str, list[Recording]] = {}
        tested: set[str] = set()
        for split in ("test", "dev", "train"):
            every = [r for r in recordings if r.split == split]
            found[split] = [r for r in every if r.speaker not in tested]
            self._of_other_splits += len(every) - len(found[split])
            tested |= {r.speaker for r in every}
            if not found[split] and (every or split != "dev"):
                what = "every speaker of it is one of test or dev too" if every else "it is empty"
                raise ValueError(f"{corpus}: nothing is left of split {split}: {what}")
        return {split: found[split] for split in self.splits}

    def _held_out(
        self, recordings: Sequence[Recording], corpus: Corpus
    ) -> dict[str, list[Recording]]:
        """Train and dev, of speakers held out of training, or of WATCHED ones that are trained on.

        Raises:
            ValueError: if too few are left.
        """
        count = self.config.held_out_speakers
        speakers = sorted({r.speaker for r in recordings})
        if count == 1:
            raise ValueError(
                "task.held_out_speakers must be 0 or at least 2 (got 1): trials need two speakers"
            )
        if len(speakers) <= count + 1:
            raise ValueError(
                f"{corpus}: {len(speakers)} speakers beside the test speakers, "
                f"task.held_out_speakers={count} leaves none to train on"
            )
        rng = generator(0, "held-out speakers")  # the same ones for every seed
        in_dev = set(rng.permutation(speakers)[: count or WATCHED].tolist())
        of: dict[str, list[Recording]] = defaultdict(list)
        for r in recordings:
            if r.speaker in in_dev:
                of[r.speaker].append(r)
        dev = []
        for own in of.values():  # `dev_utterances` of each, spread over sessions
            places = np.linspace(0, len(own) - 1, min(self.config.dev_utterances, len(own)))
            dev += [own[i] for i in np.unique(places.round().astype(int))]
        train = [r for r in recordings if not count or r.speaker not in in_dev]
        return {"train": train, "dev": dev}

    def _published(
        self, found: dict[str, list[Recording]], trials: list[Trial] | None
    ) -> list[Trial]:
        """Trials of test: those published whose recordings are usable, or all."""
        if trials is None:
            return self._of_all(found, "test")
        there = {r.id for r in found["test"]}
        possible = [t for t in trials if {t.enrol, t.test} <= there]
        self._impossible = len(trials) - len(possible)
        return possible

    def _of_all(self, found: dict[str, list[Recording]], split: str) -> list[Trial]:
        """Trials of all pairs of a split; of halves, where no speaker has two recordings."""
        if len({r.speaker for r in found[split]}) == len(found[split]):
            found[split] = halves(found[split])
        return all_trials(found[split], most=self.config.dev_trials)

    def warnings(self) -> list[str]:
        """None.

        Raises:
            ValueError: if there is one training speaker alone.
        """
        if len(self.speakers) < 2:
            raise ValueError(
                f"asv: one speaker alone to train on ({', '.join(self.speakers)}); the loss tells "
                "training speakers apart"
            )
        return []

    def excluded_counts(self) -> dict[str, float]:
        """Training utterances that are too short, and rows whose speaker another split tests."""
        return {
            "train_too_short": self._too_short,
            "test_trials_of_unusable_recordings": self._impossible,
            "rows_of_speakers_tested_elsewhere": self._of_other_splits,
        }

    @property
    def chosen_on_test(self) -> bool:
        """True if dev has no speakers of its own: every one is trained on."""
        return not self._has_dev and self.config.held_out_speakers == 0

    @property
    def test_checkpoints(self) -> int:
        """Checkpoints of the leaderboard's protocol, which chooses on test."""
        return self.config.best_of

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are numbers of training speakers, names elsewhere."""
        return self._splits[split]

    @property
    def gain_db(self) -> float:
        """That of the configuration."""
        return self.config.gain_db

    def prepared(self, waveform: Tensor) -> Tensor:
        """Samples (T,) -> samples (T'), with the gain, and without silence if it is removed."""
        waveform = super().prepared(waveform)
        return remove_silence(waveform) if self.config.remove_silence else waveform

    def load(self, example: Example, rng: np.random.Generator | None) -> Item:
        """A random crop in training if waveforms are cropped, whole otherwise."""
        # Halves of a recording are counted in what is left of it, so that they share nothing.
        waveform = self.prepared(read_audio(example.path))[example.start : example.stop]
        most = round(self.config.max_seconds * SAMPLE_RATE)
        if rng is not None and self.config.crop == "waveform" and len(waveform) > most:
            start = int(rng.integers(len(waveform) - most + 1))
            waveform = waveform[start : start + most]
        return Item(waveform, example.target)

    def key(self, example: Example, *, training: bool) -> str | None:
        """None where a crop is drawn."""
        drawn = training and self.config.crop == "waveform"
        if drawn and example.num_samples > self.config.max_seconds * SAMPLE_RATE:
            return None
        key = super().key(example, training=training)
        return f"{key} silence removed {self.config.remove_silence}"

    def head(self, dim: int) -> nn.Module:
        """Embedding, and one vector a training speaker."""
        return XVector(
            dim,
            width=self.config.width,
            num_classes=len(self.speakers),
            init=self.config.init,
        )

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean additive-margin softmax loss () over training speakers."""
        speakers = torch.tensor(batch.targets, device=frames.x.device)
        if self.config.crop == "features":
            frames = self._cropped(frames, batch)
        cosines = head(frames).cosines
        return am_softmax(cosines, speakers, margin=self.config.margin, scale=self.config.scale)

    def _cropped(self, frames: Frames, batch: Batch) -> Frames:
        """A random stretch of each utterance's frames."""
        most = round(self.config.max_seconds * SAMPLE_RATE / self.framing.stride)
        size = min(most, frames.x.shape[1])
        starts = []
        for epoch, index, length in zip(batch.epochs, batch.indices, frames.lengths, strict=True):
            room = max(0, int(length) - size)
            starts.append(int(generator(self.seed, "crop", epoch, index).integers(room + 1)))
        # Gathered by places, not sliced row by row: one operation for the batch.
        places = torch.tensor(starts)[:, None] + torch.arange(size)  # (B, F'), made on the host
        places = places.to(frames.x.device, non_blocking=True)[..., None]
        x = frames.x.gather(1, places.expand(-1, -1, frames.x.shape[2]))
        return Frames(x, frames.lengths.clamp(max=size))

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Embeddings (D,) and means of frames (D',), all of length one."""
        # Of length one, so that a cosine is one product of vectors.
        embeddings = F.normalize(head(frames).embedding.float(), dim=1).cpu().numpy()
        means = F.normalize(mean_over_time(frames), dim=1).cpu().numpy()
        rows = zip(embeddings, means, strict=True)
        return [{EMBEDDING: embedding, MEAN: mean} for embedding, mean in rows]

    def vocabulary(self) -> dict[str, Any]:
        """Training speakers: the head has a vector for each."""
        return {"speakers": list(self.speakers)}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Take them."""
        self.speakers = self.classes = list(vocabulary["speakers"])

    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """The embedding, of length one: the cosine of two is the score of a trial."""
        embeddings = F.normalize(head(frames).embedding.float(), dim=1)
        return [{"embedding": [round(x, 6) for x in row]} for row in embeddings.tolist()]

    def scores(
        self, split: str, predictions: Mapping[str, Any], *, of: str = EMBEDDING
    ) -> list[float]:
        """Cosine of each trial, of embeddings or of means."""
        return [
            float(predictions[t.enrol][of] @ predictions[t.test][of])
            for t in self._scored(split, predictions)
        ]

    def _scored(self, split: str, predictions: Mapping[str, Any]) -> list[Trial]:
        """All trials, or those of the recordings that a limited evaluation has come to.

        Raises:
            ValueError: if these have no trial of one speaker, or none of two.
        """
        found = [t for t in self._trials[split] if {t.enrol, t.test} <= predictions.keys()]
        if len({t.same for t in found}) < 2:
            raise ValueError(
                f"{split}: the {len(predictions)} recordings that were evaluated make no trials "
                "of both kinds: raise trainer.limit_val_batches and trainer.limit_test_batches"
            )
        return found

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores of the means of the frames that the head is given."""
        same = [t.same for t in self._scored("test", predictions)]
        return {"eer": equal_error_rate(self.scores("test", predictions, of=MEAN), same)}

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of trials; minimum cost at a prior of 0.01."""
        scores = self.scores(split, predictions)
        same = [t.same for t in self._scored(split, predictions)]
        return {"eer": equal_error_rate(scores, same), "min_dcf": min_dcf(scores, same)}

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A trial and its cosine a line."""
        rows = zip(self._scored("test", predictions), self.scores("test", predictions), strict=True)
        lines = [
            f"{_leaderboard(t.enrol)}_{_leaderboard(t.test)} {score:.6f}\n" for t, score in rows
        ]
        return {"sv_public/predict.txt": "".join(lines)}

    def plot_data(self, split: str, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """Both error rates at all thresholds."""
        same = [t.same for t in self._scored(split, predictions)]
        return {"det": det_curve(self.scores(split, predictions), same, points=DET_POINTS)}

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """Scores of trials: same, enrolment, test, cosine."""
        path = folder / f"{split}.scores.txt"
        rows = zip(self._scored(split, predictions), self.scores(split, predictions), strict=True)
        lines = [
            f"{int(t.same)} {safe_field(t.enrol)} {safe_field(t.test)} {score:.6f}\n"
            for t, score in rows
        ]
        write_text(path, "".join(lines))
        return [path]

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Speakers most alike who differ, and recordings least alike of one."""
        rows = [
            {
                "id": t.enrol,
                "reference": f"{'same' if t.same else 'not'} {t.test}",
                "hypothesis": f"{score:.3f}",
                "error": -score if t.same else score,
            }
            for t, score in zip(
                self._scored(split, predictions), self.scores(split, predictions), strict=True
            )
        ]
        return sorted(rows, key=lambda row: -float(row["error"]))


def _leaderboard(name: str) -> str:
    """A recording in its file."""
    return safe_field(voxceleb1.joined(name))
