# SPDX-License-Identifier: Apache-2.0
"""One task on one upstream: train, choose on dev, test, keep what was predicted."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from downstream.cache import FeatureCache
from downstream.data import TaskData
from downstream.learner import Learner
from downstream.probe import Probe
from downstream.results import best_on_test
from downstream.search import Search
from downstream.task import Task
from downstream.upstream import Frozen, WavLMUpstream
from recipes.run.callbacks import KeepBestHead, KeepEvenly
from recipes.run.devices import device_of, with_precision
from recipes.run.fit import Training, fit, once
from recipes.run.processes import Processes
from recipes.run.throughput import HOURS, Throughput
from recipes.run.trainer import Pace
from recipes.superb.evaluation import Outcome, best_checkpoint, give_up, judge
from recipes.superb.examples import log_examples
from recipes.superb.feature_costs import Choice, choose, measure, uses_of
from recipes.superb.feature_source import FeatureSource, feature_source
from recipes.superb.heads import heads_of
from recipes.superb.layer_search import score_layers
from recipes.superb.settings import ProbeSettings
from wavlm_lightning.model.operations import forward_operations


@dataclass(frozen=True)
class Outcomes:
    """What one run, or one variant of it, left."""

    heads: dict[str, Outcome]  # by name; "" if there is one
    diverged: dict[str, int]  # name -> update after which it was given up
    features: str  # how the upstream's features came about
    monitor: str  # the figure that chose the checkpoints, on dev
    headline: str  # the figure on test that tables show


def run_variant(
    settings: ProbeSettings,
    upstream: Frozen,
    task: Task[Any],
    folder: Path,
    processes: Processes,
) -> Outcomes:
    """Train in `folder`, or finish it, or read what it left if it is finished.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """
    run = _run if task.trainable else _search
    content = once(
        folder, processes, lambda: asdict(run(settings, upstream, task, folder, processes))
    )
    content["heads"] = {name: Outcome(**values) for name, values in content["heads"].items()}
    return Outcomes(**content)


def _search(
    settings: ProbeSettings,
    upstream: Frozen,
    task: Task[Any],
    folder: Path,
    processes: Processes,
) -> Outcomes:
    """Of a task without training: by the first process alone."""
    assert isinstance(task, Search)
    if not processes.first:
        return Outcomes({}, {}, "", task.monitor, task.headline)
    folder.mkdir(parents=True, exist_ok=True)
    heads, features = score_layers(settings, upstream, task, folder)
    return Outcomes(heads, {}, features, task.monitor, task.headline)


def _run(
    settings: ProbeSettings,
    upstream: Frozen,
    task: Task[Any],
    folder: Path,
    processes: Processes,
) -> Outcomes:
    data = TaskData(
        task,
        settings.data,
        total_updates=settings.optim.total_updates,
        seed=settings.seed,
        rank=processes.rank,
        world=processes.world,
    )
    source = _source(settings, upstream, data, folder, processes)
    probe = _probe(settings, upstream, task, source)
    keep = {x.name: KeepBestHead(best_checkpoint(x, folder), x) for x in probe.all_learners()}

    def finish(trainer: lightning.Trainer) -> dict[str, Outcome]:
        best = {x.name: keep[x.name].best for x in probe.at_work()}
        for learner in probe.at_work():
            if not best[learner.name]:
                give_up(probe, learner, f"{task.monitor} was never finite")
        outcomes = judge(settings, probe, data, folder, processes, best=best, source=source)
        if processes.first:
            _show(trainer, probe, data, outcomes)
        return outcomes

    training = Training(
        module=probe,
        data=data,
        pace=_pace(settings, data),
        # Heads are small; the upstream has a precision of its own.
        trainer=with_precision(settings.trainer, "32-true"),
        throughput=_throughput(settings, upstream, source),
        figures=_figures(task),
        keep=[*keep.values(), *_evenly(settings, task, folder)],
        about=lambda _, resumed: [
            _about(settings, probe, data, source, resumed=resumed),
            *data.warnings(),
            *probe.task.warnings(),
            *source.first_pass(data),
        ],
    )
    with closing(source):
        outcomes = fit(training, settings, folder, processes, finish=finish)
    diverged = {x.name: x.diverged for x in probe.all_learners() if x.diverged is not None}
    return Outcomes(outcomes, diverged, source.about, *_chosen_and_shown(task, outcomes))


def _source(
    settings: ProbeSettings,
    upstream: Frozen,
    data: TaskData,
    folder: Path,
    processes: Processes,
) -> FeatureSource:
    """Where features come from: kept or computed at each use, whichever is cheaper."""
    updates, device = settings.optim.total_updates, device_of(settings.trainer)
    uses = uses_of(
        data,
        validations=max(1, updates // min(settings.run.validate_updates, updates)) + 1,
        tests=data.task.test_checkpoints + 1,
    )

    def decide(cache: FeatureCache) -> Choice:
        own = upstream.to(device)
        return choose(folder, uses, lambda: measure(cache, own, data, device))

    with processes.first_before_others():
        return feature_source(settings, upstream, data, decide=decide)


def _chosen_and_shown(task: Task[Any], outcomes: Mapping[str, Outcome]) -> tuple[str, str]:
    """The figure that chose the checkpoints, and the one that tables show."""
    if not task.chosen_on_test:
        return task.monitor, task.headline
    metrics = next(iter(outcomes.values())).metrics
    shown = best_on_test(metrics, task.headline)
    assert shown is not None
    return task.headline, shown


def _probe(
    settings: ProbeSettings, upstream: Frozen, task: Task[Any], source: FeatureSource
) -> Probe:
    heads = heads_of(settings.heads, lr=settings.optim.lr, seed=settings.seed)
    learners = [
        Learner(task, upstream, source.featurizer, lr=h.lr, seed=h.seed, name=h.name) for h in heads
    ]
    return Probe(upstream, learners, settings.optim, cache=source.cache, means=source.means)


def _show(
    trainer: lightning.Trainer, probe: Probe, data: TaskData, outcomes: Mapping[str, Outcome]
) -> None:
    """To W&B: figures and examples of the head that is best on dev."""
    task = probe.task
    best_of = min if task.mode == "min" else max
    name = best_of(outcomes, key=lambda head: outcomes[head].best["value"])
    (learner,) = [x for x in probe.at_work() if x.name == name]
    log_examples(
        trainer,
        learner.task,
        learner.predictions["test"],
        data.splits["test"],
        metrics=outcomes[name].metrics,
        layer_weights=outcomes[name].layer_weights,
    )


def _pace(settings: ProbeSettings, data: TaskData) -> Pace:
    total, run = settings.optim.total_updates, settings.run
    validate = min(run.validate_updates, total)
    return Pace(total, data.plan.batches_per_update, validate, run.checkpoint_updates)


def _evenly(settings: ProbeSettings, task: Task[Any], folder: Path) -> list[Callback]:
    """What keeps checkpoints for protocols that choose among them on test."""
    if not task.test_checkpoints:
        return []
    total = settings.optim.total_updates
    return [KeepEvenly(folder, count=task.test_checkpoints, total_updates=total)]


def _throughput(settings: ProbeSettings, upstream: Frozen, source: FeatureSource) -> Throughput:
    """With the share of the matrix rate where the upstream is a WavLM and always run."""
    inner = upstream.upstream
    if source.cache is not None or not isinstance(inner, WavLMUpstream):
        return Throughput(None)
    return Throughput(
        partial(forward_operations, inner.model.config),
        bf16=upstream.in_bfloat16(device_of(settings.trainer)),
        num_threads=upstream.threads,
    )


def _figures(task: Task[Any]) -> dict[str, tuple[str, str]]:
    shown = task.monitor.replace("/", " ").replace("_", " ")
    return {
        "train/loss": ("loss", "{:.3f}"),
        task.monitor: (shown, "{:.2f}"),
        HOURS: ("hours/hour", "{:.0f}"),
    }


def _about(
    settings: ProbeSettings,
    probe: Probe,
    data: TaskData,
    source: FeatureSource,
    *,
    resumed: bool,
) -> str:
    """What is about to be trained."""
    counts, learners = data.counts(), probe.all_learners()
    size = sum(p.numel() for p in learners[0].head.parameters())
    heads = f"head of {size:,} parameters"
    if len(learners) > 1:
        heads = f"{len(learners)} heads side by side, each of {size:,} parameters,"
    splits = ", ".join(
        f"{s} {counts[f'{s}_utterances']:.0f} ({counts[f'{s}_hours']:.2f} h)" for s in data.splits
    )
    left_out = "".join(f"; {k} {v:.0f}" for k, v in probe.task.left_out().items() if v)
    return (
        f"{'resuming' if resumed else 'training'} {probe.task.name}"
        f"{' ' + probe.task.variant if probe.task.variant else ''}: {heads} on "
        f"{probe.upstream.num_layers} layers of width {probe.upstream.dim}, "
        f"{settings.optim.total_updates} updates; {splits}{left_out}; "
        f"{counts['padding_share']:.1%} padding; features: {source.about}"
        f"{'' if source.cache is None else ' in ' + settings.cache.dir}"
    )
