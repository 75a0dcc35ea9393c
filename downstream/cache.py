# SPDX-License-Identifier: Apache-2.0
"""Features of a frozen upstream, computed once and kept on disk.

One file an utterance, all layers in 16 bit, written under another name and then moved, so that a
killed run leaves no half of one. Values are rounded to 16 bit when they are first computed too: a
run that computes and one that reads see the same.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from downstream.features import Features

BYTES = 2  # of a value
LOCK = ".lock"
ROOM = 1.05  # of what is wanted: frames at the edges, headers


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What may be kept.

    Args:
        gb: most gigabytes on disk, of all upstreams; 0 computes features anew each time.
        dir: where they are kept.
    """

    gb: float = 4.0
    dir: str = ".cache/features"


class FeatureCache:
    """Features by utterance, of one upstream.

    Args:
        folder: of this upstream alone.
    """

    def __init__(self, folder: Path):
        self.folder = folder
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
        compute: Callable[[Tensor, Tensor], Features],
    ) -> Features:
        """Features of a batch; rows that are not kept yet are computed and kept.

        Each is computed alone: batch mates change the order of sums, and so the last bits.

        Args:
            keys: one a row, the same for the same samples.
            waveforms: (B, T).
            lengths: (B,) samples.
            compute: the upstream.
        """
        paths = [self._path(key) for key in keys]
        for row, path in enumerate(paths):
            if not path.is_file():
                own = lengths[row : row + 1]
                features = compute(waveforms[row : row + 1, : int(own)], own)
                layers = torch.cat(features.layers)  # (L, F, D)
                _write(path, layers.float().cpu().numpy())
        rows = [torch.from_numpy(np.load(path)).to(waveforms.device) for path in paths]
        counts = torch.tensor([row.shape[1] for row in rows], device=lengths.device)
        padded = pad_sequence([row.transpose(0, 1) for row in rows], batch_first=True)
        return Features(tuple(padded.unbind(2)), counts)  # of (B, F, L, D)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name[2:32]}.npy"


def open_cache(
    config: CacheConfig, fingerprint: str, *, num_samples: int, stride: int, width: int
) -> FeatureCache | None:
    """The cache of an upstream; None if a task's features do not fit the budget.

    Upstreams that were used longest ago make room, unless another process uses them.

    Args:
        config: the budget.
        fingerprint: of the upstream: weights, settings, precision.
        num_samples: of all utterances that are to be kept.
        stride: samples a frame.
        width: values a frame, over all layers.
    """
    wanted = num_samples / stride * width * BYTES * ROOM
    if wanted > config.gb * 1e9:
        return None
    root = Path(config.dir)
    folder = root / hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    cache = FeatureCache(folder)
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


def _write(path: Path, layers: np.ndarray) -> None:
    """(L, F, D) in float16, or as it is where a value is too large for that."""
    path.parent.mkdir(exist_ok=True)
    half = layers.astype(np.float16)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.save(file, half if np.isfinite(half).all() else layers)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*.npy"))


def _unused(folder: Path) -> bool:
    with (folder / LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _age(folder: Path) -> float:
    return folder.stat().st_mtime
