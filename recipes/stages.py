# SPDX-License-Identifier: Apache-2.0
"""The parts of a pre-training: recordings to manifests, labels, one iteration of training."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback

from recipes.callbacks import KeepBest, SaveAndStop, counter, progress
from recipes.checkpoints import BEST, CHECKPOINTS, LAST, to_resume
from recipes.common import Pace, build_trainer, with_precision
from recipes.loggers import build_loggers, finishing
from recipes.plots import plot_curves
from recipes.processes import Processes
from recipes.recordings import Recordings
from recipes.settings import LabelSection, Settings
from recipes.starting import start_from
from recipes.teachers import load_teacher
from recipes.throughput import HOURS, SHARE, Throughput
from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.operations import BACKWARD, forward_operations
from wavlm_lightning.pretrain.data import PretrainData, Split
from wavlm_lightning.pretrain.kmeans import Quantizer, fit_kmeans
from wavlm_lightning.pretrain.label_features import Hidden, LabelFeatures, Mfcc
from wavlm_lightning.pretrain.label_report import LabelReport, report_labels
from wavlm_lightning.pretrain.labels import (
    QUANTIZER,
    check_same_quantizer,
    has_labels,
    merge_labels,
    open_labels,
    sample_frames,
    write_labels,
)
from wavlm_lightning.pretrain.manifest import (
    Manifest,
)
from wavlm_lightning.pretrain.mixing import Mixer, NoiseClips
from wavlm_lightning.pretrain.pretrainer import Pretrainer
from wavlm_lightning.pretrain.sklearn_codebook import read_sklearn_centroids

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


def make_labels(
    section: LabelSection,
    manifests: dict[str, Manifest],
    folder: Path,
    *,
    teacher: Path | None,
    seed: int,
    processes: Processes,
    codebook: Path | None = None,
) -> Path:
    """Label folder: a codebook, unless it is there, then the codes of all frames of both splits.

    Args:
        section: How labels are made.
        manifests: Of both splits.
        folder: Of the labels.
        teacher: Whose hidden layer is clustered.
        seed: Of the codebook.
        processes: Who shares the work.
        codebook: A codebook to take: ours, or scikit-learn's as fairseq's recipe leaves it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    features = _features(section, teacher)
    about: dict[str, Any] = {"kind": section.features, "rate": features.rate}
    if isinstance(features, Hidden):
        about |= {"layer": section.layer, "teacher_sha256": features.sha256}
    if processes.first and codebook is not None and not (folder / QUANTIZER).exists():
        _take_codebook(codebook, folder / QUANTIZER, features=features, about=about)
    if processes.first and not (folder / QUANTIZER).exists():
        frames = sample_frames(
            manifests["train"],
            features,
            share=section.fit_share,
            max_frames=section.max_fit_frames,
            seed=seed,
        )
        print(
            f"labels: {section.num_clusters} clusters of {len(frames)} frames x {features.dim} "
            f"({section.features}, preset {section.preset})",
            flush=True,
        )
        centroids = fit_kmeans(frames, section.num_clusters, preset=section.preset, seed=seed)
        Quantizer(centroids, about).save(folder / QUANTIZER)
    processes.barrier()
    quantizer = Quantizer.load(folder / QUANTIZER)
    _same_labels(folder, quantizer, section=section, about=about)
    for split in ("train", "dev"):
        if not has_labels(folder, split):
            write_labels(
                folder,
                split,
                manifests[split],
                features=features,
                quantizer=quantizer,
                rank=processes.rank,
                world=processes.world,
                progress=counter(f"labelling {split}") if processes.first else None,
            )
        processes.barrier()
        if processes.first and not has_labels(folder, split):
            merge_labels(folder, split, manifests[split], quantizer)
        processes.barrier()
    return folder


def _take_codebook(
    source: Path, target: Path, *, features: LabelFeatures, about: dict[str, Any]
) -> None:
    """Put a codebook where that of a label folder lies; scikit-learn's does not say of what it is.

    Raises:
        ValueError: naming the file, if it is none, or of frames of another width.
    """
    if source.suffix == target.suffix:
        Quantizer.load(source).save(target)
        return
    centroids = read_sklearn_centroids(source)
    if centroids.shape[1] != features.dim:
        raise ValueError(
            f"{source} has centroids of width {centroids.shape[1]}, the features have "
            f"{features.dim}: is it of this teacher and layer?"
        )
    Quantizer(centroids, about).save(target)


def _same_labels(
    folder: Path, quantizer: Quantizer, *, section: LabelSection, about: dict[str, Any]
) -> None:
    """Refuse to go on in a folder whose codebook was made with other settings."""
    wanted = {**about, "num_clusters": section.num_clusters}
    found = {**quantizer.features, "num_clusters": len(quantizer.centroids)}
    if found != wanted:
        raise ValueError(
            f"{folder / QUANTIZER} was made with {found}, the settings say {wanted}: write to "
            "another folder, or remove this one"
        )


def _features(section: LabelSection, teacher: Path | None) -> LabelFeatures:
    if section.features == "mfcc":
        return Mfcc()
    if teacher is None:
        raise ValueError(
            "labels.features=hidden wants a teacher: say labels.teacher=CHECKPOINT, or give the "
            "iterations before in teachers"
        )
    return Hidden(load_teacher(teacher), section.layer)


def train_iteration(
    settings: Settings,
    recordings: Recordings,
    folder: Path,
    *,
    label_folders: list[Path],
    processes: Processes,
) -> Iteration:
    """Train one iteration in `folder`, or finish it, or read what it left if it is finished.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """
    splits = {s: _split(recordings.manifests[s], s, label_folders) for s in ("train", "dev")}
    for train, dev in zip(splits["train"].labels, splits["dev"].labels, strict=True):
        check_same_quantizer(train, dev)
    report = report_labels(splits["dev"].labels[0], recordings.manifests["dev"])
    if processes.first:
        print(f"labels of dev: {report.line()}", flush=True)
    checkpoint, done = folder / CHECKPOINTS / LAST, folder / "metrics.json"
    if not done.exists():
        try:
            metrics = _fit(settings, recordings, folder, splits=splits, processes=processes)
        finally:
            if processes.first:
                plot_curves(folder)
        if processes.first:
            write_text(done, json.dumps(metrics, indent=2) + "\n")
        processes.barrier()
    kind = label_folders[0].name if settings.labels.folders else settings.labels.features
    return Iteration(checkpoint, read_json(done), kind, report)


def _split(manifest: Manifest, name: str, folders: list[Path]) -> Split:
    labels = [open_labels(folder, name, manifest) for folder in folders]
    return Split(manifest=manifest, labels=labels, rows=np.arange(len(manifest)))


def _fit(
    settings: Settings,
    recordings: Recordings,
    folder: Path,
    *,
    splits: dict[str, Split],
    processes: Processes,
) -> dict[str, float]:
    """Train from the latest checkpoint of the folder, then validate once more at the end."""
    data = build_data(settings, recordings, splits, world=processes.world)
    module = Pretrainer(
        settings.model,
        settings.objective,
        settings.optim,
        num_clusters=tuple(labels.num_clusters for labels in splits["train"].labels),
        seed=settings.seed,
        codebooks=tuple(labels.quantizer_sha256 for labels in splits["train"].labels),
    )
    module.model.encoder.recompute = settings.recompute
    if settings.compile:
        module.model.compile_regions()
    trainer = _trainer(settings, folder, processes)
    resume = to_resume(folder, processes)
    if settings.source is not None and resume is None:
        note = start_from(module, settings.source)
        if processes.first:
            print(note, flush=True)
    if processes.first:
        print(_about(settings, module, data, trainer, resumed=resume is not None), flush=True)
    with finishing(trainer.loggers):
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=None if resume is None else str(resume),
            weights_only=True,
        )
        trainer.validate(module, datamodule=data, verbose=False)
    figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("dev")}
    return {
        **figures,
        "audio_hours": module.audio_seconds / 3600,
        "cropped_share": data.plan.cropped_share,
    }


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


def _trainer(settings: Settings, folder: Path, processes: Processes) -> lightning.Trainer:
    """A Trainer for one iteration."""
    optim, run = settings.optim, settings.run
    loggers = build_loggers(
        folder,
        root=run.dir,
        wandb=settings.wandb,
        tensorboard=settings.tensorboard,
        values=settings.values,
    )
    return build_trainer(
        with_precision(settings.trainer),
        folder,
        processes,
        pace=Pace(
            optim.total_updates,
            settings.data.batches_per_update(processes.world),
            run.validate_updates,
        ),
        loggers=loggers,
        callbacks=build_callbacks(settings, folder),
    )


def build_callbacks(settings: Settings, folder: Path) -> list[Callback]:
    """Progress; checkpoints: the best on mixed dev speech, and the latest."""
    run, checkpoints = settings.run, folder / CHECKPOINTS
    return [
        Throughput(partial(_operations, settings.model)),
        progress(settings.optim.total_updates, FIGURES),
        KeepBest(checkpoints / BEST, monitor="dev_mixed/loss", mode="min"),
        SaveAndStop(
            checkpoints / LAST,
            every_updates=run.checkpoint_updates,
        ),
    ]


def _operations(model: WavLMConfig, num_samples: int) -> float:
    """Of a training step, without what is computed twice to save memory."""
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
        f"{trainer.strategy.root_device.type}, {trainer.precision}{note}"
    )
