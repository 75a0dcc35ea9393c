# SPDX-License-Identifier: Apache-2.0
"""One update: its gradient is the mean over its masked frames, however batches are shared."""

import contextlib
import dataclasses
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from wavlm_lightning import WavLMConfig
from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.pretrain.config import OptimConfig
from wavlm_lightning.pretrain.data import PretrainBatch
from wavlm_lightning.pretrain.objective import (
    ObjectiveConfig,
    feature_penalty,
    frames_to_predict,
)
from wavlm_lightning.pretrain.pretrainer import Pretrainer
from wavlm_lightning.training import NonFiniteLossError

OBJECTIVE = ObjectiveConfig(projection_dim=16, temperature=0.1, feature_penalty=10.0)
CLUSTERS = 20


def optim(clip: float = 0.0) -> OptimConfig:
    return OptimConfig(
        lr=1e-3,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.01,
        warmup_updates=1,
        total_updates=9,
        clip=clip,
    )


def batch_of(rows: int, hidden: int, seed: int) -> PretrainBatch:
    """Rows of a second, `hidden` frames of each hidden."""
    generator = torch.Generator().manual_seed(seed)
    frames = int(conv_lengths(16_000))
    masked = torch.zeros(rows, frames, dtype=torch.bool)
    masked[:, 5 : 5 + hidden] = True
    waveforms = 0.1 * torch.randn(rows, 16_000, generator=generator)
    labels = torch.randint(CLUSTERS, (rows, frames, 1), generator=generator)
    return PretrainBatch(
        waveforms,
        torch.full((rows,), 16_000),
        labels,
        masked,
        masked_places=frames_to_predict(labels, masked),
        unmasked_places=frames_to_predict(labels, ~masked),
        mixed=0,
        ids=[f"{seed}-{i}" for i in range(rows)],
        epoch=0,
    )


BATCHES = [batch_of(2, 10, 0), batch_of(1, 30, 1)]  # 20 and 30 masked frames


def make(tiny: WavLMConfig, clip: float = 0.0) -> Pretrainer:
    return Pretrainer(tiny, OBJECTIVE, optim(clip), num_clusters=(CLUSTERS,), seed=0)


def wanted_gradient(module: Pretrainer) -> list[Tensor]:
    """Of the mean over the masked frames of both batches, by the definition."""
    module.train()
    loss, frames = torch.zeros(()), 0
    for batch in BATCHES:
        features = module.model.encode(batch.waveforms, batch.lengths, masked=batch.masked)
        out = module.objective(features.output, batch.labels, batch.masked_places)
        hidden = int(batch.masked.sum())
        loss = loss + out.loss + 10.0 * feature_penalty(features.conv_features) * hidden
        frames += hidden
    return list(torch.autograd.grad(loss / frames, list(module.parameters())))


def fitted(module: Pretrainer, tmp_path: Any) -> list[Tensor]:
    """The gradient that the optimizer was given, of one update of two batches."""
    found: list[Tensor] = []

    class Look(lightning.Callback):
        def on_before_zero_grad(self, *_: Any) -> None:
            found[:] = [p.grad.clone() for p in module.parameters() if p.grad is not None]

        def on_train_end(self, *_: Any) -> None:
            self.on_before_zero_grad()

    trainer = lightning.Trainer(
        max_steps=1,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[Look()],
    )
    trainer.fit(module, DataLoader(BATCHES, batch_size=None))  # type: ignore[arg-type]
    return found


def test_gradient_is_the_mean_over_the_hidden_frames_of_all_batches(
    tiny: WavLMConfig, tmp_path: Any
) -> None:
    wanted = wanted_gradient(make(tiny))
    found = fitted(make(tiny), tmp_path)
    assert len(found) == len(wanted) > 20
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_gradient_is_clipped_over_all_parameters(tiny: WavLMConfig, tmp_path: Any) -> None:
    wanted = wanted_gradient(make(tiny))
    norm = float(torch.nn.utils.get_total_norm(wanted))
    most = norm / 3
    for ours, theirs in zip(fitted(make(tiny, most), tmp_path), wanted, strict=True):
        torch.testing.assert_close(ours, theirs / 3, rtol=1e-3, atol=1e-6)


def test_processes_and_batches_are_undone(
    tiny: WavLMConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning divides by accumulated batches, distributed training by processes."""
    module = make(tiny)
    trainer = SimpleNamespace(accumulate_grad_batches=4, world_size=3, precision="32-true")
    monkeypatch.setattr(Pretrainer, "trainer", property(lambda _: trainer))
    monkeypatch.setattr(Pretrainer, "global_step", property(lambda _: 0))
    monkeypatch.setattr(Pretrainer, "_log_update", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums.mul_(3))
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    # 50 masked frames here, 150 in all processes.
    module._batches = [batch_of(1, 20, 0), batch_of(1, 30, 1)]
    module._losses = [torch.zeros(3)] * 2
    module.on_before_optimizer_step(None)  # type: ignore[arg-type]
    for p in module.parameters():
        torch.testing.assert_close(p.grad, torch.full_like(p, 1000.0 * 4 * 3 / 150))


def test_dropout_differs_between_places_and_not_between_ways_to_share_them(
    tiny: WavLMConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make(tiny)
    monkeypatch.setattr(Pretrainer, "global_step", property(lambda _: 5))

    def drawn(batch_idx: int, *, world: int, rank: int, steps: int) -> float:
        trainer = SimpleNamespace(accumulate_grad_batches=steps, world_size=world)
        monkeypatch.setattr(Pretrainer, "trainer", property(lambda _: trainer))
        monkeypatch.setattr(Pretrainer, "global_rank", property(lambda _: rank))
        module.on_train_batch_start(BATCHES[0], batch_idx)
        return float(torch.rand(()))

    alone = [drawn(i, world=1, rank=0, steps=4) for i in range(4)]
    two = [drawn(i // 2, world=2, rank=i % 2, steps=2) for i in range(4)]
    assert alone == two
    assert len(set(alone)) == 4


def test_a_loss_that_is_not_finite_elsewhere_stops_this_process_too(
    tiny: WavLMConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums are of all processes: here, all losses of this one are finite."""
    module = make(tiny)
    monkeypatch.setattr(Pretrainer, "global_step", property(lambda _: 7))
    module._batches, module._losses = list(BATCHES), [torch.ones(3)] * 2
    sums = [1.0, 0.0, 2.0, 50.0, 100.0, 3.0, 0.0]
    module._check_update(sums, norm=1.0)
    with pytest.raises(NonFiniteLossError, match="update 7 is not finite on another"):
        module._check_update([float("nan"), *sums[1:]], norm=1.0)


def test_the_host_reads_nothing_of_a_training_batch(
    tiny: WavLMConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without data stand for a device's: reading one, or waiting for one, raises."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    config = dataclasses.replace(OBJECTIVE, unmasked_weight=0.5)
    module = Pretrainer(tiny, config, optim(), num_clusters=(CLUSTERS,), seed=0).to("meta")
    batch = module.transfer_batch_to_device(BATCHES[0], torch.device("meta"), 0)
    assert batch.lengths.device.type == "cpu"
    assert batch.masked_places.device.type == "meta"
    features = module.model.encode(batch.waveforms, batch.lengths, masked=batch.masked)
    loss = module.objective(features.output, batch.labels, batch.masked_places)
    (loss.loss + module.added_loss(features, batch, frames=loss.frames)).backward()
    module.metrics["dev"].update(loss, batch.labels.flatten(0, 1)[:, 0], loss.predicted)
    assert module.objective.classes.grad is not None
