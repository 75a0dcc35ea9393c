# SPDX-License-Identifier: Apache-2.0
"""What trained heads are worth: their best checkpoints on dev and test, and what they leave."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning

from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.task import Task
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.recipes.run.curves import (
    Curves,
    plot_layer_weights,
    plot_probe_curves,
    read_curves,
)
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.trainer import build_evaluator
from wavlm_lightning.recipes.superb.checkpoints import best_checkpoint, describe, read_state, take
from wavlm_lightning.recipes.superb.checkpoints_on_test import (
    Scores,
    best_on_test,
    keep_best_on_test,
    scores_on_test,
)
from wavlm_lightning.recipes.superb.feature_source import FeatureSource
from wavlm_lightning.recipes.superb.leaderboard_files import write_submission
from wavlm_lightning.recipes.superb.settings import TaskSettings


@dataclass(frozen=True)
class Outcome:
    """What one head left."""

    metrics: dict[str, float]
    best: dict[str, float]  # value that chose the checkpoint, and its update
    layer_weights: list[float]
    curve: dict[str, list[tuple[int, float]]]  # figures on dev by update
    counts: dict[str, float]
    checkpoint: str
    checkpoint_sha256: str
    drawn: dict[str, Any] = field(default_factory=dict)  # as Task.plot_data gives it
    trivial: dict[str, float] = field(default_factory=dict)  # figures of what learns nothing


def drop_learner(probe: Adapted, learner: Learner, why: str) -> None:
    """Leave out one head of several.

    Raises:
        ValueError: if no other is left.
    """
    learner.drop(probe.optim.total_updates)
    if not probe.active_learners():
        raise ValueError(why)
    if probe.trainer.is_global_zero:
        print(f"{learner.name} is left out: {why}", flush=True)


def evaluate(
    settings: TaskSettings,
    probe: Adapted,
    data: TaskData,
    folder: Path,
    processes: Processes,
    *,
    best: Mapping[str, Mapping[str, float]],
    source: FeatureSource,
) -> dict[str, Outcome]:
    """The best checkpoint of each head on dev and test, and what comes with it."""
    evaluator = build_evaluator(settings.devices, processes)
    taken = {
        x.name: take(probe, x, folder, settings.adaptation, processes)
        for x in probe.active_learners()
    }
    tell = partial(print, flush=True) if processes.first else None
    on_test = scores_on_test(lambda: _test(evaluator, probe, data), probe, folder, tell=tell)
    if probe.task.chosen_on_test:
        best = _chosen_on_test(probe, on_test, folder, processes)
    for learner in probe.active_learners():
        probe.load_portable(learner, read_state(taken[learner.name]))
    evaluator.validate(probe, datamodule=data, verbose=False)
    on_dev = {}
    for learner in probe.active_learners():
        dev, task = learner.predictions["dev"], learner.task
        on_dev[learner.name] = {f"dev/{k}": v for k, v in task.score("dev", dev).items()}
        on_dev[learner.name] |= {f"dev/{k}": v for k, v in task.tune(dev).items()}
    if processes.first:
        for learner in probe.active_learners():
            describe(taken[learner.name], settings, learner)
    processes.barrier()  # hashes below are of what is on disk
    tested = _test(evaluator, probe, data)
    curves = _curves_by_head(probe, read_curves(folder))
    counts = data.counts() | source.counts
    if processes.first:
        _draw_and_write(settings, probe, folder, curves)
    return {
        learner.name: Outcome(
            metrics=on_dev[learner.name]
            | _reported(learner.task, tested[learner.name])
            | best_on_test(learner.task, on_test[learner.name]),
            best=dict(best[learner.name]),
            layer_weights=_layer_weights(learner),
            curve={
                k: sorted(v.items())
                for k, v in curves[learner.name].items()
                if k.startswith("dev/")
            },
            counts=counts | learner.task.excluded_counts(),
            checkpoint=str(taken[learner.name]),
            checkpoint_sha256=file_sha256(taken[learner.name]),
            drawn=learner.task.plot_data("test", learner.predictions["test"]),
            trivial=trivial_figures(learner.task, learner.predictions["test"]),
        )
        for learner in probe.active_learners()
    }


def _reported(task: TrainedTask[Any], tested: dict[str, float]) -> dict[str, float]:
    """Without the headline where the best on test is all that is reported: it is that one."""
    left_out = task.headline if task.chosen_on_test else None
    return {name: value for name, value in tested.items() if name != left_out}


def trivial_figures(task: Task[Any], predictions: Mapping[str, Any]) -> dict[str, float]:
    """What the task's trivial answer reaches on test."""
    return {f"test/{name}": value for name, value in task.trivial(predictions).items()}


def _curves_by_head(probe: Adapted, curves: Curves) -> dict[str, Curves]:
    """Each head's own figures, under the names that they have where it is alone."""
    return {
        x.name: {
            k.removeprefix(x.log_key("")): v
            for k, v in curves.items()
            if k.startswith(x.log_key(""))
        }
        for x in probe.active_learners()
    }


def _layer_weights(learner: Learner) -> list[float]:
    weights = learner.featurizer.weights()
    return [] if weights is None else [round(w, 6) for w in weights.tolist()]


def _chosen_on_test(
    probe: Adapted, on_test: Scores, folder: Path, processes: Processes
) -> dict[str, dict[str, float]]:
    """Keep the best checkpoint on test of each learner as its best."""
    best = {}
    for learner in probe.active_learners():
        path = best_checkpoint(learner, folder)
        if processes.first:
            best[learner.name] = keep_best_on_test(
                path, probe, learner, on_test[learner.name], folder
            )
    return processes.from_first(best)


def _draw_and_write(
    settings: TaskSettings, probe: Adapted, folder: Path, curves: Mapping[str, Curves]
) -> None:
    """Predictions on test of each head; curves and layer weights of all in one picture."""
    title = f"{probe.task.name} on {settings.upstream.name}, {settings.corpus}"
    for learner in probe.active_learners():
        predictions = folder / learner.name / "predictions"
        predictions.mkdir(parents=True, exist_ok=True)
        learner.task.write_predictions(predictions, "test", learner.predictions["test"])
        write_submission(predictions, learner.task.submission(learner.predictions["test"]))
    plot_probe_curves(curves, probe.task.monitor, folder / "curves.png", title=title)
    weights = {x.name: _layer_weights(x) for x in probe.active_learners()}
    if all(weights.values()):
        plot_layer_weights(weights, folder / "layer_weights.png", title=title)


def _test(
    evaluator: lightning.Trainer, probe: Adapted, data: TaskData
) -> dict[str, dict[str, float]]:
    """Figures on test of each head, with the weights that it has now."""
    evaluator.test(probe, datamodule=data, verbose=False)
    figures = {}
    for learner in probe.active_learners():
        scores = learner.task.score("test", learner.predictions["test"])
        figures[learner.name] = {f"test/{k}": v for k, v in scores.items()}
        if wrong := [k for k, v in figures[learner.name].items() if not math.isfinite(v)]:
            drop_learner(probe, learner, f"not finite: {', '.join(wrong)}")
    return figures
