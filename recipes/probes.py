# SPDX-License-Identifier: Apache-2.0
"""One task on one upstream: train, choose on dev, test, keep what was predicted."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import torch

from downstream.cache import FeatureCache, open_cache
from downstream.data import TaskData
from downstream.probe import Probe
from downstream.task import Sources, Task
from downstream.upstream import Frozen, fingerprint
from recipes.callbacks import KeepBest, KeepEvenly, SaveAndStop, counter, progress
from recipes.common import (
    BEST,
    LAST,
    Pace,
    accelerator,
    build_loggers,
    build_trainer,
    device_flags,
    finish_loggers,
)
from recipes.examples import log_examples
from recipes.mini import superb_corpus
from recipes.plots import plot_layer_weights, plot_probe_curves, read_curves
from recipes.probe_settings import ProbeSettings
from recipes.processes import Processes
from wavlm_lightning.result import file_sha256, write_atomically

DONE = "metrics.json"
MINI_CACHE = Path(".cache/mini")


@dataclass(frozen=True)
class Outcome:
    """What one run, or one variant of it, left."""

    metrics: dict[str, float]
    best: dict[str, float]  # value that chose the checkpoint, and its update
    layer_weights: list[float]
    curve: dict[str, list[tuple[int, float]]]  # figures on dev by update
    counts: dict[str, float]
    checkpoint: str
    checkpoint_sha256: str


def run_variant(
    settings: ProbeSettings,
    upstream: Frozen,
    task: Task[Any],
    folder: Path,
    processes: Processes,
) -> Outcome:
    """Train in `folder`, or finish it, or read what it left if it is finished.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """
    done = folder / DONE
    if not done.exists():
        outcome = _run(settings, upstream, task, folder, processes)
        if processes.first:
            write_atomically(done, json.dumps(asdict(outcome), indent=2) + "\n")
        processes.barrier()
    return Outcome(**json.loads(done.read_text()))


def _run(
    settings: ProbeSettings,
    upstream: Frozen,
    task: Task[Any],
    folder: Path,
    processes: Processes,
) -> Outcome:
    data = TaskData(
        task,
        settings.data,
        total_updates=settings.optim.total_updates,
        seed=settings.seed,
        rank=processes.rank,
        world=processes.world,
    )
    probe = Probe(
        upstream,
        task,
        settings.featurizer,
        settings.optim,
        seed=settings.seed,
        cache=_cache(settings, upstream, data),
    )
    last = folder / "checkpoints" / LAST
    if processes.first:
        folder.mkdir(parents=True, exist_ok=True)
        print(_about(settings, probe, data, resumed=last.exists()), flush=True)
    keep = KeepBest(last.with_name(BEST), monitor=task.monitor, mode=task.mode)
    trainer = _trainer(settings, task, data, folder, processes, keep=keep)
    try:
        trainer.fit(
            probe,
            datamodule=data,
            ckpt_path=str(last) if last.exists() else None,
            weights_only=True,
        )
        for logger in trainer.loggers:
            logger.save()
        outcome = _judge(settings, probe, data, folder, processes, best=keep.best)
        if processes.first:
            log_examples(
                trainer,
                task,
                probe.predictions["test"],
                data.splits["test"],
                metrics=outcome.metrics,
                layer_weights=outcome.layer_weights,
            )
    finally:
        finish_loggers(trainer)
    return outcome


def _cache(settings: ProbeSettings, upstream: Frozen, data: TaskData) -> FeatureCache | None:
    """Where the upstream's features are kept, if they fit; none that depend on the batch."""
    samples = data.samples_to_keep()
    if samples == 0 or settings.cache.gb == 0 or not upstream.grouped:
        return None
    about = fingerprint(
        settings.upstream,
        settings.values["upstream"]["sha256"],
        accelerator(settings.trainer["accelerator"]),
    )
    return open_cache(
        settings.cache,
        about,
        num_samples=samples,
        stride=upstream.stride,
        width=upstream.num_layers * upstream.dim,
    )


def _judge(
    settings: ProbeSettings,
    probe: Probe,
    data: TaskData,
    folder: Path,
    processes: Processes,
    *,
    best: Mapping[str, float],
) -> Outcome:
    """The best checkpoint on dev and test, and what comes with it."""
    task, checkpoints = probe.task, folder / "checkpoints"
    evaluator = _evaluator(settings, processes)
    on_test = [
        _test(evaluator, probe, data, path)[task.headline] for path in _evenly_kept(checkpoints)
    ]
    _load(probe, checkpoints / BEST)
    evaluator.validate(probe, datamodule=data, verbose=False)
    dev = probe.predictions["dev"]
    metrics = {f"dev/{k}": v for k, v in task.score("dev", dev).items()}
    metrics |= {f"dev/{k}": v for k, v in task.tune(dev).items()}
    metrics |= _test(evaluator, probe, data, checkpoints / BEST)
    if on_test:
        best_of = min if task.headline_mode == "min" else max
        metrics[f"{task.headline}_best_of_{len(on_test)}_test"] = best_of(on_test)
    weights = probe.featurizer.weights()
    if processes.first:
        predictions = folder / "predictions"
        predictions.mkdir(exist_ok=True)
        task.write_predictions(predictions, "test", probe.predictions["test"])
        plot_probe_curves(folder, task.monitor)
        if weights is not None:
            plot_layer_weights(weights.tolist(), folder / "layer_weights.png")
    curves = read_curves(folder)
    return Outcome(
        metrics=metrics,
        best=dict(best),
        layer_weights=[] if weights is None else [round(w, 6) for w in weights.tolist()],
        curve={k: sorted(v.items()) for k, v in curves.items() if k.startswith("dev/")},
        counts=data.counts(),
        checkpoint=str(checkpoints / BEST),
        checkpoint_sha256=file_sha256(checkpoints / BEST),
    )


def _test(
    evaluator: lightning.Trainer, probe: Probe, data: TaskData, checkpoint: Path
) -> dict[str, float]:
    """Figures on test with a checkpoint's weights."""
    _load(probe, checkpoint)
    evaluator.test(probe, datamodule=data, verbose=False)
    scores = probe.task.score("test", probe.predictions["test"])
    metrics = {f"test/{k}": v for k, v in scores.items()}
    if wrong := [k for k, v in metrics.items() if not math.isfinite(v)]:
        raise ValueError(f"{checkpoint}: not finite: {', '.join(wrong)}")
    return metrics


def _evenly_kept(checkpoints: Path) -> list[Path]:
    paths = checkpoints.glob("evenly/update*.ckpt")
    return sorted(paths, key=lambda path: int(path.stem.removeprefix("update")))


def _load(probe: Probe, checkpoint: Path) -> None:
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    probe.load_state_dict(content["state_dict"])


def _evaluator(settings: ProbeSettings, processes: Processes) -> lightning.Trainer:
    """A Trainer that only evaluates, without logs."""
    wanted = ("accelerator", "strategy", "precision")
    flags = {k: settings.trainer.get(k) for k in wanted}
    return lightning.Trainer(
        **device_flags(flags, processes),
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )


def _trainer(
    settings: ProbeSettings,
    task: Task[Any],
    data: TaskData,
    folder: Path,
    processes: Processes,
    *,
    keep: KeepBest,
) -> lightning.Trainer:
    total, checkpoints = settings.optim.total_updates, folder / "checkpoints"
    validate = min(settings.run.validate_updates, total)
    flags = dict(settings.trainer)
    if flags.get("precision") is None:
        flags["precision"] = "32-true"  # heads are small; the upstream has a precision of its own
    callbacks: list[Any] = [progress(total, _figures(task)), keep]
    if task.test_checkpoints:
        evenly = checkpoints / "evenly"
        callbacks.append(KeepEvenly(evenly, count=task.test_checkpoints, total_updates=total))
    callbacks.append(
        SaveAndStop(
            checkpoints / LAST,
            every_updates=settings.run.checkpoint_updates,
            validate_updates=validate,
        )
    )
    return build_trainer(
        flags,
        folder,
        processes,
        pace=Pace(total, data.plan.batches_per_update, validate),
        loggers=build_loggers(
            folder,
            root=settings.run.dir,
            wandb=settings.wandb,
            tensorboard=settings.tensorboard,
            values=settings.values,
        ),
        callbacks=callbacks,
    )


def _figures(task: Task[Any]) -> dict[str, tuple[str, str]]:
    shown = task.monitor.replace("/", " ").replace("_", " ")
    return {"train/loss": ("loss", "{:.3f}"), task.monitor: (shown, "{:.2f}")}


def _about(settings: ProbeSettings, probe: Probe, data: TaskData, *, resumed: bool) -> str:
    """What is about to be trained."""
    counts = data.counts()
    head = sum(p.numel() for p in probe.head.parameters())
    splits = ", ".join(
        f"{s} {counts[f'{s}_utterances']:.0f} ({counts[f'{s}_hours']:.2f} h)" for s in data.splits
    )
    left_out = "".join(f"; {k} {v:.0f}" for k, v in probe.task.left_out().items() if v)
    return (
        f"{'resuming' if resumed else 'training'} {probe.task.name}"
        f"{' ' + probe.task.variant if probe.task.variant else ''}: head of {head:,} parameters on "
        f"{probe.upstream.num_layers} layers of width {probe.upstream.dim}, "
        f"{settings.optim.total_updates} updates; {splits}{left_out}; features "
        f"{'computed at each use' if probe.cache is None else 'kept in ' + settings.cache.dir}"
    )


def sources_of(settings: ProbeSettings, task: type[Task[Any]], processes: Processes) -> Sources:
    """Where the task's recordings lie; the first process makes the mini corpus if it is wanted."""
    paths: dict[str, str | None] = asdict(settings.paths)
    if settings.kind == "mini":
        if processes.first:
            show = counter(f"making the mini {task.corpus}")
            paths[task.corpus] = str(superb_corpus(task.corpus, MINI_CACHE, progress=show))
        paths = processes.from_first(paths)
    manifest = Path(settings.data.manifest) if settings.data.manifest else None
    return Sources(settings.kind, paths, manifest)
