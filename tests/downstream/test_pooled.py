# SPDX-License-Identifier: Apache-2.0
"""Means over time in place of frames: a head that knows no more gives the same logits."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.pooled import MeansOverTime
from wavlm_lightning.downstream.adapt.probe import Probe
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.cache import FeatureCache
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Batch, Task
from wavlm_lightning.lengths import SAMPLE_RATE

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


class Counting(MeansOverTime):
    """Says how long the utterances were that it computed."""

    def __init__(self, upstream: Frozen):
        super().__init__(upstream, FeaturizerConfig())
        self.computed: list[int] = []

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor) -> Features:
        self.computed += lengths.tolist()
        return super().__call__(waveforms, lengths)


def test_drawn_crops_alone_are_computed_beside_means_that_are_kept(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_lengths = sorted(e.num_samples for e in make_task("sid").examples("train"))
    most = whole_lengths[len(whole_lengths) // 2]
    task = make_task("sid", max_seconds=most / SAMPLE_RATE)
    data = TaskData(task, CONFIG, total_updates=3, seed=0)
    means = Counting(frozen)
    cache = FeatureCache(tmp_path, dtype=torch.float32)
    learner = Learner(task, frozen, FeaturizerConfig(), lr=1e-2, seed=0)
    alone = Probe(frozen, [learner], OPTIM)
    mixed = Probe(frozen, [learner], OPTIM, cache=cache, means=means)
    places = [(0, i) for i in range(len(whole_lengths))]

    def batch_and_logits(probe: Probe) -> tuple[Batch, torch.Tensor]:
        dataset: Any = data.eval_dataloader("train").dataset
        with torch.no_grad():
            batch = dataset[places]
            return batch, learner.head(learner(probe(batch), batch))

    batch, expected = batch_and_logits(alone)
    drawn = [key is None for key in batch.keys]
    assert 0 < sum(drawn) < len(drawn)
    assert all(batch.read)
    torch.testing.assert_close(batch_and_logits(mixed)[1], expected, rtol=0, atol=1e-5)
    assert sorted(means.computed) == sorted(batch.lengths.tolist())
    means.computed.clear()
    data.kept = cache.files
    again, logits = batch_and_logits(mixed)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert means.computed == [most] * sum(drawn)
    assert again.read == drawn
    assert again.lengths.tolist() == batch.lengths.tolist()
    assert not again.waveforms[[not own for own in drawn]].any()
    # Features that vanish after the batch was made are computed from their recordings.
    for key in filter(None, again.keys):
        cache.files.path(key).unlink()
    cache.load = data.waveform
    with torch.no_grad():
        found = learner.head(learner(mixed(again), again))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


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
