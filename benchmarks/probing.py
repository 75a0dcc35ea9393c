# SPDX-License-Identifier: Apache-2.0
"""SUPERB tasks on a frozen upstream: features kept or computed at each use, one head or eight.

Computing at each use, a run for each learning rate, is what s3prl's reference implementation does;
here it is our own code with the cache off, so that nothing else differs. Mini corpora, and the mini
protocol's heads: those of the published protocol are larger, see the note in the table.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.host import Use, measured
from benchmarks.names import COMPUTED, EIGHT, EIGHT_RUNS, KEPT, ONE
from benchmarks.timing import MOST_FOREIGN, Turn, figures, interleaved
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.probe import Probe
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.downstream.task import Sources
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.recipes.superb.feature_source import feature_source
from wavlm_lightning.recipes.superb.settings import read_probe_settings
from wavlm_lightning.recipes.superb.sources import MINI_CACHE
from wavlm_lightning.runtime import threads

TASKS = {"er": "er", "asr": "asr", "asr, published head": "asr"}
UTTERANCES = 48
RATES = "--heads.lr=[1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5]"
ASR_UPDATES = 100  # of the mini protocol's 400, for time


def probing(size: str, *, runs: int) -> Iterator[dict[str, Any]]:
    """Seconds of an epoch of each task with and without the cache, then of whole runs."""
    for label in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            works = {
                name: _epoch(label, size, Path(folder), keep=name == KEPT)
                for name in (KEPT, COMPUTED)
            }
            # The published head takes a minute, nearly all of it its own.
            turns = min(runs, 3) if label == TASKS[label] else 1
            for name, timed in interleaved(works, runs=turns, ours=KEPT).items():
                yield {
                    "what": f"epoch of {label}",
                    "contender": name,
                    "utterances": UTTERANCES,
                    **figures(timed),
                }
    one, eight = _run("er", size), _run("er", size, RATES)
    yield {"what": "er", "contender": ONE, **_beside(one, one)}
    yield {"what": "er", "contender": EIGHT, **_beside(eight, one)}
    updates = f"--optim.total_updates={ASR_UPDATES}"
    eight, one = _run("asr", size, updates, RATES), _run("asr", size, updates, "--cache.gb=0")
    yield {"what": "asr", "contender": EIGHT, **_beside(eight, eight)}
    yield {"what": "asr", "contender": EIGHT_RUNS, **_beside(one, eight, times=8)}


def _beside(use: Use, other: Use, *, times: int = 1) -> dict[str, Any]:
    """Ratio of one run, which stands for so many, to another."""
    foreign = max(use.foreign, other.foreign)
    if foreign > MOST_FOREIGN:
        return {"refused": f"other processes took {foreign:.0%} of the processors"}
    note = {"note": f"one run of {use.seconds:.1f} s, times {times}"} if times > 1 else {}
    return {
        "seconds": round(times * use.seconds, 1),
        "times_ours": round(times * use.seconds / other.seconds, 2),
        "cpu_seconds": round(times * use.cpu, 1),
        "cpu_times_ours": round(times * use.cpu / other.cpu, 2),
        "page_faults": times * use.faults,
        "foreign": round(foreign, 3),
        **note,
    }


def _run(task: str, size: str, *words: str) -> Use:
    """A whole run, nothing kept from before: training, dev, test."""
    with tempfile.TemporaryDirectory() as folder:
        own = [f"--run.dir={folder}/runs", f"--run.results={folder}/r", f"--cache.dir={folder}/c"]
        size_of_cache = "--cache.gb=20"
        command = [
            sys.executable,
            "-m",
            "wavlm_lightning.recipes.superb",
            task,
            "random",
            *own,
            size_of_cache,
        ]
        command += [f"--upstream.size={size}", *words]
        return measured(lambda: subprocess.run(command, check=True, capture_output=True))


def _epoch(label: str, size: str, folder: Path, *, keep: bool) -> Callable[[], Turn]:
    """A function that trains on the same utterances once; its first call fills the cache."""
    words = [f"--upstream.size={size}", f"--cache.gb={20 if keep else 0}", f"--cache.dir={folder}"]
    settings = read_probe_settings(TASKS[label], "random", words)
    if label != TASKS[label]:
        published = read_probe_settings(TASKS[label], "random", [*words, "--protocol=published"])
        settings = replace(settings, task=published.task, run=published.run)
    kind = load_task(TASKS[label])
    where = Sources("mini", {kind.corpus: str(superb_corpus(kind.corpus, MINI_CACHE))})
    assert issubclass(kind, TrainedTask)
    upstream, digest = load_upstream(settings.upstream)
    variant = (*kind.variants(where), None)[0]
    task = kind(settings.task, where, framing=upstream, seed=0, variant=variant)
    data = TaskData(task, settings.data, total_updates=1, seed=0)
    settings = settings.with_hash(digest)
    upstream.use_threads(torch.get_num_threads())  # heads have those of the recipe, as in a run
    source = feature_source(settings, upstream, data)
    learner = Learner(task, upstream, source.featurizer, lr=settings.optim.lr, seed=0)
    probe = Probe(upstream, [learner], settings.optim, cache=source.cache, means=source.means)
    probe.train()
    optimizer = probe.configure_optimizers()
    dataset: Any = data.eval_dataloader("train").dataset
    size_of_batch = settings.data.batch_size
    places = [
        [(0, i) for i in range(first, min(first + size_of_batch, UTTERANCES))]
        for first in range(0, UTTERANCES, size_of_batch)
    ]

    def run() -> None:
        for number, batch in enumerate(map(dataset.__getitem__, places)):
            learner.loss(probe(batch), batch, number).backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), settings.optim.clip)
            optimizer.step()
            optimizer.zero_grad()

    def turn() -> Turn:
        with threads(settings.run.threads or 0):
            return Turn(measured(run), 0.0)

    return turn
