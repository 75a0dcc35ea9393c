# SPDX-License-Identifier: Apache-2.0
"""Features of a frozen upstream, computed once and kept on disk.

One file an utterance, all layers, written under another name and then moved, so that a killed run
leaves no half of one; mapped into memory when it is read. Values are rounded to what is kept when
they are first computed too: a run that computes and one that reads see the same.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from downstream.features import Features

Compute = Callable[[Tensor, Tensor], Features]  # waveforms (B, T), lengths (B,)
BYTES = {torch.float16: 2, torch.float32: 4}  # of a value
LOCK = ".lock"
ROOM = 1.05  # of what is wanted: frames at the edges, headers


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What may be kept.

    Args:
        gb: most gigabytes on disk, of all upstreams; 0 computes features anew each time.
        dir: where they are kept.
        pooled: for tasks whose head knows frames by their mean over time alone, keep that mean.
    """

    gb: float = 4.0
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
        """Samples that the features were computed from; None if they are not kept."""
        path = self.path(key)
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            return int(file.metadata()["samples"])


class FeatureCache:
    """Features by utterance, of one upstream.

    Args:
        folder: of this upstream alone.
        dtype: of the values; those of an utterance with any too large for float16 are float32.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype = torch.float16):
        self.files, self.dtype = KeptFiles(folder), dtype
        self._lock = (folder / LOCK).open("wb")  # held while features are in use
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let others make room of it."""
        self._lock.close()

    def __call__(
        self,
        keys: Sequence[str],
        waveforms: Tensor,
        lengths: Tensor,
        compute: Compute,
    ) -> Features:
        """Features of a batch; rows that are not kept yet are computed and kept.

        Each is computed alone: batch mates change the order of sums, and so the last bits.

        Args:
            keys: one a row, the same for the same samples.
            waveforms: (B, T); not looked at where all rows are kept.
            lengths: (B,) samples.
            compute: the upstream.
        """
        paths = [self.files.path(key) for key in keys]
        for row, path in enumerate(paths):
            if not path.is_file():
                own = lengths[row : row + 1]
                features = compute(waveforms[row : row + 1, : int(own)], own)
                self._write(path, torch.cat(features.layers), int(own))
        rows = [_read(path) for path in paths]
        counts = torch.tensor([row.shape[1] for row in rows], device=lengths.device)
        padded = _padded(rows, waveforms.device)
        together = padded if padded.dtype == torch.float32 else None
        return Features(padded.unbind(0), counts, together)

    def _write(self, path: Path, layers: Tensor, num_samples: int) -> None:
        """Layers (L, F, D), all of the file or nothing."""
        path.parent.mkdir(exist_ok=True)
        layers = layers.float().cpu()
        rounded = layers.to(self.dtype)
        kept = rounded if bool(torch.isfinite(rounded).all()) else layers
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file({"layers": kept.contiguous()}, temporary, {"samples": str(num_samples)})
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise OSError(f"{path}: cannot keep features: {error}") from error


def _read(path: Path) -> Tensor:
    with safe_open(path, "pt") as file:
        layers: Tensor = file.get_tensor("layers")
    return layers


def _padded(rows: list[Tensor], device: torch.device) -> Tensor:
    """Rows of (L, F_i, D) side by side: (L, B, F, D), zero on padding, each layer contiguous.

    On the processor in float32: its arithmetic on 16 bit is far slower than one conversion.
    """
    num_layers, _, dim = rows[0].shape
    longest = max(row.shape[1] for row in rows)
    large = any(row.dtype == torch.float32 for row in rows)
    dtype = torch.float32 if large or device.type == "cpu" else torch.float16
    padded = torch.empty(num_layers, len(rows), longest, dim, dtype=dtype, device=device)
    for number, row in enumerate(rows):
        padded[:, number, : row.shape[1]] = row.to(device)
        padded[:, number, row.shape[1] :] = 0
    return padded


def open_cache(
    config: CacheConfig,
    fingerprint: str,
    *,
    num_values: float,
    dtype: torch.dtype = torch.float16,
) -> FeatureCache | None:
    """The cache of an upstream; None if a task's features do not fit the budget.

    Upstreams that were used longest ago make room, unless another process uses them.

    Args:
        config: the budget.
        fingerprint: of the upstream: weights, settings, precision.
        num_values: of all utterances that are to be kept: frames x layers x width.
        dtype: of a value.
    """
    wanted = num_values * BYTES[dtype] * ROOM
    if wanted > config.gb * 1e9:
        return None
    root = Path(config.dir)
    folder = root / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    cache = FeatureCache(folder, dtype=dtype)
    others = sorted((f for f in root.iterdir() if f.is_dir() and f != folder), key=_age)
    sizes = {f: _size(f) for f in others}
    room = config.gb * 1e9 - max(wanted, _size(folder))
    for other in others:
        if sum(sizes.values()) > room and _unused(other):
            shutil.rmtree(other, ignore_errors=True)
            sizes.pop(other)
    if shutil.disk_usage(folder).free < wanted:
        return None
    return cache


def _size(folder: Path) -> int:
    """Bytes; files that another process moves or removes meanwhile do not count."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(Path(where, name)).st_size
    return total


def _unused(folder: Path) -> bool:
    with (folder / LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _age(folder: Path) -> float:
    return folder.stat().st_mtime
