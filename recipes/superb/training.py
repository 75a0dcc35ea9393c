# SPDX-License-Identifier: Apache-2.0
"""One task on one upstream: train, choose on dev, test, keep what was predicted."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import lightning
from lightning.pytorch.callbacks import Callback

from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.families.search import Search
from wavlm_lightning.downstream.features.cache import FeatureCache
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.results import best_on_test
from wavlm_lightning.downstream.task import Task
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.operations import BACKWARD, forward_operations
from wavlm_lightning.recipes.run.devices import device_of, device_words
from wavlm_lightning.recipes.run.fit import Training, fit, once
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.throughput import HOURS, SHARE, Throughput
from wavlm_lightning.recipes.run.trainer import Pace
from wavlm_lightning.recipes.superb.checkpoints import KeepBestLearner, KeepEvenly, KeepRecent, take
from wavlm_lightning.recipes.superb.evaluation import Outcome, drop_learner, evaluate
from wavlm_lightning.recipes.superb.examples import log_examples
from wavlm_lightning.recipes.superb.feature_costs import Choice, choose, measure, uses_of
from wavlm_lightning.recipes.superb.feature_source import COMPUTED, FeatureSource, feature_source
from wavlm_lightning.recipes.superb.layer_search import score_layers
from wavlm_lightning.recipes.superb.modules import begin_from, build_module
from wavlm_lightning.recipes.superb.settings import TaskSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Outcomes:
    """What one run, or one variant of it, left."""

    heads: dict[str, Outcome]  # by name; "" if there is one
    diverged: dict[str, int]  # name -> update after which it was given up
    features: str  # how the upstream's features came about
    monitor: str  # the figure that chose the checkpoints, on dev
    headline: str  # the figure on test that tables show


def run_stage(
    settings: TaskSettings,
    upstream: Frozen,
    task: TrainedTask[Any],
    folder: Path,
    processes: Processes,
    *,
    start: Path | None,
) -> Path:
    """A training before the last one, in `folder`; the checkpoint that it leaves for the next.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """

    def finish(parts: Parts, _: lightning.Trainer) -> dict[str, Any]:
        (learner,) = _finite(parts)
        taken = take(parts.module, learner, folder, settings.adaptation, processes)
        return {"checkpoint": str(taken)}

    left = once(
        folder,
        processes,
        lambda: _train(settings, upstream, task, folder, processes, start=start, finish=finish)[1],
    )
    return Path(left["checkpoint"])


def run_variant(
    settings: TaskSettings,
    upstream: Frozen,
    task: Task[Any],
    folder: Path,
    processes: Processes,
    *,
    start: Path | None = None,
) -> Outcomes:
    """Train in `folder`, or finish it, or read what it left if it is finished.

    Args:
        settings: Of the training.
        upstream: As it was loaded.
        task: With its recordings.
        folder: Of the training.
        processes: All of them call this.
        start: What a stage before this one left.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """

    def work() -> dict[str, Any]:
        if isinstance(task, TrainedTask):
            return asdict(_run(settings, upstream, task, folder, processes, start=start))
        assert isinstance(task, Search)
        return asdict(_search(settings, upstream, task, folder, processes))

    content = once(folder, processes, work)
    content["heads"] = {name: Outcome(**values) for name, values in content["heads"].items()}
    return Outcomes(**content)


def _search(
    settings: TaskSettings,
    upstream: Frozen,
    task: Search[Any],
    folder: Path,
    processes: Processes,
) -> Outcomes:
    """Evaluate a task without training, in the first process alone."""
    if not processes.first:
        return Outcomes({}, {}, "", task.monitor, task.headline)
    folder.mkdir(parents=True, exist_ok=True)
    heads, features = score_layers(settings, upstream, task, folder)
    return Outcomes(heads, {}, features, task.monitor, task.headline)


class Parts(NamedTuple):
    """What a training is made of."""

    module: Adapted
    data: TaskData
    source: FeatureSource
    keep: dict[str, KeepBestLearner]  # by learner


def _run(
    settings: TaskSettings,
    upstream: Frozen,
    task: TrainedTask[Any],
    folder: Path,
    processes: Processes,
    *,
    start: Path | None,
) -> Outcomes:
    def finish(parts: Parts, trainer: lightning.Trainer) -> dict[str, Outcome]:
        best = {x.name: parts.keep[x.name].best for x in _finite(parts)}
        module, data, source, _ = parts
        outcomes = evaluate(settings, module, data, folder, processes, best=best, source=source)
        if processes.first:
            _show(trainer, module, data, outcomes)
        return outcomes

    (module, _, source, _), outcomes = _train(
        settings, upstream, task, folder, processes, start=start, finish=finish
    )
    diverged = {x.name: x.diverged for x in module.all_learners() if x.diverged is not None}
    return Outcomes(outcomes, diverged, source.about, *_chosen_and_shown(task, outcomes))


def _file_of(settings: TaskSettings) -> Path | None:
    """The upstream's file, where it is one."""
    source = Path(settings.upstream.source or "")
    return source if source.is_file() else None


def _finite(parts: Parts) -> list[Learner]:
    """Learners with a best checkpoint; the others are dropped, and one must be left."""
    module = parts.module
    for learner in module.active_learners():
        if not parts.keep[learner.name].best:
            drop_learner(module, learner, f"{module.task.monitor} was never finite")
    return module.active_learners()


def _train(
    settings: TaskSettings,
    upstream: Frozen,
    task: TrainedTask[Any],
    folder: Path,
    processes: Processes,
    *,
    start: Path | None,
    finish: Callable[[Parts, lightning.Trainer], T],
) -> tuple[Parts, T]:
    data = TaskData(
        task,
        settings.data,
        total_updates=settings.optim.total_updates,
        seed=settings.seed,
        rank=processes.rank,
        world=processes.world,
    )
    source = _source(settings, upstream, data, folder, processes, tests=task.test_checkpoints + 1)
    module = build_module(settings, upstream, task, data, source)
    learners = module.all_learners()
    keep = {x.name: KeepBestLearner(folder, module, x) for x in learners}
    parts = Parts(module, data, source, keep)

    def begin() -> None:
        if start is not None:
            begin_from(module, start)

    training = Training(
        module=module,
        data=data,
        pace=_pace(settings, data),
        trainer=settings.devices,
        throughput=_throughput(settings, upstream, source),
        figures=_figures(task),
        keep=[*keep.values(), *_also_kept(settings, module, folder)],
        sources=[p for p in (start, _file_of(settings)) if p is not None],
        begin=begin,
        about=lambda trainer, resumed: [
            _about(settings, parts, upstream, trainer, resumed=resumed),
            *data.warnings(),
            *module.task.warnings(),
            *source.first_pass(data),
        ],
    )
    with closing(source):
        return parts, fit(training, settings, folder, processes, finish=partial(finish, parts))


def _source(
    settings: TaskSettings,
    upstream: Frozen,
    data: TaskData,
    folder: Path,
    processes: Processes,
    *,
    tests: int,
) -> FeatureSource:
    """Where features come from: kept or computed at each use, whichever is cheaper."""
    if settings.tuned:
        return FeatureSource(f"{COMPUTED}: the encoder trains", settings.featurizer)
    updates, device = settings.optim.total_updates, device_of(settings.trainer)
    uses = uses_of(
        data,
        validations=max(1, updates // min(settings.run.validate_updates, updates)) + 1,
        tests=tests,
    )

    def decide(cache: FeatureCache) -> Choice:
        own = upstream.to(device)
        return choose(folder, uses, lambda: measure(cache, own, data, device))

    with processes.first_before_others():
        return feature_source(settings, upstream, data, decide=decide)


def _chosen_and_shown(task: TrainedTask[Any], outcomes: Mapping[str, Outcome]) -> tuple[str, str]:
    """The figure that chose the checkpoints, and the one that tables show."""
    if not task.chosen_on_test:
        return task.monitor, task.headline
    metrics = next(iter(outcomes.values())).metrics
    shown = best_on_test(metrics, task.headline)
    assert shown is not None
    return task.headline, shown


def _show(
    trainer: lightning.Trainer, probe: Adapted, data: TaskData, outcomes: Mapping[str, Outcome]
) -> None:
    """Log scores and examples of the head that is best on dev to W&B."""
    task = probe.task
    best_of = min if task.mode == "min" else max
    name = best_of(outcomes, key=lambda head: outcomes[head].best["value"])
    (learner,) = [x for x in probe.active_learners() if x.name == name]
    log_examples(
        trainer,
        learner.task,
        learner.predictions["test"],
        data.splits["test"],
        metrics=outcomes[name].metrics,
        layer_weights=outcomes[name].layer_weights,
    )


def _pace(settings: TaskSettings, data: TaskData) -> Pace:
    total, run = settings.optim.total_updates, settings.run
    validate = min(run.validate_updates, total)
    return Pace(total, data.plan.batches_per_update, validate, run.checkpoint_updates)


def _also_kept(settings: TaskSettings, module: Adapted, folder: Path) -> list[Callback]:
    """What keeps checkpoints to choose from on test, or to average."""
    total, task, adaptation = settings.optim.total_updates, module.task, settings.adaptation
    found: list[Callback] = []
    if task.test_checkpoints:
        found.append(KeepEvenly(folder, count=task.test_checkpoints, total_updates=total))
    if adaptation.take == "average":
        count = adaptation.average
        found += [KeepRecent(folder, module, x, count=count) for x in module.all_learners()]
    return found


def _throughput(settings: TaskSettings, upstream: Frozen, source: FeatureSource) -> Throughput:
    """Throughput, with its MFU where the upstream is a WavLM that runs at each step."""
    inner = upstream.upstream
    if settings.model is not None and settings.tuned:
        return Throughput(partial(_of_training, settings.model))
    if source.cache is not None or not isinstance(inner, WavLMUpstream):
        return Throughput(None)
    return Throughput(
        partial(forward_operations, inner.model.config),
        bf16=upstream.in_bfloat16(device_of(settings.trainer)),
        num_threads=upstream.threads,
    )


def _of_training(model: WavLMConfig, num_samples: int) -> float:
    """Operations of a training step of a whole encoder."""
    return (1 + BACKWARD) * forward_operations(model, num_samples)


def _figures(task: TrainedTask[Any]) -> dict[str, tuple[str, str]]:
    shown = task.monitor.replace("/", " ").replace("_", " ")
    return {
        "train/loss": ("loss", "{:.3f}"),
        task.monitor: (shown, "{:.2f}"),
        HOURS: ("hours/hour", "{:.0f}"),
        SHARE: ("of matrix rate", "{:.0%}"),
    }


def _about(
    settings: TaskSettings,
    parts: Parts,
    upstream: Frozen,
    trainer: lightning.Trainer,
    *,
    resumed: bool,
) -> str:
    """What is about to be trained."""
    module, data, source, _ = parts
    counts, task = data.counts(), module.task
    splits = ", ".join(
        f"{s} {counts[f'{s}_utterances']:.0f} ({counts[f'{s}_hours']:.2f} h)" for s in data.splits
    )
    left_out = "".join(f"; {k} {v:.0f}" for k, v in task.excluded_counts().items() if v)
    what = _tuned(settings, module) if settings.tuned else _heads(module, upstream)
    features = f"; {trainer.world_size} process(es) on {device_words(trainer)}"
    if not settings.tuned:
        features = f"; features: {source.about}"
        features += "" if source.cache is None else f" in {settings.cache.dir}"
    return (
        f"{'resuming' if resumed else 'training'} {task.name}"
        f"{' ' + task.variant if task.variant else ''}: {what}, "
        f"{settings.optim.total_updates} updates; {splits}{left_out}; "
        f"{counts['padding_share']:.1%} padding{features}"
    )


def _heads(module: Adapted, upstream: Frozen) -> str:
    learners = module.all_learners()
    size = sum(p.numel() for p in learners[0].head.parameters())
    heads = f"head of {size:,} parameters"
    if len(learners) > 1:
        heads = f"{len(learners)} heads side by side, each of {size:,} parameters,"
    return f"{heads} on {upstream.num_layers} layers of width {upstream.dim}"


def _tuned(settings: TaskSettings, module: Adapted) -> str:
    (learner,) = module.all_learners()
    head = sum(p.numel() for p in learner.head.parameters())
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad) - head
    alone = settings.optim.head_updates
    first = f", the first {alone} updates of the head alone" if alone else ""
    return f"head of {head:,} parameters and {trained:,} of the encoder{first}"
