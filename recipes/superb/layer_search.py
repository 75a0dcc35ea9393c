# SPDX-License-Identifier: Apache-2.0
"""A task that trains nothing: every layer of the upstream by itself, the best one on dev counts."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.families.search import Search
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.recipes.run.devices import device_of
from wavlm_lightning.recipes.run.loggers import finishing, loggers_of, with_wandb
from wavlm_lightning.recipes.superb.evaluation import Outcome, trivial_figures
from wavlm_lightning.recipes.superb.feature_source import FeatureSource, feature_source
from wavlm_lightning.recipes.superb.heads import heads_of
from wavlm_lightning.recipes.superb.leaderboard_files import write_submission
from wavlm_lightning.recipes.superb.settings import TaskSettings

MOST_BYTES = 4 * 2**30  # of features in memory; more layers than fit are computed in turns
Scores = dict[str, list[tuple[int, float]]]  # "dev/mtwv" -> layer and value


def score_layers(
    settings: TaskSettings, upstream: Frozen, task: Search[Any], folder: Path
) -> tuple[dict[str, Outcome], str]:
    """Scores of all layers; predictions of the best one in `folder`, and a picture of all.

    Returns:
        The same outcome for every head that is asked for, as there is none, and how the features
        came about.
    """
    data = TaskData(task, settings.data, total_updates=0, seed=settings.seed)
    device = device_of(settings.trainer)
    source = feature_source(settings, upstream.to(device), data)
    print(_about(task, upstream, data, source), flush=True)
    curves: Scores = {}
    kept: dict[str, dict[str, Any]] = {}  # predictions by split, of the best layer so far
    try:
        # Predictions of the best layer alone are kept: those of all layers would fill the memory.
        for split in task.splits:  # dev before test
            for layer, features in _by_layer(data, split, upstream, source, device):
                found = task.compare(split, features, device=device)
                scores = task.score(split, found)
                for key, value in scores.items():
                    curves.setdefault(f"{split}/{key}", []).append((layer, value))
                if layer == _best(task, curves)[0]:
                    kept[split] = found
                shown = ", ".join(f"{k} {v:.4f}" for k, v in scores.items())
                print(f"{split}, layer {layer}: {shown}", flush=True)
    finally:
        source.close()
    layer, value = _best(task, curves)
    for split, predictions in kept.items():
        _write(task, folder, split, predictions)
    metrics = {key: dict(pairs)[layer] for key, pairs in curves.items()} | {"layer": layer}
    _log(settings, folder, curves, metrics)
    outcome = Outcome(
        metrics=metrics,
        best={"value": value, "layer": layer},
        layer_weights=[float(i == layer) for i in range(upstream.num_layers)],
        curve=curves,
        counts=data.counts() | source.counts | task.excluded_counts(),
        checkpoint="",
        checkpoint_sha256="",
        trivial=trivial_figures(task, kept["test"]),
    )
    heads = heads_of(settings.heads, lr=settings.optim.lr, seed=settings.seed)
    return {head.name: outcome for head in heads}, source.about


def _best(task: Search[Any], curves: Scores) -> tuple[int, float]:
    """Layer and figure on dev, of those that are scored; the first of equals."""
    best_of = max if task.mode == "max" else min
    return best_of(curves[task.monitor], key=lambda pair: pair[1])


def _write(task: Search[Any], folder: Path, split: str, predictions: Mapping[str, Any]) -> None:
    place = folder / "predictions"
    place.mkdir(parents=True, exist_ok=True)
    task.write_predictions(place, split, predictions)
    if split == "test":
        write_submission(place, task.submission(predictions))


def _log(
    settings: TaskSettings, folder: Path, curves: Scores, metrics: Mapping[str, float]
) -> None:
    """Figures by layer, in place of the update, and those of the chosen one."""
    loggers = loggers_of(settings, folder)
    by_layer: dict[int, dict[str, float]] = {}
    for key, pairs in curves.items():
        for layer, value in pairs:
            by_layer.setdefault(layer, {})[key] = value
    with finishing(loggers):
        for logger in loggers:
            for layer, figures in by_layer.items():
                logger.log_metrics(figures, layer)
            logger.save()
        with_wandb(loggers, lambda run: run.summary.update(dict(metrics)))


def _by_layer(
    data: TaskData, split: str, upstream: Frozen, source: FeatureSource, device: str
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Each layer and its features (F, D) by id, on the CPU."""
    frames = sum(example.num_samples for example in data.splits[split]) / upstream.stride
    # The upstream gives all layers at once, so fewer turns are worth memory.
    at_once = max(1, int(MOST_BYTES // (4 * frames * upstream.dim)))
    for first in range(0, upstream.num_layers, at_once):
        layers = range(first, min(first + at_once, upstream.num_layers))
        found: dict[int, dict[str, Tensor]] = {layer: {} for layer in layers}
        for batch in data.eval_dataloader(split):
            features = _features(batch, upstream, source, device)
            for row, length in enumerate(features.lengths.tolist()):
                for layer in layers:
                    x = features.layers[layer][row, :length]
                    found[layer][batch.ids[row]] = x.float().cpu().clone()
        for layer in layers:
            yield layer, found.pop(layer)


def _features(batch: Batch, upstream: Frozen, source: FeatureSource, device: str) -> Features:
    waveforms = batch.waveforms.to(device)
    compute: Any = upstream
    if source.cache is not None:
        compute = partial(source.cache, batch.keys, compute=upstream, read=batch.read)
    features: Features = compute(waveforms, batch.lengths)
    return features


def _about(task: Search[Any], upstream: Frozen, data: TaskData, source: FeatureSource) -> str:
    counts = data.counts()
    splits = ", ".join(
        f"{s} {counts[f'{s}_utterances']:.0f} ({counts[f'{s}_hours']:.2f} h)" for s in data.splits
    )
    left_out = "".join(f"; {k} {v:.0f}" for k, v in task.excluded_counts().items() if v)
    return (
        f"{task.name}, nothing is trained (learning rates and seeds do not matter): "
        f"{upstream.num_layers} layers of width {upstream.dim}, one by one; {splits}{left_out}; "
        f"features: {source.about}"
    )
