# SPDX-License-Identifier: Apache-2.0
"""The probe: what it trains, what its checkpoints hold, what it says when something is wrong."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.probe import NonFiniteLossError
from wavlm_lightning.downstream.features.cache import FeatureCache
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Task

from .test_tasks import MakeTask, predict, probe_and_data


def trainer(folder: Path) -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=folder,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def test_a_fit_leaves_the_upstream_as_it_was_and_out_of_the_checkpoint(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in frozen.upstream.state_dict().items()}
    probe, data = probe_and_data(make_task("er"), frozen)
    head = {k: v.clone() for k, v in probe.state_dict().items()}
    fitted = trainer(tmp_path)
    fitted.fit(probe, datamodule=data)
    for name, tensor in frozen.upstream.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    fitted.save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    assert {k.split(".")[2] for k in state} == {"featurizer", "head"}
    assert all(not torch.equal(state[k], head[k]) for k in state)


def test_a_checkpoint_loads_and_a_missing_tensor_is_an_error(
    make_task: MakeTask, frozen: Frozen
) -> None:
    probe, _ = probe_and_data(make_task("er"), frozen)
    state = dict(probe.state_dict())
    probe.load_state_dict(state)
    state.pop("learners.0.head.classifier.weight")
    with pytest.raises(RuntimeError, match=r"learners\.0\.head\.classifier\.weight"):
        probe.load_state_dict(state)


def test_first_weights_depend_on_the_seed_alone(make_task: MakeTask, frozen: Frozen) -> None:
    task = make_task("er")
    made = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        learner = Learner(task, frozen, FeaturizerConfig(), lr=1e-3, seed=seed)
        made.append(learner.head.state_dict())
    same = [torch.equal(made[0][k], made[1][k]) for k in made[0]]
    other = [torch.equal(made[0][k], made[2][k]) for k in made[0]]
    assert all(same)
    assert not any(other)


def test_kept_features_give_the_same_predictions_to_16_bit(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path
) -> None:
    task = make_task("asv")
    probe, data = probe_and_data(task, frozen)
    batch = next(iter(data.test_dataloader()))
    with torch.no_grad():
        computed = predict(probe, batch)
        probe.cache = FeatureCache(tmp_path)
        for _ in range(2):
            kept = predict(probe, batch)
            for a, b in zip(computed, kept, strict=True):
                assert float(a["embedding"] @ b["embedding"]) > 0.9999


def test_a_loss_that_is_not_finite_names_the_utterances(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task("er")
    probe, data = probe_and_data(task, frozen)
    monkeypatch.setattr(
        probe.task, "loss", lambda *_: torch.tensor(float("nan"), requires_grad=True)
    )
    with pytest.raises(NonFiniteLossError, match=r"update 1: the loss is nan on Ses0"):
        trainer(tmp_path).fit(probe, datamodule=data)


def test_out_of_memory_names_the_utterances_and_the_keys(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("too much")

    task: Task[Any] = make_task("er")
    probe, data = probe_and_data(task, frozen)
    monkeypatch.setattr(probe.task, "loss", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"Ses0.* lower data\.batch_size and raise"):
        trainer(tmp_path).fit(probe, datamodule=data)


def test_predictions_are_in_the_order_of_the_examples(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path
) -> None:
    task = make_task("er")
    probe, data = probe_and_data(task, frozen)
    trainer(tmp_path).test(probe, datamodule=data, verbose=False)
    assert list(probe.all_learners()[0].predictions["test"]) == [
        e.id for e in task.examples("test")
    ]


def test_each_update_and_place_drops_something_else_and_the_same_each_time(
    make_task: MakeTask, frozen: Frozen
) -> None:
    probe, data = probe_and_data(make_task("asr"), frozen)
    learner, batch = probe.all_learners()[0], next(iter(data.train_dataloader()))
    features = probe(batch)
    learner.train()
    losses = [float(learner.loss(features, batch, *drawn)) for drawn in ((0, 0), (1, 0), (0, 1))]
    assert len(set(losses)) == 3
    assert float(learner.loss(features, batch, 0, 0)) == losses[0]


def test_head_and_layer_weights_are_clipped_together(make_task: MakeTask, frozen: Frozen) -> None:
    probe, _ = probe_and_data(make_task("er"), frozen)
    probe._logs = lambda: False  # type: ignore[method-assign]
    (learner,) = probe.all_learners()
    for p in learner.parameters():
        p.grad = torch.ones_like(p)
    probe._clip()
    norm = torch.nn.utils.get_total_norm([p.grad for p in learner.parameters()])
    assert float(norm) == pytest.approx(probe.optim.clip, rel=1e-4)
