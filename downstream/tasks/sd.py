# SPDX-License-Identifier: Apache-2.0
"""Speaker diarization: who speaks when?

Corpus     Libri2Mix, two speakers and noise, as long as the longer one
Head       one LSTM, linear to one logit a speaker
Loss       binary cross entropy under the best order of speakers
Score      diarization error rate, no collar, overlap scored, lower is better
Source     SUPERB (Yang et al. 2021), task SD; values in configs/superb/sd.yaml

Differs from s3prl: threshold and median filter are chosen on dev. The best of all on test, which is
what the leaderboard has, stands beside it as der_best_of_10_test.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wavlm_lightning.audio import read_audio
from wavlm_lightning.downstream.corpora import librimix
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.downstream.corpora.simulate import conversation
from wavlm_lightning.downstream.families.mixtures import Mixtures
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.recurrent import LstmActivity
from wavlm_lightning.downstream.losses import permutation_bce
from wavlm_lightning.downstream.metrics.der import (
    Turn,
    activity,
    diarization_error_rate,
    median_filter,
    turns_of,
)
from wavlm_lightning.downstream.task import Batch, Example, Item, TaskConfig, example_of
from wavlm_lightning.fields import number, whole
from wavlm_lightning.files import write_text
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.names import safe_name

SPEAKERS = 2
FOLDER = "sd_public/scoring/predictions"  # of the leaderboard


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        hidden: of the LSTM.
        chunk_seconds: training recordings are cut into pieces of at most this.
        thresholds: on the probability of speech, one of which is chosen on dev.
        medians: widths in frames of the median filter, one of which is chosen on dev.
    """

    hidden: int = whole(1, 65536)
    chunk_seconds: float = number(0.1, 10**5)
    thresholds: list[float] = number(0, 1, above=True, below=True)
    medians: list[int] = whole(1, 10**6)


class SD(Mixtures[Config]):
    """Activity of two speakers, frame by frame."""

    name, corpus, Config = "sd", "librimix", Config
    field = "turns"
    monitor, mode, headline = "dev/frame_accuracy", "max", "test/der"
    headline_mode, unit = "min", "%"
    trivial_answer = "one speaker or both throughout, whichever is better"
    published_on_test = True

    def official(self) -> Corpus:
        """Libri2Mix with noise, and who speaks when."""
        root = self.sources.folder("librimix")
        return librimix.LibriMix(root, mode="max", kind="mix_both", has="turns")

    @property
    def max_samples(self) -> int:
        """The longest training example."""
        return round(self.config.chunk_seconds * SAMPLE_RATE)

    def recorded(self, split: str, recordings: Sequence[Recording]) -> list[Example]:
        """Whole recordings, in training cut into chunks."""
        found = [(r, librimix.turns_in(r)) for r in recordings]
        if crowded := [r for r, turns in found if len({t.speaker for t in turns}) > SPEAKERS]:
            raise ValueError(
                f"{crowded[0].where}: {len(crowded)} recordings of {split} "
                f"have more than {SPEAKERS} speakers, such as {crowded[0].id}"
            )
        whole = [example_of(r, turns) for r, turns in found]
        if split != "train":
            return whole
        return [chunk for e in whole for chunk in _chunks(e, self.max_samples)]

    def load_recorded(self, example: Example) -> Item:
        """Samples, and turns counted from the first of them."""
        waveform = read_audio(example.path, example.start, example.stop)
        return Item(waveform, self.target(example))

    def mix(self, recordings: Sequence[Recording], index: int, rng: np.random.Generator) -> Item:
        """Speakers who overlap in part, and turns by the energy of each."""
        return Item(*conversation(recordings, index, rng, max_samples=self.max_samples))

    def target(self, example: Example) -> list[Turn]:
        """The example's turns, counted from its first sample and cut at its ends."""
        start, stop = example.start / SAMPLE_RATE, example.stop / SAMPLE_RATE
        return [
            Turn(t.speaker, max(t.start, start) - start, min(t.stop, stop) - start)
            for t in example.target
            if t.stop > start and t.start < stop
        ]

    def head(self, dim: int) -> nn.Module:
        """One logit a speaker and frame."""
        return LstmActivity(dim, hidden=self.config.hidden, num_speakers=SPEAKERS)

    @property
    def _hop(self) -> float:
        """Seconds from one frame to the next."""
        return self.framing.stride / SAMPLE_RATE

    def _activities(self, frames: Frames, batch: Batch) -> Tensor:
        """(B, F, S) of the reference turns."""
        active = np.zeros((len(batch.ids), frames.x.shape[1], SPEAKERS), np.float32)
        for row, turns in enumerate(batch.targets):
            own = activity(turns, num_frames=int(frames.lengths[row]), hop_seconds=self._hop)
            active[row, : len(own), : own.shape[1]] = own
        return torch.from_numpy(active).to(frames.x.device)

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> Tensor:
        """Mean binary cross entropy () over speakers and frames."""
        return permutation_bce(head(frames), self._activities(frames, batch), frames.lengths)

    def predict(self, head: nn.Module, frames: Frames, batch: Batch) -> list[Any]:
        """Probabilities (F, S), reference turns, seconds."""
        probabilities = head(frames).float().sigmoid().cpu().numpy()
        out = []
        for row, turns in enumerate(batch.targets):
            seconds = int(batch.lengths[row]) / SAMPLE_RATE
            own = probabilities[row, : int(frames.lengths[row])]
            # The convolutions stop short of the end: the last frame stands for the rest.
            missing = max(0, round(seconds / self._hop) - len(own))
            own = np.pad(own, ((0, missing), (0, 0)), mode="edge")
            out.append({"probabilities": own, "turns": turns, "seconds": seconds})
        return out

    def vocabulary(self) -> dict[str, Any]:
        """Nothing: outputs are speakers of each recording, in any order."""
        return {}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Nothing."""

    def readable(self, head: nn.Module, frames: Frames, batch: Batch) -> list[dict[str, Any]]:
        """Who speaks when, in seconds, by the threshold and filter that dev chose."""
        unknown = batch._replace(targets=[[] for _ in batch.ids])
        found = []
        for prediction in self.predict(head, frames, unknown):
            turns = self._hypothesis(
                prediction, self.chosen["threshold"], int(self.chosen["median"])
            )
            rows = [[t.speaker, round(t.start, 3), round(t.stop, 3)] for t in turns]
            found.append({"turns": rows})
        return found

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Frame accuracy on dev; error rates on test, and the best of all settings there."""
        if split == "dev":
            return {"frame_accuracy": frame_accuracy(predictions, self._hop)}
        # All settings are scored on test too: the leaderboard reports the best of them.
        rates = self._rates(predictions)
        chosen = (self.chosen["threshold"], int(self.chosen["median"]))
        return {
            "der": rates[chosen],
            f"der_best_of_{len(rates)}_test": min(rates.values()),
            "frame_accuracy": frame_accuracy(predictions, self._hop),
        }

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Scores of speakers who never stop, one or both."""
        seconds = {name: p["seconds"] for name, p in predictions.items()}
        turns = {name: p["turns"] for name, p in predictions.items()}
        rates = []
        for speakers in ("0", "01"):
            always = {n: [Turn(s, 0.0, end) for s in speakers] for n, end in seconds.items()}
            rates.append(diarization_error_rate(turns, always, seconds))
        return {"der": min(rates)}

    def tune(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Threshold and median filter with the lowest error rate on dev."""
        rates = self._rates(predictions)
        threshold, median = min(rates, key=rates.__getitem__)
        self.chosen = {"threshold": threshold, "median": median}
        return {**self.chosen, "der": rates[threshold, median]}

    def _rates(self, predictions: Mapping[str, Any]) -> dict[tuple[float, int], float]:
        references = {name: p["turns"] for name, p in predictions.items()}
        seconds = {name: p["seconds"] for name, p in predictions.items()}
        return {
            setting: diarization_error_rate(
                references,
                {name: self._hypothesis(p, *setting) for name, p in predictions.items()},
                seconds,
            )
            for setting in product(self.config.thresholds, self.config.medians)
        }

    def _hypothesis(
        self, prediction: Mapping[str, Any], threshold: float, median: int
    ) -> list[Turn]:
        active = median_filter(prediction["probabilities"] > threshold, median)
        return turns_of(active, hop_seconds=self._hop, end=prediction["seconds"])

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """RTTM of references and hypotheses."""
        setting = (self.chosen["threshold"], int(self.chosen["median"]))
        paths = []
        for kind in ("reference", "hypothesis"):
            lines = [
                librimix.rttm(
                    name, p["turns"] if kind == "reference" else self._hypothesis(p, *setting)
                )
                for name, p in predictions.items()
            ]
            paths.append(folder / f"{split}.{kind}.rttm")
            write_text(paths[-1], "".join(lines))
        return paths

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """Probabilities (F, S) of each recording, and samples a frame."""
        files: dict[str, Any] = {
            f"{FOLDER}/{safe_name(name)}.h5": p["probabilities"].astype(np.float32)
            for name, p in predictions.items()
        }
        return files | {"sd_public/frame_shift": f"{round(self._hop * SAMPLE_RATE)}\n"}

    def hardest_examples(self, split: str, predictions: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Recordings by their error rates."""
        setting = (self.chosen["threshold"], int(self.chosen["median"]))
        rows = []
        for name, p in predictions.items():
            turns = self._hypothesis(p, *setting)
            rate = diarization_error_rate({name: p["turns"]}, {name: turns}, {name: p["seconds"]})
            rows.append(
                {
                    "id": name,
                    "reference": _timeline(p["turns"]),
                    "hypothesis": _timeline(turns),
                    "error": rate,
                }
            )
        return sorted(rows, key=lambda row: -float(row["error"]))


def frame_accuracy(predictions: Mapping[str, Any], hop_seconds: float) -> float:
    """Percent of (frame, speaker) told right at a threshold of one half, best order of speakers."""
    right, total = 0, 0
    for p in predictions.values():
        active = p["probabilities"] > 0.5
        own = activity(p["turns"], num_frames=len(active), hop_seconds=hop_seconds)
        reference = np.zeros_like(active)
        reference[:, : own.shape[1]] = own
        orders = permutations(range(active.shape[1]))
        right += max(int((active[:, list(order)] == reference).sum()) for order in orders)
        total += active.size
    return 100.0 * right / total


def _chunks(example: Example, most: int) -> list[Example]:
    """Consecutive pieces of at most `most` samples, about equally long."""
    count = -(-example.num_samples // most)
    if count == 1:
        return [example]
    edges = np.linspace(example.start, example.stop, count + 1).round().astype(int).tolist()
    return [
        Example(f"{example.id}.{i}", example.path, a, b, example.target)
        for i, (a, b) in enumerate(pairwise(edges))
    ]


def _timeline(turns: Sequence[Turn]) -> str:
    return " ".join(f"{t.speaker}:{t.start:.2f}-{t.stop:.2f}" for t in turns)
