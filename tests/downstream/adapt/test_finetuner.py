# SPDX-License-Identifier: Apache-2.0
"""Which of an encoder's weights train: those that a loss depends on, and no others."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.downstream.adapt.finetuner import Finetuner, shape_of
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.policy import AdaptationConfig, InputMasking
from wavlm_lightning.downstream.config import OptimConfig
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frames import ConvolutionFraming, Frames
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.masking import SpanMask

SHAPE = {"num_layers": 3, "dim": 32, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
SHAPE |= {"position_kernel": 16, "position_groups": 4, "layer_drop": 0.0}
OPTIM = OptimConfig(
    name="adam", lr=1e-3, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0, clip=0.0, total_updates=9
)
MASKED = InputMasking(time=SpanMask(prob=0.5, length=2, min_spans=1))
LENGTHS = torch.tensor([8000, 6000])


class Toy:
    """As much of a task as a training step looks at."""

    name, classes, monitor, mode = "toy", (), "dev/loss", "min"
    framing = ConvolutionFraming()

    def with_seed(self, _: int) -> "Toy":
        return self

    def head(self, dim: int) -> nn.Module:
        return nn.Linear(dim, 1)

    def loss(self, head: nn.Module, frames: Frames, batch: Batch) -> torch.Tensor:
        return head(frames.x).square().mean()


def finetuner(
    size: str, layer: int | str | None, adaptation: AdaptationConfig, masking: InputMasking
) -> Finetuner:
    torch.manual_seed(0)
    config = dataclasses.replace(WavLMConfig.preset(size), **SHAPE)
    model = WavLM(config)
    task: Any = Toy()
    learner = Learner(task, shape_of(model, layer), FeaturizerConfig(), lr=1e-3, seed=0)
    module = Finetuner(
        model, learner, OPTIM, adaptation, masking, layer=layer, rows_of_update=lambda _: [2]
    )
    module.train()
    return module


def trained(module: Finetuner) -> dict[str, nn.Parameter]:
    return {n: p for n, p in module.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("layer", [None, "last", 0, 1, 3])
@pytest.mark.parametrize("masking", [MASKED, InputMasking()], ids=["masked", "plain"])
@pytest.mark.parametrize(
    "adaptation",
    [
        AdaptationConfig(encoder="tuned"),
        AdaptationConfig(encoder="tuned", feature_encoder=True),
        AdaptationConfig(encoder="tuned", blocks=1),
        AdaptationConfig(encoder="lora"),
    ],
    ids=["tuned", "convolutions", "blocks", "lora"],
)
def test_every_weight_that_trains_has_a_gradient_and_no_other(
    size: str,
    layer: int | str | None,
    masking: InputMasking,
    adaptation: AdaptationConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = finetuner(size, layer, adaptation, masking)
    monkeypatch.setattr(Finetuner, "global_step", property(lambda _: 0))
    batch: Any = SimpleNamespace(
        waveforms=torch.randn(2, 8000), lengths=LENGTHS, epochs=[0, 0], indices=[0, 1]
    )
    features = module._masked_features(batch)
    module.learner.loss(features, batch, 0, 0).backward()
    found = trained(module)
    assert [name for name, p in found.items() if p.grad is None] == []
    assert [
        n for n, p in module.model.named_parameters() if p.grad is not None and n not in found
    ] == []
    convolutions = any(name.startswith("feature_encoder") for name in found)
    assert convolutions == adaptation.feature_encoder
    assert ("mask_embedding" in found) == (
        masking.masks_time and adaptation.encoder == "tuned" and adaptation.blocks is None
    )


def test_a_batch_counts_by_its_share_of_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    module = finetuner("base", "last", AdaptationConfig(encoder="tuned"), InputMasking())
    module.rows_of_update = [[9, 9], [2, 1, 3]].__getitem__  # of updates 0 and 1
    trainer = SimpleNamespace(log_every_n_steps=1000)
    monkeypatch.setattr(Finetuner, "trainer", property(lambda _: trainer))
    monkeypatch.setattr(Finetuner, "global_step", property(lambda _: 1))
    module._place = 0
    batch: Any = SimpleNamespace(
        waveforms=torch.randn(2, 8000), lengths=LENGTHS, epochs=[0, 0], indices=[0, 1], ids="ab"
    )
    loss = module.training_step(batch, 0)
    assert float(loss.detach()) == pytest.approx(float(module.latest["train/loss"]) * 2 * 3 / 6)
    batch.ids = "a"
    loss = module.training_step(batch, 0)
    assert float(loss.detach()) == pytest.approx(float(module.latest["train/loss"]) * 1 * 3 / 6)
