# SPDX-License-Identifier: Apache-2.0
"""Means over time in place of frames: a head that knows no more gives the same logits."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from downstream.cache import FeatureCache
from downstream.data import TaskData
from downstream.featurizer import FeaturizerConfig
from downstream.learner import Learner
from downstream.pooled import MeansOverTime
from downstream.probe import Probe
from downstream.task import Batch, Task
from downstream.upstream import Frozen

from .test_tasks import CONFIG, OPTIM, MakeTask

STEPS = 8


def trained(probe: Probe, batches: list[Batch]) -> list[torch.Tensor]:
    """Logits of every batch, after some steps on them."""
    learner = probe.all_learners()[0]
    optimizer: Any = probe.configure_optimizers()
    for step in range(STEPS):
        batch = batches[step % len(batches)]
        learner.loss(probe(batch), batch, step).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), OPTIM.clip)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return [learner.head(learner(probe(batch), batch)) for batch in batches]


def batches_of(task: Task[Any]) -> list[Batch]:
    data = TaskData(task, CONFIG, total_updates=3, seed=0)
    data.config = dataclasses.replace(CONFIG, eval_seconds=16.0)
    return list(data.eval_dataloader("test"))


@pytest.mark.parametrize(
    "config",
    [
        FeaturizerConfig(),
        FeaturizerConfig(normalize=True),
        FeaturizerConfig(layer=1),
    ],
    ids=["sum", "normalised", "one layer"],
)
def test_logits_are_those_of_frames_after_the_same_steps(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path, config: FeaturizerConfig
) -> None:
    task = make_task("er")
    assert task.pools
    batches = batches_of(task)
    means = MeansOverTime(frozen, config)
    whole = Learner(task, frozen, config, lr=1e-2, seed=0)
    pooled = Learner(task, frozen, means.left_to_do, lr=1e-2, seed=0)
    cache = FeatureCache(tmp_path, dtype=torch.float32)
    a = trained(Probe(frozen, [whole], OPTIM), batches)
    b = trained(Probe(frozen, [pooled], OPTIM, cache=cache, means=means), batches)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-5)
    untrained = Learner(task, frozen, config, lr=1e-2, seed=0)
    moved = whole.head.classifier.weight - untrained.head.classifier.weight  # type: ignore[union-attr, operator]
    assert float(moved.abs().max()) > 1e-2


def test_a_task_that_pools_has_a_head_that_knows_the_mean_alone(
    make_task: MakeTask, frozen: Frozen
) -> None:
    task = make_task("er")
    learner = Learner(task, frozen, FeaturizerConfig(), lr=1e-2, seed=0)
    batch = batches_of(task)[0]
    with torch.no_grad():
        frames = learner(frozen(batch.waveforms, batch.lengths), batch)
        mean = frames.x.sum(1) / frames.lengths[:, None]
        same = mean[:, None].expand_as(frames.x)
        valid = torch.arange(same.shape[1]) < frames.lengths[:, None]
        flat = frames._replace(x=same * valid[..., None])
        torch.testing.assert_close(learner.head(frames), learner.head(flat), rtol=0, atol=1e-5)


def test_recordings_are_not_read_once_their_features_are_kept(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("er", "sd"):
        task = make_task(name)
        data = TaskData(task, CONFIG, total_updates=3, seed=0)
        learner = Learner(task, frozen, FeaturizerConfig(lengths="s3prl"), lr=1e-2, seed=0)
        (tmp_path / name).mkdir()
        cache = FeatureCache(tmp_path / name)
        probe = Probe(frozen, [learner], OPTIM, cache=cache).eval()
        before = list(data.eval_dataloader("test"))
        with torch.no_grad():
            first = [learner(probe(batch), batch) for batch in before]
        data.kept = cache.files
        with monkeypatch.context() as patch:
            patch.setattr(task, "load", lambda *_: pytest.fail("read"))
            after = list(data.eval_dataloader("test"))
        with torch.no_grad():
            again = [learner(probe(batch), batch) for batch in after]
        for a, b, x, y in zip(before, after, first, again, strict=True):
            assert b.waveforms.shape == (len(b.ids), 0)
            assert a.ids == b.ids
            assert a.targets == b.targets
            assert a.lengths.tolist() == b.lengths.tolist()
            torch.testing.assert_close(x.x, y.x, rtol=0, atol=0)


def test_a_task_that_looks_at_waveforms_gets_them(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path
) -> None:
    task = make_task("ss")
    data = TaskData(task, CONFIG, total_updates=3, seed=0)
    data.kept = FeatureCache(tmp_path).files
    batch = next(iter(data.eval_dataloader("test")))
    learner = Learner(task, frozen, FeaturizerConfig(), lr=1e-2, seed=0)
    Probe(frozen, [learner], OPTIM, cache=FeatureCache(tmp_path))(batch)
    assert next(iter(data.eval_dataloader("test"))).waveforms.shape[1] > 0
