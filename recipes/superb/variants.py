# SPDX-License-Identifier: Apache-2.0
"""All heads of one task on one upstream: in every variant of the task, at every learning rate."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from downstream.task import Sources, Task
from downstream.upstream import Frozen
from recipes.run.processes import Processes
from recipes.superb.heads import Head, between, heads_of
from recipes.superb.results import Finished, chosen_rate, finish, together
from recipes.superb.settings import ProbeSettings
from recipes.superb.sources import tell_unusable
from recipes.superb.training import Outcomes, run_variant
from wavlm_lightning.names import safe_name
from wavlm_lightning.threads import threads


def train_heads(
    settings: ProbeSettings,
    upstream: Frozen,
    task: type[Task[Any]],
    where: Sources,
    folder: Path,
    processes: Processes,
    *,
    started: float,
) -> None:
    """Train and test them in `folder`, and write the results.

    Args:
        settings: Configuration of the task.
        upstream: What they are trained on.
        task: Its class; each variant is an instance.
        where: Folders of recordings.
        folder: Of the run.
        processes: All of them call this.
        started: `time.perf_counter` at the start of the program.
    """
    upstream.threads = torch.get_num_threads()  # run.threads is for heads
    with threads(settings.run.threads or 0):
        heads, outcomes = _train(settings, upstream, task, where, folder, processes)
    if processes.first:
        seconds = time.perf_counter() - started
        finish(Finished(settings, task, heads, outcomes, folder, seconds))


def _train(
    settings: ProbeSettings,
    upstream: Frozen,
    task: type[Task[Any]],
    where: Sources,
    folder: Path,
    processes: Processes,
) -> tuple[list[Head], dict[str, Outcomes]]:
    """All heads; a sweep of learning rates is refined once, around the best one."""
    heads, outcomes = _variants(settings, upstream, task, where, folder, processes)
    if settings.heads.lr != "sweep" or not task.trainable:
        return heads, outcomes
    best = chosen_rate(heads, outcomes, mode=task.mode)
    rates = between(best)
    if processes.first:
        print(f"best on dev: {best:g}; around it: {', '.join(map(str, rates))}", flush=True)
    finer = replace(settings, heads=replace(settings.heads, lr=rates))
    more, others = _variants(finer, upstream, task, where, folder / "refined", processes)
    return sorted(heads + more, key=lambda head: -head.lr), together(outcomes, others)


def _variants(
    settings: ProbeSettings,
    upstream: Frozen,
    task: type[Task[Any]],
    where: Sources,
    folder: Path,
    processes: Processes,
) -> tuple[list[Head], dict[str, Outcomes]]:
    """Heads that trained side by side, and outcomes by variant; "" where a task has none."""
    outcomes = {}
    for variant in task.variants(where) or [""]:
        with processes.first_before_others():  # what it reads of recordings, they are told
            instance = task(settings.task, where, seed=settings.seed, variant=variant or None)
        if processes.first:
            tell_unusable(where)
        place = folder / safe_name(variant) if variant else folder
        outcomes[variant] = run_variant(settings, upstream, instance, place, processes)
    return heads_of(settings.heads, lr=settings.optim.lr, seed=settings.seed), outcomes
