# SPDX-License-Identifier: Apache-2.0
"""The list of utterances of one split: where each lies and how long it is.

On disk it is fairseq's `<split>.tsv` (facebookresearch/fairseq 3d262bb, examples/wav2vec): the
first line is the root folder, each further one a path below it, a tab, and the number of samples at
16 kHz. Where an utterance is a part of a longer file there is a third column, its first sample at
16 kHz, which fairseq does not know.
"""

import codecs
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.audio import read_audio
from wavlm_lightning.lengths import SAMPLE_RATE


@dataclass(frozen=True)
class Entry:
    """One utterance: a file below the root, or a part of it; positions in samples at 16 kHz."""

    path: str
    num_samples: int
    start: int = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.path}@{self.start}" if self.start else self.path


class Strings(Sequence[str]):
    """Many strings in two arrays: forked workers share them, where a list would be copied."""

    def __init__(self, strings: Iterable[str]):
        encoded = [os.fsencode(s) for s in strings]  # names need not be UTF-8
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        return os.fsdecode(self._bytes[self._ends[index] : self._ends[index + 1]].tobytes())


class Manifest:
    """Utterances of one split.

    Attributes:
        root: folder that the paths start from.
        num_samples: (N,) int64, samples at 16 kHz.
        starts: (N,) int64, first sample at 16 kHz.
    """

    def __init__(self, root: Path, entries: Iterable[Entry]):
        entries = list(entries)
        self.root = Path(root)
        self._paths = Strings(e.path for e in entries)
        self.num_samples: NDArray[np.int64] = np.array([e.num_samples for e in entries], np.int64)
        self.starts: NDArray[np.int64] = np.array([e.start for e in entries], np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Entry:
        return Entry(self._paths[index], int(self.num_samples[index]), int(self.starts[index]))

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return float(self.num_samples.sum()) / SAMPLE_RATE / 3600

    def path(self, index: int) -> Path:
        """The file that holds an utterance."""
        return self.root / self._paths[index]

    def read(self, index: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Waveform (T,) of an utterance, or of its samples from `start` to `stop`."""
        entry = self[index]
        stop = entry.num_samples if stop is None else stop
        return read_audio(self.path(index), entry.start + start, entry.start + stop)

    def select(self, indices: NDArray[np.int64] | Sequence[int]) -> "Manifest":
        """The manifest of some of the utterances, in the order given."""
        return Manifest(self.root, (self[int(i)] for i in indices))

    def fingerprint(self) -> str:
        """A hash of what is listed, not of where it lies."""
        digest = hashlib.sha256()
        for i in range(len(self)):
            entry = self[i]
            digest.update(os.fsencode(f"{entry.path}\t{entry.num_samples}\t{entry.start}\n"))
        return digest.hexdigest()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` as a fairseq tsv.

    Raises:
        ValueError: naming a path that holds a tab or a line break, which the format cannot.
    """
    lines = [str(manifest.root.resolve())]
    for i in range(len(manifest)):
        entry = manifest[i]
        if "\t" in entry.path or "\n" in entry.path:
            raise ValueError(f"{manifest.root}: rename {entry.path!r}, a tsv cannot hold its name")
        line = f"{entry.path}\t{entry.num_samples}"
        lines.append(f"{line}\t{entry.start}" if manifest.starts.any() else line)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode("\n".join(lines) + "\n"))


def read_manifest(path: Path) -> Manifest:
    """Read a fairseq tsv.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the line that is not a path, a tab and a number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no manifest at {path}")
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is in UTF-16: save it as UTF-8")
    root, *lines = os.fsdecode(content).replace("\r\n", "\n").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    if "\t" in root or not root:
        raise ValueError(f"{path}: line 1 must be the root folder, it is {root!r}")
    entries = []
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        if len(fields) not in (2, 3) or not all(f.isdecimal() for f in fields[1:]):
            raise ValueError(
                f"{path}: line {number} must be a path, a tab and a number of samples, "
                f"it is {line!r}"
            )
        entries.append(Entry(fields[0], *map(int, fields[1:])))
    return Manifest(Path(root), entries)


@dataclass(frozen=True)
class Filtered:
    """A manifest after its filters, and what they took out."""

    manifest: Manifest
    kept: NDArray[np.int64]  # positions in the manifest before filtering
    too_short: int
    too_short_seconds: float

    def report(self, split: str) -> str:
        """One line for the log."""
        kept = f"{split}: {len(self.manifest)} utterances, {self.manifest.hours:.2f} h"
        if not self.too_short:
            return kept
        return f"{kept}; {self.too_short} dropped as too short ({self.too_short_seconds:.0f} s)"


def drop_short(manifest: Manifest, min_samples: int) -> Filtered:
    """Leave out utterances of fewer than `min_samples` samples; long ones stay and are cropped.

    Raises:
        ValueError: if nothing is left.
    """
    short = manifest.num_samples < min_samples
    kept = np.flatnonzero(~short)
    if len(kept) == 0:
        longest = manifest.num_samples.max(initial=0) / SAMPLE_RATE
        raise ValueError(
            f"{manifest.root}: none of {len(manifest)} utterances has "
            f"{min_samples / SAMPLE_RATE:g} s (the longest: {longest:.2f} s); give longer "
            "recordings, or lower data.min_samples"
        )
    seconds = float(manifest.num_samples[short].sum()) / SAMPLE_RATE
    return Filtered(manifest.select(kept), kept, int(short.sum()), seconds)
