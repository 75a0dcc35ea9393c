# SPDX-License-Identifier: Apache-2.0
"""Frame labels on disk: written in one pass over the audio, read back memory-mapped.

A label folder holds, for each split, `<split>.labels.npy` (uint16, all utterances in one row) and
`<split>.offsets.npy` (int64, N + 1 positions), the codebook as `quantizer.safetensors`, and
`labels.json`: rate, number of codes, hash of the codebook, and a fingerprint of each manifest.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.files import read_json, replacing, write_text
from wavlm_lightning.lengths import HOP, SAMPLE_RATE, similar_lengths
from wavlm_lightning.pretrain.kmeans import Quantizer
from wavlm_lightning.pretrain.label_features import BATCH_SAMPLES, RATIO, LabelFeatures
from wavlm_lightning.pretrain.manifest import Manifest
from wavlm_lightning.seeding import generator
from wavlm_lightning.shipped import command

ABOUT, QUANTIZER = "labels.json", "quantizer.safetensors"
SHARD_UTTERANCES = 200  # what a killed run loses at most
MAX_DIFFERENCE_SECONDS = 0.1  # between audio and labels; fairseq 3d262bb, hubert_dataset.py
NO_LABEL = -1
DESCRIBED = {"rate": int, "num_clusters": int, "quantizer_sha256": str, "manifest": str}
Progress = Callable[[int, int], None]


def sample_frames(
    manifest: Manifest, features: LabelFeatures, *, share: float, max_frames: int, seed: int
) -> Tensor:
    """Features (N, D) of randomly drawn utterances, to fit a codebook on.

    Args:
        manifest: utterances to draw from.
        features: what to compute of each.
        share: of the utterances that is drawn at most.
        max_frames: drawing ends here; bounds the memory.
        seed: of the draw.
    """
    order = generator(seed, "codebook").permutation(len(manifest))
    wanted = order[: max(1, round(share * len(manifest)))]
    expected = manifest.num_samples[wanted] * features.rate / SAMPLE_RATE  # frames, or a few more
    found: list[Tensor] = []
    left, start = max_frames, 0
    while left > 0 and start < len(wanted):
        # As many as are likely to be enough: what is computed beyond that is thrown away.
        stop = start + 1 + int(np.searchsorted(np.cumsum(expected[start:]), left))
        own: dict[int, Tensor] = {}
        for rows, frames in _features(manifest, wanted[start:stop], features):
            own |= {row: x.cpu() for row, x in zip(rows, frames, strict=True)}
        found += [own[row] for row in sorted(own)]
        left -= sum(map(len, own.values()))
        start = stop
    return torch.cat(found)[:max_frames]


def _features(
    manifest: Manifest, indices: NDArray[np.int64], features: LabelFeatures
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Places in `indices`, and the frames of these utterances; of about one length together.

    One thread reads ahead while the caller computes: at most two batches are in memory.
    """
    sizes = manifest.num_samples[indices].tolist()
    batches = similar_lengths(sizes, ratio=RATIO, most=BATCH_SAMPLES)

    def read(rows: list[int]) -> list[Tensor]:
        return [manifest.read(int(indices[row])) for row in rows]

    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(read, batches[0])
        for number, rows in enumerate(batches):
            waveforms = ahead.result()
            if number + 1 < len(batches):
                ahead = pool.submit(read, batches[number + 1])
            yield rows, features(waveforms)


def write_labels(
    folder: Path,
    split: str,
    manifest: Manifest,
    *,
    features: LabelFeatures,
    quantizer: Quantizer,
    rank: int = 0,
    world: int = 1,
    progress: Progress | None = None,
) -> None:
    """Label this process's shards; features are quantized at once and never stored.

    Work is cut into shards; finished ones are skipped, so that a killed run goes on where it was,
    and `world` processes share the work without talking to each other. When all are done, one of
    them calls `merge_labels`.
    """
    parts = _parts(folder, split, manifest, quantizer)
    parts.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, len(manifest), SHARD_UTTERANCES)):
        path = _shard(parts, shard)
        stop = min(start + SHARD_UTTERANCES, len(manifest))
        if shard % world == rank and not path.exists():
            codes: dict[int, NDArray[np.uint16]] = {}
            for rows, frames in _features(manifest, np.arange(start, stop), features):
                for row, x in zip(rows, frames, strict=True):
                    codes[row] = quantizer(x).cpu().numpy().astype(np.uint16)
                if progress:
                    progress(start + len(codes), len(manifest))
            _save_shard(path, [codes[row] for row in range(stop - start)])


def merge_labels(folder: Path, split: str, manifest: Manifest, quantizer: Quantizer) -> None:
    """Join the shards of a split; `labels.json` names the split when everything else is there.

    Raises:
        FileNotFoundError: naming a shard that no process has written yet.
    """
    parts = _parts(folder, split, manifest, quantizer)
    count = -(-len(manifest) // SHARD_UTTERANCES)
    _merge(folder, split, [_shard(parts, shard) for shard in range(count)])
    _describe(folder, split, manifest, quantizer)
    shutil.rmtree(parts)


def has_labels(folder: Path, split: str) -> bool:
    """True if the split is labelled and complete."""
    path = folder / ABOUT
    return path.is_file() and split in _splits(path)


def _parts(folder: Path, split: str, manifest: Manifest, quantizer: Quantizer) -> Path:
    return folder / f".{split}.{quantizer.sha256[:12]}.{manifest.fingerprint()[:12]}"


def _shard(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npz"


def _save_shard(path: Path, codes: list[NDArray[np.uint16]]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, labels=np.concatenate(codes), counts=np.array([len(c) for c in codes]))


def _merge(folder: Path, split: str, files: list[Path]) -> None:
    labels, counts = [], []
    for path in files:
        with np.load(path, allow_pickle=False) as shard:
            labels.append(shard["labels"])
            counts.append(shard["counts"])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    for name, array in (("labels", np.concatenate(labels)), ("offsets", offsets)):
        with (
            replacing(folder / f"{split}.{name}.npy") as temporary,
            temporary.open("wb") as file,
        ):
            np.save(file, array, allow_pickle=False)


def _describe(folder: Path, split: str, manifest: Manifest, quantizer: Quantizer) -> None:
    quantizer.save(folder / QUANTIZER)
    path = folder / ABOUT
    splits = _splits(path) if path.exists() else {}
    splits[split] = {
        "quantizer_sha256": quantizer.sha256,
        "manifest": manifest.fingerprint(),
        "utterances": len(manifest),
        "num_clusters": len(quantizer.centroids),
        **quantizer.features,
    }
    write_text(path, json.dumps({"splits": splits}, indent=2) + "\n")


@dataclass(frozen=True)
class Labels:
    """The labels of one split.

    Attributes:
        name: folder and split, for messages.
        codes: all labels, memory-mapped.
        offsets: (N + 1,) int64.
        rate: labels a second.
        num_clusters: codes are below this.
        quantizer_sha256: hash of the codebook.
    """

    name: str
    codes: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    rate: int
    num_clusters: int
    quantizer_sha256: str

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def utterance(self, index: int) -> NDArray[np.uint16]:
        """All labels of one utterance."""
        return self.codes[self.offsets[index] : self.offsets[index + 1]]

    def crop(self, index: int, start: int, num_frames: int) -> NDArray[np.int64]:
        """Labels (F,) of the frames of a crop that starts at sample `start`; -1 where none is left.

        Frame i takes label round(start * rate / 16000) + floor(i * ratio): fairseq 3d262bb,
        data/audio/hubert_dataset.py and models/hubert/hubert.py.
        """
        codes = self.utterance(index)
        first = round(start * self.rate / SAMPLE_RATE)
        wanted = first + np.arange(num_frames) * (self.rate * HOP) // SAMPLE_RATE
        out = np.full(num_frames, NO_LABEL, np.int64)
        there = wanted < len(codes)
        out[there] = codes[wanted[there]]
        return out


def open_labels(folder: Path, split: str, manifest: Manifest) -> Labels:
    """Memory-map the labels of a split and check that they belong to the manifest.

    Raises:
        FileNotFoundError: if the folder or a file of it is missing.
        ValueError: if the labels are of other audio, another length or not of one codebook.
    """
    about = _about(folder / ABOUT, split)
    labels = Labels(
        f"{folder}/{split}",
        _array(folder / f"{split}.labels.npy"),
        _array(folder / f"{split}.offsets.npy"),
        about["rate"],
        about["num_clusters"],
        about["quantizer_sha256"],
    )
    _check(labels, manifest, about["manifest"])
    return labels


def _about(path: Path, split: str) -> dict[str, Any]:
    """What `labels.json` says of a split."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no labels in {path.parent}: {command()} labels writes labels.json there"
        )
    about = _splits(path).get(split)
    if about is None:
        raise FileNotFoundError(f"{path} has no split {split}: run {command()} labels for it")
    for key, kind in DESCRIBED.items():
        if not isinstance(about, dict) or not isinstance(about.get(key), kind):
            raise ValueError(
                f"{path}: {key} of {split} is missing or wrong: run {command()} labels again"
            )
    return about


def _splits(path: Path) -> dict[str, Any]:
    """What `labels.json` describes, by split; nothing if it is of another form."""
    content = read_json(path)
    splits = content.get("splits") if isinstance(content, dict) else None
    return splits if isinstance(splits, dict) else {}


def _array(path: Path) -> NDArray[Any]:
    """A file of one row of whole numbers, mapped into memory."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run {command()} labels again")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): run {command()} labels again") from error
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{path} holds no row of whole numbers: run {command()} labels again")
    return array


def _check(labels: Labels, manifest: Manifest, fingerprint: str) -> None:
    if len(labels) != len(manifest):
        raise ValueError(
            f"{labels.name} labels {len(labels)} utterances, the manifest lists {len(manifest)}: "
            f"run {command()} labels for this manifest"
        )
    counts = np.diff(labels.offsets)
    difference = np.abs(counts / labels.rate - manifest.num_samples / SAMPLE_RATE)
    if (worst := int(difference.argmax())) >= 0 and difference[worst] > MAX_DIFFERENCE_SECONDS:
        raise ValueError(
            f"{labels.name}: {manifest[worst].name} has {counts[worst]} labels "
            f"({counts[worst] / labels.rate:.2f} s at {labels.rate} a second) and "
            f"{manifest.num_samples[worst] / SAMPLE_RATE:.2f} s of audio: run "
            f"{command()} labels again"
        )
    if labels.offsets[0] != 0 or labels.offsets[-1] != len(labels.codes) or (counts < 0).any():
        raise ValueError(
            f"{labels.name}: labels and offsets do not fit each other: run {command()} labels again"
        )
    if fingerprint != manifest.fingerprint():
        raise ValueError(
            f"{labels.name} was made for another list of files than {manifest.root}: run make "
            "labels for this manifest"
        )
    # Of very many labels every n-th is looked at: reading them all takes longer than it tells.
    highest = int(labels.codes[:: max(1, len(labels.codes) // 10_000_000)].max(initial=0))
    if labels.num_clusters < 2 or highest == 0:
        raise ValueError(
            f"{labels.name}: empty codebook, every frame has code 0 of {labels.num_clusters}; a "
            "model would learn nothing from it. Make the labels again with more audio"
        )
    if highest >= labels.num_clusters:
        raise ValueError(
            f"{labels.name}: code {highest} where {labels.num_clusters} codes are declared: the "
            f"files belong to different codebooks, run {command()} labels again"
        )


def check_same_quantizer(train: Labels, dev: Labels) -> None:
    """Refuse to compare labels of different codebooks.

    Raises:
        ValueError: naming both.
    """
    if train.quantizer_sha256 != dev.quantizer_sha256:
        raise ValueError(
            f"{train.name} and {dev.name} come from different codebooks "
            f"({train.quantizer_sha256[:12]} and {dev.quantizer_sha256[:12]}): label both splits "
            "with one quantizer"
        )
