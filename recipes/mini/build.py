# SPDX-License-Identifier: Apache-2.0
"""Makes the mini corpus once and keeps it: plan, speak in worker processes, write, hash, move.

A corpus appears under its name in one `os.replace`, so what lies there is whole. One process builds
at a time (a file lock, which ends with its holder); another that asks meanwhile waits and finds it.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

from recipes.mini import librispeech, noise

log = logging.getLogger(__name__)

VERSION = 1  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "ca660ff3c239451149e300afb9d9bcb4da65dee578d3e540ada8c88724c64bcf",
}
_SPEAKERS_PER_SHARD = 4  # fixed: the bytes of an utterance depend on what its process said before
_BYTES_PER_UTTERANCE = 400_000  # room asked for before starting; about 200 kB are used
_WORKER = Path(__file__).with_name("worker.py")

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Speakers by split, utterances a speaker, noise clips a kind."""

    train_speakers: int = 48
    dev_speakers: int = 8
    test_speakers: int = 8
    train_utterances: int = 10
    eval_utterances: int = 5
    train_clips: int = 5
    dev_clips: int = 1


@dataclass(frozen=True)
class MiniCorpus:
    """Where the corpus lies and what is in it; `utterances` and `hours` are of speech, by split."""

    root: Path
    librispeech: Path
    noise: Path
    utterances: dict[str, int]
    hours: dict[str, float]
    sha256: str


def cached(
    cache: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None = None
) -> MiniCorpus:
    """The corpus of these sizes in `cache`, made if it is not there."""
    whole = hashlib.sha256(repr(sizes).encode()).hexdigest()[:8]
    name = f"v{VERSION}" if sizes == Sizes() else f"v{VERSION}-{whole}"
    root = Path(cache).absolute() / name
    if not (root / "corpus.json").is_file():
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}: at least 1 is needed")
        root.parent.mkdir(parents=True, exist_ok=True)
        with _lock(root.parent):
            if not (root / "corpus.json").is_file():
                _make(root, sizes, num_workers=num_workers, progress=progress)
    facts = json.loads((root / "corpus.json").read_text(encoding="utf-8"))
    return MiniCorpus(
        root=root,
        librispeech=root / "LibriSpeech",
        noise=root / "noise",
        utterances=facts["utterances"],
        hours=facts["hours"],
        sha256=facts["sha256"],
    )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; whoever holds it may remove what dead builds left."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for path in folder.glob("building-*"):
            shutil.rmtree(path, ignore_errors=True)
        yield


def _make(root: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None) -> None:
    """Build in a folder beside `root` and move it there; on any failure remove it."""
    utterances = plan(sizes)
    needed = len(utterances) * _BYTES_PER_UTTERANCE
    free = shutil.disk_usage(root.parent).free
    if free < needed:
        raise OSError(
            f"the mini corpus needs {needed // 10**6} MB in {root.parent}, {free // 10**6} MB are "
            "free: make room or choose another cache folder"
        )
    folder = Path(tempfile.mkdtemp(prefix="building-", dir=root.parent))
    folder.chmod(0o755)
    try:
        _fill(folder, utterances, sizes, num_workers=num_workers, progress=progress)
        os.replace(folder, root)
    except OSError as error:
        raise OSError(
            f"the mini corpus was not made: {error} (cache folder {root.parent})"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def plan(sizes: Sizes) -> list[librispeech.Utterance]:
    """Every utterance, by split and speaker; speaker numbers are disjoint between splits."""
    splits = (
        ("train-clean-100", 1001, sizes.train_speakers, sizes.train_utterances),
        ("dev-clean", 2001, sizes.dev_speakers, sizes.eval_utterances),
        ("test-clean", 3001, sizes.test_speakers, sizes.eval_utterances),
    )
    return [
        utterance
        for split, first, speakers, count in splits
        for utterance in librispeech.plan(split, first=first, speakers=speakers, utterances=count)
    ]


def _fill(
    folder: Path,
    utterances: Sequence[librispeech.Utterance],
    sizes: Sizes,
    *,
    num_workers: int,
    progress: Progress | None,
) -> None:
    """Write the whole corpus into `folder`, corpus.json last."""
    version, spoken = _speak(folder, utterances, num_workers=num_workers, progress=progress)
    librispeech.write(folder, utterances, spoken)
    digests, noise_hours = noise.write(folder, train=sizes.train_clips, dev=sizes.dev_clips)
    counts: dict[str, int] = {}
    hours: dict[str, float] = {}
    for utterance, said in zip(utterances, spoken, strict=True):
        digests[(utterance.folder / f"{utterance.name}.flac").as_posix()] = said["sha256"]
        counts[utterance.split] = counts.get(utterance.split, 0) + 1
        seconds = said["samples"] / librispeech.SAMPLE_RATE
        hours[utterance.split] = hours.get(utterance.split, 0.0) + seconds / 3600
    sha256 = _hash(folder, digests)
    loader = metadata.version("espeakng-loader")
    expected = EXPECTED_SHA256.get(loader) if sizes == Sizes() else None
    if expected not in (None, sha256):
        log.warning(
            "the mini corpus has hash %s, not %s as on the machine it was first made on: numbers "
            "trained on it may differ in the last digits",
            *(sha256, expected),
        )
    facts = {
        "version": VERSION,
        "espeak": version,
        "espeakng_loader": loader,
        "utterances": counts,
        "hours": {split: round(value, 4) for split, value in hours.items()},
        "noise_clips": len(noise.KINDS) * (sizes.train_clips + sizes.dev_clips),
        "noise_hours": {split: round(value, 4) for split, value in noise_hours.items()},
        "sha256": sha256,
        "expected_sha256": expected,
    }
    (folder / "corpus.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _hash(folder: Path, digests: dict[str, str]) -> str:
    """SHA-256 over all files in order of their paths: samples of audio, bytes of texts.

    Samples and not FLAC bytes, as those hold the version of the encoder.
    """
    for path in folder.rglob("*"):
        if path.suffix in (".txt", ".TXT", ".TextGrid"):
            name = path.relative_to(folder).as_posix()
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _speak(
    folder: Path,
    utterances: Sequence[librispeech.Utterance],
    *,
    num_workers: int,
    progress: Progress | None,
) -> tuple[str, list[dict[str, Any]]]:
    """Have workers write all FLACs. Version of eSpeak NG, and what it returned by utterance."""
    jobs = folder / "jobs"
    jobs.mkdir()
    crew = _Crew(total=len(utterances), progress=progress)
    paths = []
    speakers = [list(group) for _, group in groupby(utterances, key=lambda item: item.speaker)]
    for number, first in enumerate(range(0, len(speakers), _SPEAKERS_PER_SHARD)):
        shard = [item for own in speakers[first : first + _SPEAKERS_PER_SHARD] for item in own]
        for utterance in shard:
            (folder / utterance.folder).mkdir(parents=True, exist_ok=True)
        job = {
            "variants": {item.speaker.variant_name: item.speaker.variant for item in shard},
            "utterances": [utterance.job(folder) for utterance in shard],
        }
        paths.append(jobs / f"{number:03d}.json")
        paths[-1].write_text(json.dumps(job), encoding="utf-8")
    with ThreadPoolExecutor(num_workers) as pool:
        try:
            outs = list(pool.map(crew.run, paths))
        except BaseException as error:
            crew.stop()
            raise crew.failure or error from None
    shutil.rmtree(jobs)
    return outs[0]["espeak"], [said for out in outs for said in out["utterances"]]


class _Crew:
    """The worker processes of one build: run jobs, count utterances, stop all when one fails."""

    def __init__(self, *, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0
        self._stopped = False
        self.failure: OSError | None = None  # of the first worker that failed by itself
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.RLock()

    def run(self, job: Path) -> dict[str, Any]:
        """Do one job in a fresh process and return its results."""
        with self._guard:
            if self._stopped:
                raise OSError("stopped")
            process = subprocess.Popen(
                [sys.executable, str(_WORKER), str(job)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._running.add(process)
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in process.stdout:
                self._count()
            complaint = process.stderr.read().strip().splitlines()
        with self._guard:
            self._running.discard(process)
            if process.returncode:
                why = complaint[-1] if complaint else f"it ended with status {process.returncode}"
                failure = OSError(
                    f"an eSpeak NG worker failed, the mini corpus was not made: {why} (run it "
                    "again; if it repeats, look for a full disk or too little memory)"
                )
                self.failure = self.failure or (None if self._stopped else failure)
                self.stop()
                raise failure
        out: dict[str, Any] = json.loads(job.with_suffix(".out.json").read_text(encoding="utf-8"))
        return out

    def stop(self) -> None:
        """End the processes that run and start no more."""
        with self._guard:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _count(self) -> None:
        with self._guard:
            self._done += 1
            if self._progress:
                self._progress(self._done, self._total)
