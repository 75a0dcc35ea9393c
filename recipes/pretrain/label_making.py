# SPDX-License-Identifier: Apache-2.0
"""Label folders: a codebook is fitted or taken, then gives every frame its code."""

from pathlib import Path
from typing import Any

from wavlm_lightning.pretrain.kmeans import Quantizer, fit_kmeans
from wavlm_lightning.pretrain.label_features import LabelFeatures, LayerFeatures, Mfcc
from wavlm_lightning.pretrain.labels import (
    QUANTIZER,
    has_labels,
    merge_labels,
    sample_frames,
    write_labels,
)
from wavlm_lightning.pretrain.manifest import Manifest
from wavlm_lightning.pretrain.sklearn_codebook import read_sklearn_centroids
from wavlm_lightning.recipes.pretrain.label_teacher import load_teacher
from wavlm_lightning.recipes.pretrain.settings import LabelSection
from wavlm_lightning.recipes.run.counter import counter
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.runtime import computes_bfloat16


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
    if isinstance(features, LayerFeatures):
        about |= {"layer": section.layer, "teacher_sha256": features.sha256}
    if processes.first and codebook is not None and not (folder / QUANTIZER).exists():
        _take_codebook(codebook, folder / QUANTIZER, features=features, about=about)
    if processes.first and not (folder / QUANTIZER).exists():
        # One process alone fits the codebook: k-means of a sample is short beside labelling all.
        frames = sample_frames(
            manifests["train"],
            features,
            share=section.fit_share,
            max_frames=section.max_fit_frames,
            seed=seed,
        )
        print(
            f"labels: {section.num_clusters} clusters of {len(frames)} frames x {features.dim} "
            f"({_named(features)}, preset {section.preset})",
            flush=True,
        )
        centroids = fit_kmeans(frames, section.num_clusters, preset=section.preset, seed=seed)
        Quantizer(centroids, about).save(folder / QUANTIZER)
    # All processes read what was written, so that none labels with another rounding.
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


def _named(features: LabelFeatures) -> str:
    """Description of the features in one line."""
    if not isinstance(features, LayerFeatures):
        return "mfcc"
    return f"hidden layer {features.layer} in {'bfloat16' if features.bfloat16 else 'float32'}"


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
            "labels.features=hidden needs a teacher: say labels.teacher=CHECKPOINT, or give the "
            "iterations before in iterations"
        )
    loaded = load_teacher(teacher)
    bfloat16 = section.precision == "bfloat16"
    if section.precision == "auto":
        bfloat16 = computes_bfloat16(loaded.device.type)
    return LayerFeatures(loaded, section.layer, bfloat16=bfloat16)
