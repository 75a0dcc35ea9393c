# SPDX-License-Identifier: Apache-2.0
"""Features of a frozen upstream, computed once and kept on disk.

One file an utterance, all layers, written under another name and then moved, so that a killed run
leaves no half of one; mapped into memory when it is read. Values are rounded to what is kept when
they are first computed too: a run that computes and one that reads see the same.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.fields import Checked, number
from wavlm_lightning.files import remove_parts, replacing, write_text
from wavlm_lightning.hashing import content_sha256
from wavlm_lightning.locks import take

Compute = Callable[[Tensor, Tensor], Features]  # waveforms (B, T), lengths (B,)
Load = Callable[[str], Tensor]  # key -> samples (T,)
BYTES = {torch.float16: 2, torch.float32: 4}  # of a value
LOCK = ".lock"
MARKER = ".wavlm_features"  # in folders that were made here, and may be removed here
ROOM = 1.05  # of what is wanted: frames at the edges, headers


@dataclass(frozen=True, kw_only=True)
class CacheConfig(Checked):
    """What may be kept.

    Args:
        gb: most gigabytes on disk, of all upstreams; 0 computes features anew each time.
        keep: always, or auto: a training whose features are cheaper to compute at each use, as
            measured at its start, does that.
        dir: where they are kept.
        pooled: for tasks whose head knows frames by their mean over time alone, keep that mean.
    """

    gb: float = number(0, 10**9, default=4.0)
    keep: Literal["auto", "always"] = "auto"
    dir: str = ".cache/features"
    pooled: bool = True


@dataclass(frozen=True)
class KeptFiles:
    """Where the features of an upstream lie; loading processes ask what is there."""

    folder: Path

    def path(self, key: str) -> Path:
        """The file of an utterance, there or not."""
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:32]}.safetensors"

    def num_samples(self, key: str) -> int | None:
        """Samples that the features were computed from; None if they are not kept, or damaged."""
        try:
            with safe_open(self.path(key), "pt") as file:
                return int(file.metadata()["samples"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None


class FeatureCache:
    """Features by utterance, of one upstream.

    A file that cannot be read, or does not have its hash, is computed again and counted.

    Args:
        folder: Of this upstream alone.
        dtype: Of the values; those of an utterance with any too large for float16 are float32.
        load: Gives the samples (T,) of a key whose features turn out to be damaged.
    """

    def __init__(
        self, folder: Path, *, dtype: torch.dtype = torch.float16, load: Load | None = None
    ):
        self.files, self.dtype, self.load = KeptFiles(folder), dtype, load
        self.damaged = 0  # files that were computed again
        self._checked: set[Path] = set()  # files whose hash was right
        self._lock = take(folder / LOCK, shared=True, wait=True)  # held while features are in use

    def close(self) -> None:
        """Let others make room of it."""
        if self._lock is not None:
            self._lock.close()

    def __call__(
        self,
        keys: Sequence[str | None],
        waveforms: Tensor,
        lengths: Tensor,
        compute: Compute,
        *,
        read: Sequence[bool] | None = None,
    ) -> Features:
        """Features of a batch; rows that are not kept yet are computed and kept.

        Each is computed alone: batch mates change the order of sums, and so the last bits. Rows
        without a key are computed together at each use.

        Args:
            keys: one a row, the same for the same samples; None for samples that were drawn.
            waveforms: (B, T).
            lengths: (B,) samples.
            compute: the upstream.
            read: whether a row's samples are in `waveforms`; None: all are.
        """
        # Rows that were drawn cannot be kept: their samples never come again.
        drawn = [row for row, key in enumerate(keys) if key is None]
        if len(drawn) == len(keys):
            return compute(waveforms, lengths)
        found = _computed(drawn, waveforms, lengths, compute)
        for row, key in enumerate(keys):
            if key is None:
                continue
            layers = self._kept(self.files.path(key))
            if layers is None and (read is None or read[row]):
                layers = self._compute(key, waveforms[row, : int(lengths[row])], compute)
            elif layers is None:  # it was there when the batch was made
                layers = self._compute(key, self._loaded(key).to(waveforms.device), compute)
            found[row] = layers
        rows = [found[row] for row in range(len(keys))]
        counts = torch.tensor([row.shape[1] for row in rows])
        padded = _padded(rows, waveforms.device)
        together = padded if padded.dtype == torch.float32 else None
        return Features(padded.unbind(0), counts, together)

    def _kept(self, path: Path) -> Tensor | None:
        """Layers (L, F, D) of a file; None if there is none, or none that can be used."""
        try:
            with safe_open(path, "pt") as file:
                layers: Tensor = file.get_tensor("layers")
                wanted = file.metadata()["sha256"]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, TypeError):
            self.damaged += 1
            return None
        # Hashing costs as much as reading: once a run is enough, as nobody writes here but us.
        if path not in self._checked:
            if content_sha256(layers) != wanted:
                self.damaged += 1
                return None
            self._checked.add(path)
        return layers

    def _loaded(self, key: str) -> Tensor:
        if self.load is None:
            raise OSError(f"{self.files.path(key)} is damaged: remove it, and it is made again")
        return self.load(key)

    def _compute(self, key: str, waveform: Tensor, compute: Compute) -> Tensor:
        """Layers (L, F, D) of samples (T,), as they are kept from now on.

        Raises:
            ValueError: for features that are not finite, which are not kept.
        """
        length = torch.tensor([len(waveform)])
        layers = torch.cat(compute(waveform[None], length).layers).float().cpu()
        if not bool(torch.isfinite(layers).all()):
            raise ValueError(
                f"the upstream gives NaN or infinite features for {_recording(key)}: look at the "
                "recording and the upstream's weights, or say upstream.precision=float32"
            )
        # Some layers of Large have values beyond float16: such an utterance is kept in float32.
        rounded = layers.to(self.dtype)
        kept = rounded if bool(torch.isfinite(rounded).all()) else layers
        path = self.files.path(key)
        path.parent.mkdir(exist_ok=True)
        about = {"samples": str(len(waveform)), "sha256": content_sha256(kept)}
        try:
            # Not waited for: what a power cut leaves is found by its hash.
            with replacing(path, sync=False) as temporary:
                save_file({"layers": kept.contiguous()}, temporary, about)
        except SafetensorError as error:
            raise OSError(f"{path}: cannot keep features: {error}") from error
        self._checked.add(path)
        return kept


def _computed(
    rows: list[int], waveforms: Tensor, lengths: Tensor, compute: Compute
) -> dict[int, Tensor]:
    """Layers (L, F, D) of each of these rows, float32, computed together."""
    if not rows:
        return {}
    features = compute(waveforms[rows, : int(lengths[rows].max())], lengths[rows])
    layers = torch.stack([layer.float() for layer in features.layers])
    counts = features.lengths.tolist()
    return {row: layers[:, i, : counts[i]] for i, row in enumerate(rows)}


def _recording(key: str) -> str:
    """The path that a key begins with, before sizes and times."""
    match = re.match(r"(.*?) \d+ \d+ \d+ \d+", key)
    return match[1] if match else key


def _padded(rows: list[Tensor], device: torch.device) -> Tensor:
    """Rows of (L, F_i, D) side by side: (L, B, F, D), zero on padding, each layer contiguous.

    On the processor in float32: its arithmetic on 16 bit is far slower than one conversion.
    """
    num_layers, _, dim = rows[0].shape
    longest = max(row.shape[1] for row in rows)
    large = any(row.dtype == torch.float32 for row in rows)
    dtype = torch.float32 if large or device.type == "cpu" else torch.float16
    padded = torch.empty(num_layers, len(rows), longest, dim, dtype=dtype, device=device)
    for place, row in enumerate(rows):
        padded[:, place, : row.shape[1]] = row.to(device)
        padded[:, place, row.shape[1] :] = 0
    return padded


def open_cache(
    config: CacheConfig,
    fingerprint: str,
    *,
    num_values: float,
    dtype: torch.dtype = torch.float16,
    load: Load | None = None,
    tell: Callable[[str], None] = print,
) -> FeatureCache | None:
    """The cache of an upstream; None if a task's features do not fit the budget.

    Upstreams that were used longest ago make room, unless another process uses them. Only folders
    that were made here are looked at: `cache.dir` may hold anything else.

    Args:
        config: the budget.
        fingerprint: of the upstream: weights, settings, precision.
        num_values: of all utterances that are to be kept: frames x layers x width.
        dtype: of a value.
        load: gives the samples (T,) of a key whose features turn out to be damaged.
        tell: is told what is removed.
    """
    wanted = num_values * BYTES[dtype] * ROOM
    if wanted > config.gb * 1e9:
        return None
    root = Path(config.dir)
    folder = root / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    # Parts of files that a killed run left may go, but only if no other run is writing them.
    if (lock := take(folder / LOCK)) is not None:  # nobody is writing here
        remove_parts(folder)
        lock.close()
    cache = FeatureCache(folder, dtype=dtype, load=load)
    write_text(folder / MARKER, fingerprint + "\n", sync=False)
    # The age of a folder is the time of its last use, not of its making.
    os.utime(folder)
    _make_room(root, folder, room=config.gb * 1e9 - max(wanted, _size(folder)), tell=tell)
    if shutil.disk_usage(folder).free < wanted:
        return None
    return cache


def _make_room(root: Path, folder: Path, *, room: float, tell: Callable[[str], None]) -> None:
    """Remove what other upstreams have here, the oldest first, until it fits the room."""
    others = sorted((p.parent for p in root.glob(f"*/{MARKER}") if p.parent != folder), key=_age)
    sizes = {other: _size(other) for other in others}
    for other in others:
        if sum(sizes.values()) <= room:
            return
        if (lock := take(other / LOCK)) is not None:
            shutil.rmtree(other, ignore_errors=True)
            lock.close()
            size = sizes.pop(other) / 1e9
            tell(f"cache.gb: removed {other}, {size:.2f} GB of features of another upstream")


def _size(folder: Path) -> int:
    """Bytes; files that another process moves or removes meanwhile do not count."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(Path(where, name)).st_size
    return total


def _age(folder: Path) -> float:
    return folder.stat().st_mtime
