# SPDX-License-Identifier: Apache-2.0
"""An epoch of a SUPERB task on a frozen upstream: features kept on disk, or computed at each use.

Computing at each use is what s3prl's reference implementation does; here it is our own code with
the cache off, so that nothing else differs.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Turn, interleaved, seconds_of
from downstream import load_task
from downstream.cache import CacheConfig, open_cache
from downstream.data import TaskData
from downstream.probe import Probe
from downstream.task import Sources
from downstream.upstream import UpstreamConfig, fingerprint, load_upstream
from recipes.mini import superb_corpus
from recipes.probe_settings import read_probe_settings
from recipes.probes import MINI_CACHE

TASKS = ("er", "asr")
UTTERANCES = 48
KEPT, COMPUTED = "features kept", "features computed at each use"


def epochs(size: str, *, runs: int) -> Iterator[dict[str, Any]]:
    """Seconds of an epoch of each task, and how many times longer it is without the cache."""
    for task in TASKS:
        with tempfile.TemporaryDirectory() as folder:
            works = {
                name: _epoch(task, size, Path(folder), keep=name == KEPT)
                for name in (KEPT, COMPUTED)
            }
            for name, timed in interleaved(works, runs=min(runs, 3), ours=KEPT).items():
                yield {
                    "what": f"epoch of {task}",
                    "contender": name,
                    "utterances": UTTERANCES,
                    "seconds": round(timed.seconds, 3),
                    "times_ours": round(timed.ratio, 1),
                }


def _epoch(name: str, size: str, folder: Path, *, keep: bool) -> Turn:
    """A function that trains on the same utterances once; its first call fills the cache."""
    settings = read_probe_settings(name, "random", [f"--upstream.size={size}"])
    kind = load_task(name)
    where = Sources("mini", {kind.corpus: str(superb_corpus(kind.corpus, MINI_CACHE))})
    task = kind(settings.task, where, seed=0, variant=(*kind.variants(where), None)[0])
    task.examples("train")[UTTERANCES:] = []  # type: ignore[index]
    data = TaskData(task, settings.data, total_updates=1, seed=0)
    upstream, digest = load_upstream(settings.upstream)
    cache = None
    if keep:
        about = fingerprint(UpstreamConfig(kind="random", size=size), digest, "cpu")
        width = upstream.num_layers * upstream.dim
        samples = data.samples_to_keep()
        config = CacheConfig(gb=20, dir=str(folder))
        cache = open_cache(config, about, num_samples=samples, stride=upstream.stride, width=width)
    probe = Probe(upstream, task, settings.featurizer, settings.optim, seed=0, cache=cache).train()
    optimizer = probe.configure_optimizers()
    dataset: Any = data.eval_dataloader("train").dataset
    size_of_batch = settings.data.batch_size
    places = [
        [(0, i) for i in range(first, min(first + size_of_batch, UTTERANCES))]
        for first in range(0, UTTERANCES, size_of_batch)
    ]

    def run() -> None:
        for batch in map(dataset.__getitem__, places):
            task.loss(probe.head, probe(batch), batch).backward()
            torch.nn.utils.clip_grad_norm_(probe.trained(), settings.optim.clip)
            optimizer.step()
            optimizer.zero_grad()

    return lambda: (seconds_of(run), 0.0)
