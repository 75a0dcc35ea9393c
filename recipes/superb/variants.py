# SPDX-License-Identifier: Apache-2.0
"""All heads of one task on one upstream: in every variant of the task, at every learning rate."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Sources, Task
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.names import safe_name
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.superb.heads import Head, between, heads_of
from wavlm_lightning.recipes.superb.results import Finished, chosen_rate, finish, together
from wavlm_lightning.recipes.superb.settings import TaskSettings
from wavlm_lightning.recipes.superb.sources import tell_unusable
from wavlm_lightning.recipes.superb.training import Outcomes, run_stage, run_variant
from wavlm_lightning.runtime import threads


def train_heads(
    stages: Sequence[TaskSettings],
    upstream: Frozen,
    task: type[Task[Any]],
    where: Sources,
    folder: Path,
    processes: Processes,
    *,
    started: float,
) -> None:
    """Train and test in `folder`, and write the results.

    Args:
        stages: Settings of trainings one after another, each of which begins with what the one
            before left; results are of the last.
        upstream: What they are trained on.
        task: Its class; each variant is an instance.
        where: Folders of recordings.
        folder: Of the run.
        processes: All of them call this.
        started: `time.perf_counter` at the start of the program.
    """
    settings = stages[-1]
    upstream.use_threads(torch.get_num_threads())  # run.threads is for heads
    with threads(settings.run.threads or 0):
        heads, outcomes = _train(stages, upstream, task, where, folder, processes)
    if processes.first:
        seconds = time.perf_counter() - started
        finish(Finished(settings, task, heads, outcomes, folder, seconds))


def _train(
    stages: Sequence[TaskSettings],
    upstream: Frozen,
    task: type[Task[Any]],
    where: Sources,
    folder: Path,
    processes: Processes,
) -> tuple[list[Head], dict[str, Outcomes]]:
    """All heads; a sweep of learning rates is refined once, around the best one."""
    settings = stages[-1]
    heads, outcomes = _variants(stages, upstream, task, where, folder, processes)
    if settings.heads.lr != "sweep" or not issubclass(task, TrainedTask):
        return heads, outcomes
    best = chosen_rate(heads, outcomes, mode=task.mode)
    rates = between(best)
    if processes.first:
        print(f"best on dev: {best:g}; around it: {', '.join(map(str, rates))}", flush=True)
    finer = replace(settings, heads=replace(settings.heads, lr=rates))
    more, others = _variants([finer], upstream, task, where, folder / "refined", processes)
    return sorted(heads + more, key=lambda head: -head.lr), together(outcomes, others)


def _variants(
    stages: Sequence[TaskSettings],
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
            # Of all stages before the first one trains: what is wrong with the last is said then.
            tasks = [
                task(s.task, where, framing=upstream, seed=s.seed, variant=variant or None)
                for s in stages
            ]
        if processes.first:
            tell_unusable(where)
        place, start = folder / safe_name(variant) if variant else folder, None
        for number, (settings, instance) in enumerate(zip(stages, tasks, strict=True), start=1):
            last = number == len(stages)
            stage = place if last else place / f"stage{number}"
            if len(stages) > 1 and processes.first:
                print(f"--- stage {number} of {len(stages)}, in {stage}", flush=True)
            if last:
                outcomes[variant] = run_variant(
                    settings, upstream, instance, stage, processes, start=start
                )
            else:
                assert isinstance(instance, TrainedTask)
                start = run_stage(settings, upstream, instance, stage, processes, start=start)
    settings = stages[-1]
    return heads_of(settings.heads, lr=settings.optim.lr, seed=settings.seed), outcomes
