# SPDX-License-Identifier: Apache-2.0
"""The parts of a pre-training: recordings to manifests, labels, one iteration of training."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.operations import BACKWARD, forward_operations
from wavlm_lightning.pretrain.data import PretrainData, Split
from wavlm_lightning.pretrain.label_report import LabelReport, report_labels
from wavlm_lightning.pretrain.labels import Labels, check_same_quantizer, open_labels
from wavlm_lightning.pretrain.manifest import Manifest
from wavlm_lightning.pretrain.mixing import Mixer, NoiseClips
from wavlm_lightning.pretrain.pretrainer import Pretrainer
from wavlm_lightning.recipes.pretrain.first_weights import start_from
from wavlm_lightning.recipes.pretrain.mixes import ShowMixes
from wavlm_lightning.recipes.pretrain.recordings import Recordings
from wavlm_lightning.recipes.pretrain.settings import Settings
from wavlm_lightning.recipes.run.callbacks import KeepBest
from wavlm_lightning.recipes.run.checkpoints import BEST, CHECKPOINTS, LAST
from wavlm_lightning.recipes.run.curves import plot_curves
from wavlm_lightning.recipes.run.devices import device_words, with_precision
from wavlm_lightning.recipes.run.fit import Training, fit, once
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.throughput import HOURS, SHARE, Throughput
from wavlm_lightning.recipes.run.trainer import Pace

FIGURES = {
    "train/loss": ("loss", "{:.3f}"),
    "train/accuracy_masked": ("accuracy", "{:.3f}"),
    "dev/accuracy_masked": ("dev", "{:.3f}"),
    "dev_mixed/accuracy_masked": ("dev mixed", "{:.3f}"),
    HOURS: ("hours/hour", "{:.0f}"),
    SHARE: ("of matrix rate", "{:.0%}"),
}


@dataclass(frozen=True)
class Iteration:
    """What one iteration of training left."""

    checkpoint: Path
    metrics: dict[str, float]
    label_kind: str  # what was clustered: mfcc, hidden, or the name of a finished label folder
    label_report: LabelReport  # of the first label set, on dev


def train_iteration(
    settings: Settings,
    recordings: Recordings,
    folder: Path,
    *,
    label_folders: list[Path],
    processes: Processes,
    sources: Sequence[Path] = (),
) -> Iteration:
    """Train one iteration in `folder`, or finish it, or read what it left if it is finished.

    Args:
        settings: Of the iteration.
        recordings: What it trains on.
        folder: Where it writes.
        label_folders: Of each label set.
        processes: All of them call this.
        sources: Checkpoints that labels or first weights come from.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """
    splits = {s: split_of(recordings.manifests[s], s, label_folders) for s in ("train", "dev")}
    # Labels of two codebooks would give a dev accuracy of chance, and no error.
    for train, dev in zip(splits["train"].labels, splits["dev"].labels, strict=True):
        check_same_quantizer(train, dev)
    report = report_labels(splits["dev"].labels[0], recordings.manifests["dev"])
    if processes.first:
        print(f"labels of dev: {report.line()}", flush=True)
    metrics = once(
        folder,
        processes,
        lambda: _fit(
            settings, recordings, folder, splits=splits, processes=processes, sources=sources
        ),
    )
    kind = label_folders[0].name if settings.labels.folders else settings.labels.features
    return Iteration(folder / CHECKPOINTS / LAST, metrics, kind, report)


def split_of(manifest: Manifest, name: str, folders: list[Path]) -> Split:
    """All utterances of a manifest with their labels from each folder."""
    labels = [open_labels(folder, name, manifest) for folder in folders]
    return Split(manifest=manifest, labels=labels, rows=np.arange(len(manifest)))


def _fit(
    settings: Settings,
    recordings: Recordings,
    folder: Path,
    *,
    splits: dict[str, Split],
    processes: Processes,
    sources: Sequence[Path],
) -> dict[str, float]:
    """Train, and validate once more at the end."""
    data = build_data(settings, recordings, splits, world=processes.world)
    module = build_module(settings, splits["train"].labels)

    def begin() -> None:
        if settings.source is not None:
            note = start_from(module, settings.source)
            if processes.first:
                print(note, flush=True)

    def finish(trainer: lightning.Trainer) -> dict[str, float]:
        trainer.validate(module, datamodule=data, verbose=False)
        figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("dev")}
        return {
            **figures,
            "audio_hours": module.audio_seconds / 3600,
            "cropped_share": data.plan.cropped_share,
        }

    optim, run = settings.optim, settings.run
    training = Training(
        module=module,
        data=data,
        pace=Pace(
            optim.total_updates,
            settings.data.batches_per_update(processes.world),
            run.validate_updates,
            run.checkpoint_updates,
        ),
        trainer=with_precision(settings.trainer),
        throughput=Throughput(partial(_operations, settings.model)),
        figures=FIGURES,
        keep=[
            KeepBest(folder / CHECKPOINTS / BEST, monitor="dev_mixed/loss", mode="min"),
            ShowMixes(folder),
        ],
        sources=list(sources),
        begin=begin,
        about=lambda trainer, resumed: [_about(settings, module, data, trainer, resumed=resumed)],
    )
    try:
        return fit(training, settings, folder, processes, finish=finish)
    finally:
        if processes.first:
            plot_curves(folder)


def build_module(
    settings: Settings, labels: Sequence[Labels], module_class: type[Pretrainer] = Pretrainer
) -> Pretrainer:
    """The model that predicts these labels, with its first weights."""
    module = module_class(
        settings.model,
        settings.objective,
        settings.optim,
        num_clusters=tuple(own.num_clusters for own in labels),
        seed=settings.seed,
        codebooks=tuple(own.quantizer_sha256 for own in labels),
    )
    module.model.recompute_blocks(settings.recompute)
    if settings.compile:
        module.model.compile_regions()
    return module


def build_data(
    settings: Settings, recordings: Recordings, splits: dict[str, Split], *, world: int = 1
) -> PretrainData:
    """Loaders of both splits, with what is mixed into them."""
    mixers = {
        split: Mixer(
            config=settings.mixing,
            normalize=settings.model.normalize_waveform,
            noise=_noise(recordings, split),
        )
        for split in ("train", "dev")
    }
    return PretrainData(
        splits["train"],
        splits["dev"],
        settings.data,
        mask=settings.mask,
        mixers=mixers,
        normalize=settings.model.normalize_waveform,
        seed=settings.seed,
        world=world,
    )


def _operations(model: WavLMConfig, num_samples: int) -> float:
    """Operations of a training step, without what is computed twice to save memory."""
    return (1 + BACKWARD) * forward_operations(model, num_samples)


def _noise(recordings: Recordings, split: str) -> NoiseClips | None:
    manifest = recordings.manifests.get(f"noise_{split}")
    return None if manifest is None else NoiseClips(manifest)


def _about(
    settings: Settings, module: Pretrainer, data: PretrainData, trainer: Any, *, resumed: bool
) -> str:
    """One line on what is about to be trained."""
    parameters = sum(p.numel() for p in module.parameters()) / 1e6
    seconds = data.plan.seconds_per_batch * data.plan.batches_per_update
    wanted = settings.data.audio_seconds_per_update
    note = (
        ""
        if seconds <= wanted * 1.01
        else (
            f"\nnote: data.audio_seconds_per_update={wanted:g} becomes {seconds:g}, batches of "
            f"{trainer.world_size} processes; lower data.seconds_per_batch to keep it"
        )
    )
    if data.plan.left_out:
        note += f"\nnote: {data.plan.left_out} batches, others each epoch, fill no update"
    return (
        f"{'resuming' if resumed else 'training'} {settings.model.size}: {parameters:.1f} million "
        f"parameters, {settings.optim.total_updates} updates of at most {seconds:.0f} s, "
        f"{data.plan.updates} an epoch, no padding, {data.plan.cropped_share:.1%} cut off to "
        f"equal lengths, {trainer.world_size} process(es) on "
        f"{device_words(trainer)}{note}"
    )
