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
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from downstream.corpora import manifest, voxceleb1
from downstream.corpora.lengths import usable
from downstream.corpora.voxceleb1 import Trial
from downstream.features import Frames
from downstream.heads.pooling import mean_over_time
from downstream.heads.xvector import XVector
from downstream.losses import am_softmax
from downstream.metrics.eer import det_curve, equal_error_rate, min_dcf
from downstream.silence import remove_silence
from downstream.task import Batch, Example, Item, Task, TaskConfig
from wavlm_lightning.audio import AudioError, read_audio
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
            dev is then of speakers who are trained on, and chooses nothing. A manifest has its own
            dev split.
        dev_utterances: of each of dev's speakers.
        dev_trials: most trials of one kind on dev, and on test for a manifest.
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


class ASV(Task[Config]):
    """Classification of speakers in training, cosine of embeddings afterwards."""

    name, corpus, Config = "asv", "voxceleb1", Config
    monitor, mode, headline = "dev/eer", "min", "test/eer"
    headline_mode, unit = "min", "%"
    trivial_answer = "the cosine of mean frames, without a head"
    published_on_test = True

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._of_other_splits = self._impossible = 0
        if self.sources.manifest is not None:
            parts = self._from_manifest(self.sources.manifest)
        else:
            parts = self._from_voxceleb(self.sources.folder("voxceleb1"))
        self._splits, self._trials = parts
        self._frames = 0  # of a training crop, known with the upstream
        shortest = self.config.min_seconds * SAMPLE_RATE
        train = [e for e in self._splits["train"] if e.num_samples > shortest]
        self._too_short = len(self._splits["train"]) - len(train)
        self.speakers = self.classes = sorted({e.target for e in train})
        numbers = {speaker: i for i, speaker in enumerate(self.speakers)}
        self._splits["train"] = [
            Example(e.id, e.path, e.start, e.stop, numbers[e.target]) for e in train
        ]

    def _from_voxceleb(self, root: Path) -> tuple[dict[str, list[Example]], dict[str, list[Trial]]]:
        segments = voxceleb1.segments(root)
        test_trials = voxceleb1.trials(root)
        wanted = sorted({name for t in test_trials for name in (t.enrol, t.test)})
        if missing := [name for name in wanted if name not in segments]:
            raise FileNotFoundError(
                f"paths.voxceleb1={root}: {len(missing)} of {len(wanted)} recordings of the trials "
                f"are missing, such as {missing[0]}"
            )
        tested = {name.split("/")[0] for name in wanted}
        rest = [s for s in segments.values() if s.speaker not in tested]
        speakers = sorted({s.speaker for s in rest})
        if self.config.held_out_speakers == 1:
            raise ValueError(
                "task.held_out_speakers must be 0 or at least 2 (got 1): trials want two speakers"
            )
        if len(speakers) <= self.config.held_out_speakers + 1:
            raise ValueError(
                f"paths.voxceleb1={root}: {len(speakers)} speakers beside the test speakers, "
                f"task.held_out_speakers={self.config.held_out_speakers} leaves none to train on"
            )
        rng = generator(0, "held-out speakers")  # the same ones for every seed
        of_dev = self.config.held_out_speakers or WATCHED
        in_dev = set(rng.permutation(speakers)[:of_dev].tolist())
        dev = self._few_of_each([s for s in rest if s.speaker in in_dev])
        held_out = in_dev if self.config.held_out_speakers else set()
        splits = {
            "train": self._measured([s for s in rest if s.speaker not in held_out]),
            "dev": self._measured(dev),
            "test": self._measured([segments[name] for name in wanted]),
        }
        there = {split: {e.id for e in examples} for split, examples in splits.items()}
        groups = {s.id: (s.speaker, s.video) for s in dev if s.id in there["dev"]}
        possible = [t for t in test_trials if {t.enrol, t.test} <= there["test"]]
        self._impossible = len(test_trials) - len(possible)
        return splits, {"dev": self._pairs(groups, "dev"), "test": possible}

    def _few_of_each(self, segments: list[voxceleb1.Segment]) -> list[voxceleb1.Segment]:
        """`dev_utterances` of each speaker, spread over videos."""
        of: dict[str, list[voxceleb1.Segment]] = defaultdict(list)
        for segment in segments:
            of[segment.speaker].append(segment)
        few = []
        for own in of.values():
            places = np.linspace(0, len(own) - 1, min(self.config.dev_utterances, len(own)))
            few += [own[i] for i in np.unique(places.round().astype(int))]
        return few

    def _measured(self, segments: Sequence[voxceleb1.Segment]) -> list[Example]:
        paths = [s.path for s in segments]
        if self.config.remove_silence:
            read = self.sources.lengths
            lengths = read.remembered(paths, self._trimmed_length, "asv_lengths.json")
        else:
            lengths = self.sources.lengths(paths)
        return [
            Example(s.id, str(s.path), 0, length, s.speaker)
            for s, length in usable(segments, lengths)
        ]

    def _trimmed_length(self, path: Path) -> int:
        length = len(self._prepared(read_audio(path)))
        if length == 0:
            raise AudioError(f"{path}: silent, nothing is left of it without its silence")
        return length

    def _from_manifest(
        self, folder: Path
    ) -> tuple[dict[str, list[Example]], dict[str, list[Trial]]]:
        rows = manifest.read(folder, needs=("speaker",), lengths=self.sources.lengths)
        splits, trials = {}, {}
        tested: set[str] = set()
        for split in ("test", "dev", "train"):
            every = manifest.rows_of(rows, split, folder)
            own = [r for r in every if r.speaker not in tested]
            self._of_other_splits += len(every) - len(own)
            if not own:
                raise ValueError(
                    f"{folder / manifest.NAME}: every speaker of {split} is one of test or dev too"
                )
            examples = [Example(r.id, str(r.path), 0, r.num_samples, r.speaker) for r in own]
            if split != "train":
                tested |= {r.speaker for r in own}
                if len({e.target for e in examples}) == len(examples):
                    examples = _halves(examples)
                groups = {e.id: (e.target, e.id) for e in examples}
                trials[split] = self._pairs(groups, split)
            splits[split] = examples
        return splits, trials

    def _pairs(self, groups: Mapping[str, tuple[str, str]], split: str) -> list[Trial]:
        """Trials of all pairs, at most `dev_trials` of each kind; `groups`: speaker, recording.

        Two utterances of one recording session make no trial.
        """
        same, different = [], []
        for a, b in combinations(sorted(groups), 2):
            if groups[a][0] != groups[b][0]:
                different.append(Trial(False, a, b))
            elif groups[a][1] != groups[b][1]:
                same.append(Trial(True, a, b))
        rng = generator(0, "trials", len(groups))
        drawn = []
        for kind in (same, different):
            order = rng.permutation(len(kind))[: self.config.dev_trials]
            drawn += [kind[i] for i in np.sort(order)]
        if not same or not different:
            raise ValueError(
                f"asv: split {split} has {len(same)} pairs of one speaker and {len(different)} of "
                "two, both are needed: two recordings each of two speakers or more"
            )
        return drawn

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
        """True if no speakers are held out: every one is trained on."""
        return self.sources.manifest is None and self.config.held_out_speakers == 0

    @property
    def test_checkpoints(self) -> int:
        """As the leaderboard's protocol, which chooses on test."""
        return self.config.best_of

    def examples(self, split: str) -> Sequence[Example]:
        """Targets are numbers of training speakers, names elsewhere."""
        return self._splits[split]

    def _prepared(self, waveform: Tensor) -> Tensor:
        waveform = waveform * 10 ** (self.config.gain_db / 20)
        return remove_silence(waveform) if self.config.remove_silence else waveform

    def load(self, example: Example, rng: np.random.Generator | None) -> Item:
        """A random crop in training if waveforms are cropped, whole otherwise."""
        if example.start == 0:
            waveform = self._prepared(read_audio(example.path))[: example.stop]
        else:
            waveform = self._prepared(read_audio(example.path, example.start, example.stop))
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
        made = f"{self.config.gain_db} dB, silence removed {self.config.remove_silence}"
        return f"{super().key(example, training=training)} {made}"

    def head(self, dim: int, stride: int) -> nn.Module:
        """Embedding, and one vector a training speaker."""
        self._frames = round(self.config.max_seconds * SAMPLE_RATE / stride)
        return XVector(
            dim,
            width=self.config.width,
            num_classes=len(self.speakers),
            init=self.config.init,
        )

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Additive-margin softmax over training speakers."""
        speakers = torch.tensor(batch.targets, device=frames.x.device)
        if self.config.crop == "features":
            frames = self._cropped(frames, batch)
        cosines = head(frames).cosines
        return am_softmax(cosines, speakers, margin=self.config.margin, scale=self.config.scale)

    def _cropped(self, frames: Frames, batch: Batch) -> Frames:
        """A random stretch of each utterance's frames."""
        size = min(self._frames, frames.x.shape[1])
        starts = []
        for epoch, index, length in zip(batch.epochs, batch.indices, frames.lengths, strict=True):
            room = max(0, int(length) - size)
            starts.append(int(generator(self.seed, "crop", epoch, index).integers(room + 1)))
        places = torch.tensor(starts)[:, None] + torch.arange(size)  # (B, F'), made on the host
        places = places.to(frames.x.device, non_blocking=True)[..., None]
        x = frames.x.gather(1, places.expand(-1, -1, frames.x.shape[2]))
        return Frames(x, frames.lengths.clamp(max=size))

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Embeddings (D,) and means of frames (D',), all of length one."""
        embeddings = F.normalize(head(frames).embedding.float(), dim=1).cpu().numpy()
        means = F.normalize(mean_over_time(frames), dim=1).cpu().numpy()
        rows = zip(embeddings, means, strict=True)
        return [{EMBEDDING: embedding, MEAN: mean} for embedding, mean in rows]

    def scores(
        self, split: str, predictions: Mapping[str, Any], *, of: str = EMBEDDING
    ) -> list[float]:
        """Cosine of each trial, of embeddings or of means."""
        return [
            float(predictions[t.enrol][of] @ predictions[t.test][of])
            for t in self._scored(split, predictions)
        ]

    def _scored(self, split: str, predictions: Mapping[str, Any]) -> list[voxceleb1.Trial]:
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
        """Of the means of the frames that the head is given."""
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


def _halves(examples: list[Example]) -> list[Example]:
    """Both halves of each recording, where no speaker has two recordings."""
    out = []
    for e in examples:
        middle = (e.start + e.stop) // 2
        for half, span in (("1", (e.start, middle)), ("2", (middle, e.stop))):
            out.append(Example(f"{e.id}.{half}", e.path, *span, e.target))
    return out
