# SPDX-License-Identifier: Apache-2.0
"""Makes a corpus once and keeps it: fill a folder, hash it, move it under its name.

A corpus appears under its name in one `os.replace`, so what lies there is whole. One process builds
at a time (a file lock, which ends with its holder); another that asks meanwhile waits and finds it.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import soundfile

from wavlm_lightning.locks import take

Progress = Callable[[int, int], None]  # utterances done, all

log = logging.getLogger(__name__)
BUILDING = "building-"  # a folder that becomes a corpus
MARKER = ".wavlm_mini"  # in such a folder that was made here, and may be removed here

Facts = dict[str, Any]
Digests = dict[str, str]  # SHA-256 of a file's int16 samples by its path within the corpus
FACTS = "corpus.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What it takes to make one corpus."""

    title: str  # in messages: "mini VoxCeleb1"
    folder: str  # its name in the cache
    num_bytes: int  # room asked for before starting
    fill: Callable[[Path], tuple[Facts, Digests]]  # writes everything but corpus.json
    expected_sha256: Mapping[str, str]  # by version of espeakng-loader, on Linux x86_64


S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


class Fill(Protocol[S_contra]):
    """Writes everything of a corpus but corpus.json into a folder."""

    def __call__(
        self, folder: Path, sizes: S_contra, *, num_workers: int, progress: Progress | None
    ) -> tuple[Facts, Digests]: ...


@dataclass(frozen=True, kw_only=True)
class Corpus(Generic[S]):
    """A mini corpus in the layout of a real one, in any sizes.

    Args:
        title: in messages: "mini VoxCeleb1".
        folder: its name in the cache, with its version.
        root: below that; what the folder of the real one would be.
        standard: sizes; `expected_sha256` is of these.
        tiny: sizes for tests.
        num_bytes: room to ask for before starting, by sizes.
        fill: speaks it.
        expected_sha256: by version of espeakng-loader, on Linux x86_64.
    """

    title: str
    folder: str
    root: Path
    standard: S
    tiny: S
    num_bytes: Callable[[S], int]
    fill: Fill[S]
    expected_sha256: Mapping[str, str]

    def cached(
        self, cache: Path, sizes: S, *, num_workers: int, progress: Progress | None = None
    ) -> Path:
        """Root of the corpus of these sizes in `cache`, made if it is not there."""

        def fill(folder: Path) -> tuple[Facts, Digests]:
            return self.fill(folder, sizes, num_workers=num_workers, progress=progress)

        recipe = Recipe(
            title=self.title,
            folder=folder_name(self.folder, sizes, self.standard),
            num_bytes=self.num_bytes(sizes),
            fill=fill,
            expected_sha256=self.expected_sha256 if sizes == self.standard else {},
        )
        return stored(cache, recipe)[0] / self.root


def folder_name(prefix: str, sizes: object, standard: object) -> str:
    """`prefix` for the standard sizes; for others a hash of them follows."""
    whole = hashlib.sha256(repr(sizes).encode()).hexdigest()[:8]
    return prefix if sizes == standard else f"{prefix}-{whole}"


def stored(cache: Path, recipe: Recipe) -> tuple[Path, Facts]:
    """Folder of the corpus in `cache` and its corpus.json; made if it is not there."""
    root = Path(cache).absolute() / recipe.folder
    if not (root / FACTS).is_file():
        root.parent.mkdir(parents=True, exist_ok=True)
        with _alone(root.parent):
            if not (root / FACTS).is_file():
                _make(root, recipe)
    facts: Facts = json.loads((root / FACTS).read_text(encoding="utf-8"))
    return root, facts


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; whoever holds it may remove what dead builds of ours left."""
    lock = take(folder / ".lock", wait=True)
    assert lock is not None  # it was waited for
    try:
        for marker in folder.glob(f"{BUILDING}*/{MARKER}"):
            shutil.rmtree(marker.parent, ignore_errors=True)
            log.info("removed %s, a build that did not end", marker.parent)
        yield
    finally:
        lock.close()


def _make(root: Path, recipe: Recipe) -> None:
    """Build in a folder beside `root` and move it there; on any failure remove it."""
    free = shutil.disk_usage(root.parent).free
    if free < recipe.num_bytes:
        raise OSError(
            f"the {recipe.title} needs {recipe.num_bytes // 10**6} MB in {root.parent}, "
            f"{free // 10**6} MB are free: make room or choose another cache folder"
        )
    folder = Path(tempfile.mkdtemp(prefix=BUILDING, dir=root.parent))
    folder.chmod(0o755)
    (folder / MARKER).touch()
    try:
        facts, digests = recipe.fill(folder)
        facts |= _hashes(folder, digests, recipe)
        (folder / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        (folder / MARKER).unlink()
        os.replace(folder, root)
    except OSError as error:
        raise OSError(
            f"the {recipe.title} was not made: {error} (cache folder {root.parent})"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _hashes(folder: Path, digests: Digests, recipe: Recipe) -> Facts:
    """The hash of the corpus and the expected one; a warning if they differ."""
    sha256 = _hash(folder, digests)
    loader = metadata.version("espeakng-loader")
    expected = recipe.expected_sha256.get(loader)
    if expected not in (None, sha256):
        log.warning(
            "the %s has hash %s, not %s as on the machine it was first made on: numbers "
            "trained on it may differ in the last digits",
            *(recipe.title, sha256, expected),
        )
    return {"espeakng_loader": loader, "sha256": sha256, "expected_sha256": expected}


def _hash(folder: Path, digests: Digests) -> str:
    """SHA-256 over all files in order of their paths: samples of audio, bytes of the others.

    Samples and not FLAC bytes, as those hold the version of the encoder.
    """
    whole = dict(digests)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (*whole, MARKER):
            whole[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = "".join(f"{name} {whole[name]}\n" for name in sorted(whole))
    return hashlib.sha256(lines.encode()).hexdigest()


def digest(samples: np.ndarray) -> str:
    """SHA-256 of int16 samples, little endian."""
    return hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()


def write_audio(path: Path, samples: np.ndarray, *, sample_rate: int) -> str:
    """Write int16 samples (T,) in the format the suffix says; their digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        soundfile.write(path, samples, sample_rate)
    except soundfile.LibsndfileError as error:
        raise OSError(f"cannot write {path}: {error}") from None
    return digest(samples)
