# SPDX-License-Identifier: Apache-2.0
"""The loader of pre-training alone: reading, cropping, mixing, masks, without and with workers."""

import dataclasses
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from wavlm_lightning.lengths import SAMPLE_RATE, conv_lengths
from wavlm_lightning.pretrain.batches import PlanSampler
from wavlm_lightning.pretrain.data import Split
from wavlm_lightning.pretrain.labels import Labels
from wavlm_lightning.pretrain.manifest import Manifest
from wavlm_lightning.recipes.pretrain.iteration import build_data
from wavlm_lightning.recipes.pretrain.recordings import prepare_recordings
from wavlm_lightning.recipes.pretrain.settings import read_settings
from wavlm_lightning.recipes.run.processes import Processes

WORKERS = (0, 1, 2)
BATCHES = 150
NUM_CODES, RATE = 500, 50


def loading(root: str, noise: str) -> Iterator[dict[str, Any]]:
    """Hours of audio an hour for each number of workers, of any recordings with made-up labels."""
    words = ["--config=configs/pretrain/mini.yaml", f"--data.root={root}", f"--data.noise={noise}"]
    settings = read_settings([*words, "--mixing.prob=1.0", "--mixing.noise_prob=0.5"])
    with tempfile.TemporaryDirectory() as folder:
        recordings = prepare_recordings(settings, Path(folder), Processes(0, 1, 1))
        splits = {name: _split(recordings.manifests[name]) for name in ("train", "dev")}
        for workers in WORKERS:
            config = dataclasses.replace(settings.data, num_workers=workers)
            own = dataclasses.replace(settings, data=config)
            data = build_data(own, recordings, splits)
            yield {
                "what": "loading, every utterance mixed",
                "contender": f"{workers} workers",
                "hours_per_hour": round(_speed(data, workers)),
                "cropped_share": round(data.plan.cropped_share, 4),
            }


def _split(manifest: Manifest) -> Split:
    """Labels of the right lengths that mean nothing."""
    counts = [int(conv_lengths(int(n))) for n in manifest.num_samples]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    codes = np.random.default_rng(0).integers(NUM_CODES, size=offsets[-1]).astype(np.uint16)
    labels = Labels("made up", codes, offsets, RATE, NUM_CODES, "none")
    return Split(manifest=manifest, labels=[labels], rows=np.arange(len(manifest)))


def _speed(data: Any, workers: int) -> float:
    """Speed of the second epoch's batches: the first one warms up the files."""
    loader: DataLoader[Any] = DataLoader(
        data.train,
        batch_size=None,
        sampler=_Epochs(PlanSampler(data.plan, rank=0, world=1)),
        num_workers=workers,
    )
    batches = iter(loader)
    for _ in islice(batches, len(data.plan.epoch(0))):
        pass
    start, samples = time.perf_counter(), 0
    for batch in islice(batches, BATCHES):
        samples += int(batch.lengths.sum())
    return samples / SAMPLE_RATE / (time.perf_counter() - start)


class _Epochs:
    """One epoch after another, without end."""

    def __init__(self, sampler: PlanSampler):
        self.sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        epoch = 0
        while True:
            self.sampler.set_epoch(epoch)
            yield from self.sampler
            epoch += 1
