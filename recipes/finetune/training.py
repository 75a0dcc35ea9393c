# SPDX-License-Identifier: Apache-2.0
"""One fine-tuning: from the latest checkpoint of its folder to its result."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning

from downstream.config import DataConfig
from downstream.data import TaskData
from downstream.finetuner import Finetuner
from downstream.transcription import Transcription
from recipes.finetune.settings import TASKS, FinetuneSettings
from recipes.run.callbacks import Figures, KeepBest
from recipes.run.checkpoints import BEST, CHECKPOINTS
from recipes.run.curves import plot_probe_curves, read_curves
from recipes.run.devices import device_words, with_precision
from recipes.run.fit import Training, fit, once
from recipes.run.folder import RESULT, point_to
from recipes.run.processes import Processes
from recipes.run.throughput import HOURS, SHARE, Throughput
from recipes.run.trainer import Pace, build_evaluator
from recipes.superb.examples import log_examples
from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.config import flat
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.checkpoint import load_wavlm
from wavlm_lightning.model.operations import BACKWARD, forward_operations
from wavlm_lightning.model.weights import source_sha256
from wavlm_lightning.result import write_result


@dataclass(frozen=True)
class Tuned:
    """What a fine-tuning left."""

    metrics: dict[str, float]
    counts: dict[str, float]
    checkpoint: Path


def run(
    settings: FinetuneSettings,
    task: Transcription[Any],
    folder: Path,
    processes: Processes,
    *,
    started: float,
) -> None:
    """Train and test in `folder`, write the result, and tell what came out.

    Args:
        settings: Configuration.
        task: With its recordings.
        folder: Of the run.
        processes: All of them call this.
        started: `time.perf_counter` at the start of the program.
    """
    tuned = finetune(settings, task, build_data(settings, task, processes), folder, processes)
    if processes.first:
        _finish(settings, tuned, folder, seconds=time.perf_counter() - started)


def finetune(
    settings: FinetuneSettings,
    task: Transcription[Any],
    data: TaskData,
    folder: Path,
    processes: Processes,
) -> Tuned:
    """Train in `folder`, or finish it, or read what it left if it is finished.

    Raises:
        StopSignal: if it was told to stop; what is done is saved.
    """

    def work() -> dict[str, Any]:
        metrics = _run(settings, task, data, folder, processes)
        return {"metrics": metrics, "counts": data.counts() | task.left_out()}

    return Tuned(**once(folder, processes, work), checkpoint=folder / CHECKPOINTS / BEST)


def _run(
    settings: FinetuneSettings,
    task: Transcription[Any],
    data: TaskData,
    folder: Path,
    processes: Processes,
) -> dict[str, float]:
    module = Finetuner(
        settings.model,
        task,
        settings.optim,
        settings.spans,
        seed=settings.seed,
        symbols=task.characters.symbols,
    )
    module.model.encoder.recompute = settings.recompute
    if settings.compile:
        module.model.compile_regions()
    best = folder / CHECKPOINTS / BEST
    keep = KeepBest(best, monitor=task.monitor, mode=task.mode)

    def begin() -> None:
        module.model.load_state_dict(load_wavlm(settings.source).state_dict())

    def finish(trainer: lightning.Trainer) -> dict[str, float]:
        if not keep.best:
            raise ValueError(f"{task.monitor} was never finite: lower optim.lr")
        metrics = _judge(settings, module, data, folder, processes, best)
        if processes.first:
            log_examples(
                trainer,
                task,
                module.predictions["test"],
                data.splits["test"],
                metrics=metrics,
                layer_weights=[],
            )
        return metrics

    total, run = settings.optim.total_updates, settings.run
    validate = min(run.validate_updates, total)
    training = Training(
        module=module,
        data=data,
        pace=Pace(total, data.plan.batches_per_update, validate, run.checkpoint_updates),
        trainer=with_precision(settings.trainer),
        throughput=Throughput(partial(_operations, settings)),
        figures=_figures(task.monitor),
        keep=[keep],
        begin=begin,
        about=lambda trainer, resumed: [
            _about(settings, module, data, trainer, resumed=resumed),
            *data.warnings(),
            *task.warnings(),
        ],
    )
    return fit(training, settings, folder, processes, finish=finish)


def _judge(
    settings: FinetuneSettings,
    module: Finetuner,
    data: TaskData,
    folder: Path,
    processes: Processes,
    best: Path,
) -> dict[str, float]:
    """The best checkpoint on dev and test."""
    module.load_state_dict(read_checkpoint(best)["state_dict"])
    evaluator = build_evaluator(with_precision(settings.trainer), processes)
    evaluator.validate(module, datamodule=data, verbose=False)
    evaluator.test(module, datamodule=data, verbose=False)
    metrics: dict[str, float] = {}
    for split in ("dev", "test"):
        scores = module.task.score(split, module.predictions[split])
        metrics |= {f"{split}/{key}": value for key, value in scores.items()}
    if processes.first:
        predictions = folder / "predictions"
        predictions.mkdir(exist_ok=True)
        module.task.write_predictions(predictions, "test", module.predictions["test"])
        plot_probe_curves({"": read_curves(folder)}, module.task.monitor, folder / "curves.png")
    return metrics


def _figures(monitor: str) -> Figures:
    return {
        "train/loss": ("loss", "{:.2f}"),
        monitor: (monitor.replace("/", " "), "{:.2f}"),
        HOURS: ("hours/hour", "{:.0f}"),
        SHARE: ("of matrix rate", "{:.0%}"),
    }


def _operations(settings: FinetuneSettings, num_samples: int) -> float:
    """Of a training step of the whole encoder."""
    return (1 + BACKWARD) * forward_operations(settings.model, num_samples)


def _about(
    settings: FinetuneSettings,
    module: Finetuner,
    data: TaskData,
    trainer: lightning.Trainer,
    *,
    resumed: bool,
) -> str:
    """What is about to be trained."""
    counts = data.counts()
    million = sum(p.numel() for p in module.parameters()) / 1e6
    splits = ", ".join(
        f"{s} {counts[f'{s}_utterances']:.0f} ({counts[f'{s}_hours']:.2f} h)" for s in data.splits
    )
    alone = settings.optim.head_updates
    return (
        f"{'resuming' if resumed else 'fine-tuning'} {settings.source} for {settings.name}: "
        f"{million:.1f} million parameters, {settings.optim.total_updates} updates"
        f"{f', the first {alone} of the head alone' if alone else ''}; {splits}; "
        f"{counts['padding_share']:.1%} padding; {trainer.world_size} process(es) on "
        f"{device_words(trainer)}"
    )


def build_data(settings: FinetuneSettings, task: Any, processes: Processes) -> TaskData:
    """Loaders whose batches and updates have the seconds that are asked for, about."""
    section, train = settings.data, task.examples("train")
    mean = sum(e.num_samples for e in train) / max(len(train), 1) / SAMPLE_RATE
    config = DataConfig(
        batch_size=max(1, round(section.seconds_per_batch / max(mean, 1e-9))),
        batches_per_update=max(1, round(section.seconds_per_update / section.seconds_per_batch)),
        order="bucketed",
        eval_seconds=section.eval_seconds,
        num_workers=section.num_workers,
    )
    return TaskData(
        task,
        config,
        total_updates=settings.optim.total_updates,
        seed=settings.seed,
        rank=processes.rank,
        world=processes.world,
    )


def _finish(settings: FinetuneSettings, tuned: Tuned, folder: Path, *, seconds: float) -> None:
    write_result(
        folder / RESULT,
        settings.name,
        upstream=settings.run.name,
        metrics=tuned.metrics,
        selected_on=TASKS[settings.name].monitor,
        config=flat(settings.values) | {"init.sha256": source_sha256(settings.source)},
        checkpoint=tuned.checkpoint,
        counts=tuned.counts,
        seconds=seconds,
    )
    point_to(folder)
    figures = [f"{key:<28} {value:.3f}" for key, value in tuned.metrics.items()]
    comparable = (
        []
        if settings.kind == "official"
        else [f"corpus       {settings.kind}: not comparable with published scores"]
    )
    print(
        "\n".join(
            [
                "",
                *figures,
                *comparable,
                f"seconds      {seconds:.0f}, this start",
                f"checkpoint   {tuned.checkpoint}",
                f"result       {folder / RESULT}",
                f"predictions  {folder / 'predictions'}",
                f"next: for transformers:  make export CKPT={tuned.checkpoint} OUT=DIR",
            ]
        ),
        flush=True,
    )
