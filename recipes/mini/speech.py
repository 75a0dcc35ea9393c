# SPDX-License-Identifier: Apache-2.0
"""Has eSpeak NG speak the files of a corpus, in worker processes."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from wavlm_lightning.recipes.mini.sentences import words
from wavlm_lightning.recipes.mini.store import Digests, Facts, Progress
from wavlm_lightning.recipes.mini.voices import spoken

SAMPLE_RATE = 16000
COLOUR_HZ = (120, 350, 700, 1200, 2000, 3200, 5000, 7500)
WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True, kw_only=True)
class Speech:
    """One file: words, voice, delivery and recording."""

    path: Path  # relative to the corpus; .flac or .wav
    accent: str  # eSpeak language
    variant_name: str
    variant: str  # text of the voice variant
    sentences: tuple[str, ...]
    pauses: tuple[float, ...]  # seconds before each sentence and after the last
    speed: int  # words a minute, as eSpeak counts
    pitch: int  # 0 to 99, 50 is the voice's own
    range: int  # of the pitch, likewise
    level_db: float  # of the speech, RMS re full scale
    floor_db: float  # of the recording's noise floor, likewise
    seed: tuple[int, ...]  # of the noise floor
    colour_db: tuple[float, ...] = ()  # gains of the channel at COLOUR_HZ; none: it changes nothing

    def job(self, root: Path) -> dict[str, Any]:
        """What the worker must know to speak it."""
        return {
            "path": str(root / self.path),
            "voice": f"{self.accent}+{self.variant_name}",
            "sentences": [spoken(text) for text in self.sentences],
            "num_words": [len(words(text)) for text in self.sentences],
            "pauses": self.pauses,
            "speed": self.speed,
            "pitch": self.pitch,
            "range": self.range,
            "level_db": self.level_db,
            "floor_db": self.floor_db,
            "seed": self.seed,
            "colour": list(zip(COLOUR_HZ, self.colour_db, strict=False)),
        }


def by_voice(items: Sequence[Speech], *, voices: int) -> list[list[Speech]]:
    """Shards of so many voices each; utterances of one voice stand together in `items`."""
    own = [list(group) for _, group in groupby(items, key=lambda item: item.variant_name)]
    return [
        [item for group in own[first : first + voices] for item in group]
        for first in range(0, len(own), voices)
    ]


def speak(
    folder: Path,
    shards: Sequence[Sequence[Speech]],
    *,
    num_workers: int,
    progress: Progress | None,
) -> tuple[str, list[dict[str, Any]]]:
    """Have workers write all files. Version of eSpeak NG, and what it returned by utterance.

    The bytes of an utterance depend on what its process said before: each shard has a process of
    its own, so they do not depend on `num_workers`.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}: at least 1 is needed")
    jobs = folder / "jobs"
    jobs.mkdir()
    crew = _Crew(total=sum(map(len, shards)), progress=progress)
    paths = []
    for number, shard in enumerate(shards):
        for item in shard:
            (folder / item.path).parent.mkdir(parents=True, exist_ok=True)
        job = {
            "variants": {item.variant_name: item.variant for item in shard},
            "utterances": [item.job(folder) for item in shard],
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


class Tally:
    """Utterances and hours by split."""

    def __init__(self) -> None:
        self.utterances: dict[str, int] = {}
        self._samples: dict[str, int] = {}

    def add(self, split: str, num_samples: int) -> None:
        """Count one utterance of so many samples."""
        self.utterances[split] = self.utterances.get(split, 0) + 1
        self._samples[split] = self._samples.get(split, 0) + num_samples

    @property
    def hours(self) -> dict[str, float]:
        """Hours by split, to four places."""
        return {
            split: round(count / SAMPLE_RATE / 3600, 4) for split, count in self._samples.items()
        }


class Item(Protocol):
    """One recording of a plan."""

    @property
    def speech(self) -> Speech: ...


R = TypeVar("R", bound=Item)


@dataclass
class Spoken(Generic[R]):
    """A corpus that has been spoken: files are there, what is told of them is counted here."""

    said: list[tuple[R, dict[str, Any]]]  # each recording, and what its worker returned
    digests: Digests
    espeak: str  # version
    tally: Tally

    def facts(self, version: int, **more: Any) -> Facts:
        """What corpus.json says of it."""
        return {
            "version": version,
            "espeak": self.espeak,
            "utterances": self.tally.utterances,
            "hours": self.tally.hours,
            **more,
        }


def speak_all(
    folder: Path,
    items: Sequence[R],
    *,
    shards: Sequence[Sequence[Speech]],
    split: Callable[[R], str],
    num_workers: int,
    progress: Progress | None,
    rewrite: Callable[[R, dict[str, Any]], tuple[str, int]] | None = None,
) -> Spoken[R]:
    """Speak every recording of a plan: the loop of all mini corpora.

    Args:
        folder: Where paths of recordings begin.
        items: The plan.
        shards: The same, in the parts and the order in which workers speak it.
        split: What a recording counts as.
        num_workers: Workers at a time; the bytes do not depend on it.
        progress: Called with recordings done and all.
        rewrite: Changes a file after it was spoken, and returns digest and samples.
    """
    version, answers = speak(folder, shards, num_workers=num_workers, progress=progress)
    spoken = Spoken(list(zip(items, answers, strict=True)), {}, version, Tally())
    for item, said in spoken.said:
        digest, samples = said["sha256"], said["samples"]
        if rewrite is not None:
            digest, samples = rewrite(item, said)
        spoken.digests[item.speech.path.as_posix()] = digest
        spoken.tally.add(split(item), samples)
    return spoken


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
                [sys.executable, str(WORKER), str(job)],
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
                    f"an eSpeak NG worker failed: {why} (run it again; if it repeats, look for a "
                    "full disk or too little memory)"
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
