# SPDX-License-Identifier: Apache-2.0
"""From manifests and labels to batches: crops, mixing, masks and labels, each drawn by utterance.

Everything random is drawn here, in the worker, from (seed, epoch, utterance); the training step
gets waveforms, labels and masks and draws nothing but dropout.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from wavlm_lightning.lengths import HOP, conv_lengths, pad_batch
from wavlm_lightning.masking import SpanMask
from wavlm_lightning.model.wavlm import normalize_waveforms
from wavlm_lightning.pretrain.batches import BatchPlan, FixedBatches, PlanSampler, crop_size
from wavlm_lightning.pretrain.config import DataConfig
from wavlm_lightning.pretrain.labels import NO_LABEL, Labels
from wavlm_lightning.pretrain.manifest import Manifest
from wavlm_lightning.pretrain.mixing import Mixer
from wavlm_lightning.pretrain.objective import frames_to_predict
from wavlm_lightning.runtime import leave_signals
from wavlm_lightning.seeding import generator

VALIDATION_EPOCH = 2**31  # stands for the epoch in what validation draws: the same every time


class PretrainBatch(NamedTuple):
    """What one step trains on."""

    waveforms: Tensor  # (B, T) float32, normalised if the model needs it, mixed
    lengths: Tensor  # (B,) int64 samples, on the host
    labels: Tensor  # (B, F, S) int64, -1 where there is none
    masked: Tensor  # (B, F) bool, True where masked
    masked_places: Tensor  # (N,) int64, of masked frames with labels, see `frames_to_predict`
    unmasked_places: Tensor  # (M,) int64, of the other frames with labels
    mixed: int  # utterances with another one or noise mixed in
    ids: list[str]
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """Utterances with labels; `rows` are those that are used, of the manifest and of the labels."""

    manifest: Manifest
    labels: Sequence[Labels]  # one a label set
    rows: NDArray[np.int64]

    @property
    def num_samples(self) -> NDArray[np.int64]:
        """(N,) samples of the rows used."""
        return self.manifest.num_samples[self.rows]


class PretrainDataset(Dataset[PretrainBatch]):
    """Makes the batch of a list of utterances.

    Args:
        split: utterances and labels.
        config: crops.
        mask: Draws which frames are masked.
        mixer: lays other sound over utterances; None for clean speech.
        normalize: Zero mean and unit variance, which the model was trained on.
        train: crop all rows to the shortest at random places; otherwise keep the beginning of each,
            padded.
        seed: of everything drawn.
    """

    def __init__(
        self,
        split: Split,
        config: DataConfig,
        *,
        mask: SpanMask,
        mixer: Mixer | None,
        normalize: bool,
        train: bool,
        seed: int,
    ):
        self.split, self.config, self.mask, self.mixer = split, config, mask, mixer
        self.normalize, self.train, self.seed = normalize, train, seed
        self.grid = config.grid

    def __getitem__(self, key: tuple[int, list[int]]) -> PretrainBatch:
        """The batch of (epoch, positions of utterances)."""
        epoch, positions = key
        rows = [int(self.split.rows[p]) for p in positions]
        sizes = [
            min(int(self.split.manifest.num_samples[r]), self.config.max_samples) for r in rows
        ]
        if self.train:
            sizes = [crop_size(np.array(sizes), self.grid)] * len(rows)
        starts = [self._start(epoch, r, size=n) for r, n in zip(rows, sizes, strict=True)]
        waveforms, lengths = pad_batch(
            [self._read(r, s, size=n) for r, s, n in zip(rows, starts, sizes, strict=True)]
        )
        kinds = torch.zeros(len(rows), dtype=torch.int64)  # 1 another utterance mixed in, 2 noise
        if self.mixer is not None:
            waveforms, kinds = self.mixer(waveforms, lengths, self._draws("mix", epoch, rows))
        frames = conv_lengths(lengths)
        masked = self.mask(frames.tolist(), self._draws("mask", epoch, rows))
        labels = torch.full((*masked.shape, len(self.split.labels)), NO_LABEL)
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            for j, source in enumerate(self.split.labels):
                labels[i, : frames[i], j] = torch.from_numpy(
                    source.crop(row, start, int(frames[i]))
                )
        ids = [self.split.manifest[r].name for r in rows]
        return PretrainBatch(
            waveforms,
            lengths,
            labels,
            masked,
            masked_places=frames_to_predict(labels, masked),
            unmasked_places=frames_to_predict(labels, ~masked),
            mixed=int((kinds > 0).sum()),
            ids=ids,
            epoch=epoch,
        )

    def _draws(self, purpose: str, epoch: int, rows: list[int]) -> list[np.random.Generator]:
        return [generator(self.seed, purpose, epoch, r) for r in rows]

    def _start(self, epoch: int, row: int, *, size: int) -> int:
        if not self.train:
            return 0
        room = int(self.split.manifest.num_samples[row]) - size
        start = int(generator(self.seed, "crop", epoch, row).integers(room + 1))
        return start // HOP * HOP if self.config.snap_crops else start

    def _read(self, row: int, start: int, *, size: int) -> Tensor:
        if not self.normalize:
            return self.split.manifest.read(row, start, start + size)
        # The whole utterance is normalised, then cropped, as the released models were trained.
        whole = self.split.manifest.read(row)
        return normalize_waveforms(whole[None], None)[0, start : start + size]


class PretrainData(lightning.LightningDataModule):
    """Train, dev and mixed dev loaders; remembers the position for an exact resume.

    Args:
        train: training split.
        dev: validation split; its two loaders give it clean and mixed.
        config: crops and batches.
        mask: Draws which frames are masked.
        mixers: for training ("train") and for mixed validation ("dev").
        normalize: Zero mean and unit variance, which the model was trained on.
        seed: of plan, crops, mixing and masks.
    """

    def __init__(
        self,
        train: Split,
        dev: Split,
        config: DataConfig,
        *,
        mask: SpanMask,
        mixers: Mapping[str, Mixer],
        normalize: bool,
        seed: int,
        world: int = 1,
    ):
        super().__init__()
        common: dict[str, Any] = {"mask": mask, "normalize": normalize, "seed": seed}
        self.config = config
        self.train = PretrainDataset(train, config, mixer=mixers["train"], train=True, **common)
        self.dev = PretrainDataset(dev, config, mixer=None, train=False, **common)
        mixer = mixers["dev"]
        noise_prob = mixer.config.noise_prob if mixer.noise else 0.0
        config_always = dataclasses.replace(mixer.config, prob=1.0, noise_prob=noise_prob)
        always = dataclasses.replace(mixer, config=config_always)
        self.dev_mixed = PretrainDataset(dev, config, mixer=always, train=False, **common)
        self.plan = BatchPlan(
            train.num_samples,
            config.seconds_per_batch,
            config.batches_per_update(world),
            max_samples=config.max_samples,
            seed=seed,
            grid=config.grid,
            repeat=config.repeat_updates,
        )
        self._dev_batches = _dev_batches(dev, config, seed=seed, world=world)
        self._position = {"epoch": 0, "batch": 0}

    def train_dataloader(self) -> DataLoader[PretrainBatch]:
        """Batches of this process, from the position of a loaded checkpoint on."""
        trainer = self._trainer()
        epoch, batch = self._position["epoch"], self._position["batch"]
        sampler = PlanSampler(self.plan, rank=trainer.global_rank, world=trainer.world_size)
        if batch >= len(sampler):
            epoch, batch = epoch + 1, 0
        sampler = PlanSampler(
            self.plan,
            rank=trainer.global_rank,
            world=trainer.world_size,
            epoch=epoch,
            start=batch,
        )
        # With trainer.overfit_batches, batches of one epoch for all.
        overfits = trainer.overfit_batches > 0  # type: ignore[attr-defined]
        return self._loader(self.train, FixedBatches(list(sampler)) if overfits else sampler)

    def val_dataloader(self) -> list[DataLoader[PretrainBatch]]:
        """The dev split clean, and with every utterance mixed that has a partner or noise."""
        trainer = self._trainer()
        batches = [(VALIDATION_EPOCH, batch) for batch in self._dev_batches]
        mine = FixedBatches(batches[trainer.global_rank :: trainer.world_size])
        return [self._loader(self.dev, mine), self._loader(self.dev_mixed, mine)]

    def _trainer(self) -> lightning.Trainer:
        if self.trainer is None:
            raise RuntimeError("PretrainData needs a Trainer: it shares batches between processes")
        return self.trainer

    def _loader(self, dataset: PretrainDataset, sampler: Any) -> DataLoader[PretrainBatch]:
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.config.num_workers,
            worker_init_fn=leave_signals,
            pin_memory=torch.cuda.is_available(),
        )

    def _fingerprint(self) -> dict[str, Any]:
        return {
            "utterances": len(self.plan.num_samples),
            "samples": int(self.plan.num_samples.sum()),
            "seed": self.plan.seed,
            "seconds_per_batch": self.plan.seconds_per_batch,
            "batches_per_update": self.plan.batches_per_update,
            "processes": self._trainer().world_size,
            "grid_crops": self.config.grid_crops,
            "codebooks": [labels.quantizer_sha256 for labels in self.train.split.labels],
            "precision": str(self._trainer().precision),
        }

    def state_dict(self) -> dict[str, Any]:
        """Where training stands: epoch, batches done in it, and what the plan was made of."""
        trainer = self._trainer()
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
        return {
            "epoch": trainer.current_epoch,
            "batch": progress.processed,
            "plan": self._fingerprint(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: if the data or the batches changed, which a resume cannot follow.
        """
        old, new = {"grid_crops": False} | state_dict["plan"], self._fingerprint()
        if changed := {k: (old.get(k), v) for k, v in new.items() if old.get(k) != v}:
            what = "; ".join(f"{k} was {a}, is {b}" for k, (a, b) in changed.items())
            raise ValueError(
                f"the checkpoint was made with other data or batches: {what}. Bring them back, or "
                "start a new run with run.resume=false"
            )
        self._position = {k: state_dict[k] for k in ("epoch", "batch")}


def _dev_batches(dev: Split, config: DataConfig, *, seed: int, world: int) -> list[list[int]]:
    """Batches of the dev split, the same for every validation; at least one a process."""
    plan = BatchPlan(
        dev.num_samples, config.seconds_per_batch, 1, max_samples=config.max_samples, seed=seed
    )
    batches = [update[0].tolist() for update in plan.epoch(0)]
    if len(batches) < world:
        batches = [[i] for i in range(len(dev.num_samples))]
    if len(batches) < world:
        raise ValueError(
            f"{len(batches)} dev utterances for {world} processes: raise data.dev_share, or train "
            "with fewer processes"
        )
    return batches
