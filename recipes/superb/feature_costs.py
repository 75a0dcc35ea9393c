# SPDX-License-Identifier: Apache-2.0
"""Whether features are worth keeping: what computing, keeping and reading them takes, measured.

On a processor keeping wins nearly always; on a fast GPU with a slow disk it may not. What it costs
to decode recordings is left out: other processes do that meanwhile.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.cache import FeatureCache
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.lengths import SAMPLE_RATE, pad_batch
from wavlm_lightning.recipes.run.folder import CHOICE

SAMPLE = 4  # utterances that are measured, after one that warms up
# Kept unless computing anew is cheaper by this: two runs should not differ by a close call.
CLOSE = 1.25


@dataclass(frozen=True)
class Costs:
    """Seconds for a second of audio.

    Attributes:
        compute: The upstream on a batch, as at each use.
        keep: The upstream on one utterance, and writing what it gives.
        read: Reading that again, onto the device.
    """

    compute: float
    keep: float
    read: float

    def worth_keeping(self, uses: float) -> bool:
        """Whether features that are used so often are to be kept."""
        return self.keep + uses * self.read <= CLOSE * uses * self.compute

    def why(self, uses: float) -> str:
        """The reason for the choice, for logs and results."""
        compute, keep, read = (f"{1e3 * x:.2g}" for x in (self.compute, self.keep, self.read))
        return (
            f"a second of audio takes {compute} ms to compute, {keep} to compute and keep, {read} "
            f"to read, and is used {uses:.3g} times"
        )


def uses_of(data: TaskData, *, validations: int, tests: int) -> float:
    """How often an utterance whose features can be kept is used, weighted by its length."""
    kept: dict[str, int] = {}
    for split, example in data.to_keep():
        kept[split] = kept.get(split, 0) + example.num_samples
    plan = data.plan
    epochs = data.total_updates * plan.batches_per_update / plan.batches_per_epoch
    times = {"train": epochs, "dev": validations, "test": tests}
    total = sum(times.get(split, 1) * samples for split, samples in kept.items())
    return total / max(sum(kept.values()), 1)


def measure(cache: FeatureCache, upstream: Frozen, data: TaskData, device: str) -> Costs | None:
    """Costs on a few utterances of middle length; None where all is kept already."""
    keys = [
        (example.num_samples, str(data.task.key(example, training=split == "train")))
        for split, example in data.to_keep()
    ]
    missing = sorted(pair for pair in keys if not cache.files.path(pair[1]).exists())
    if len(missing) <= SAMPLE:
        return None
    middle = max(0, (len(missing) - SAMPLE - 1) // 2)
    names = [key for _, key in missing[middle : middle + SAMPLE + 1]]
    waveforms = [data.waveform(key) for key in names]
    first, *rest = waveforms

    def one(number: int, samples: Tensor) -> Any:
        return cache(
            [names[number]], samples[None].to(device), torch.tensor([len(samples)]), upstream
        )

    one(0, first)
    seconds = sum(map(len, rest)) / SAMPLE_RATE
    batch, lengths = pad_batch(rest)
    # The first pass over so large a batch finds its memory, which later ones have.
    _, compute = (_took(lambda: upstream(batch.to(device), lengths), device) for _ in range(2))
    keep = _took(lambda: [one(i, x) for i, x in enumerate(rest, 1)], device)
    for name in names[1:]:
        _forget(cache.files.path(name))
    read = _took(lambda: [one(i, x[:0]) for i, x in enumerate(rest, 1)], device)
    return Costs(compute / seconds, keep / seconds, read / seconds)


def _took(work: Callable[[], Any], device: str) -> float:
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _forget(path: Path) -> None:
    """Take a file out of the system's memory, so that it is read as after hours of others."""
    if not hasattr(os, "posix_fadvise"):
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True)
class Choice:
    """What a run does, now and after a resume."""

    keep: bool
    why: str


def choose(folder: Path, uses: float, costs: Callable[[], Costs | None]) -> Choice:
    """What the run's folder says; where it says nothing, what is measured, which is written there.

    Processes ask one after the other, the first one first: the others find what it found.
    """
    file = folder / CHOICE
    if file.is_file():
        return Choice(**read_json(file))
    found = Choice(keep=True, why="they are there already")
    if (measured := costs()) is not None:
        found = Choice(measured.worth_keeping(uses), measured.why(uses))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(asdict(found), indent=2) + "\n")
    return found
