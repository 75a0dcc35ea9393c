# SPDX-License-Identifier: Apache-2.0
"""Mean over time and the linear head: published sizes, order of steps, padding."""

import pytest
import torch

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.pooling import MeanPoolLinear, mean_over_time


def padded(lengths: list[int], dim: int) -> Frames:
    x = torch.nn.utils.rnn.pad_sequence([torch.randn(n, dim) for n in lengths], batch_first=True)
    return Frames(x, torch.tensor(lengths))


@pytest.mark.parametrize(
    ("dim", "num_classes", "parameters"),
    [
        (768, 4, 197_892),  # emotions
        (1024, 4, 263_428),
        (240, 4, 62_724),
        (768, 12, 199_948),  # key words, the same head
        (1024, 12, 265_484),
        (240, 12, 64_780),
        (768, 1251, 518_371),  # speakers
        (1024, 1251, 583_907),
        (240, 1251, 383_203),
        (768, 24, 203_032),  # actions, objects and locations
        (1024, 24, 268_568),
        (240, 24, 67_864),
    ],
)
def test_head_has_the_published_parameter_count(
    dim: int, num_classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        head = MeanPoolLinear(dim, hidden=256, num_classes=num_classes)
    assert sum(p.numel() for p in head.parameters()) == parameters


def test_mean_is_over_valid_frames() -> None:
    x = torch.tensor([[[1.0], [3.0], [8.0]], [[2.0], [4.0], [0.0]]])
    mean = mean_over_time(Frames(x, torch.tensor([3, 2])))
    torch.testing.assert_close(mean, torch.tensor([[4.0], [3.0]]))


def test_head_is_the_mean_of_projections_classified() -> None:
    head, frames = MeanPoolLinear(24, hidden=16, num_classes=5), padded([30], 24)
    wanted = head.classifier(head.projection(frames.x).mean(1))
    torch.testing.assert_close(head(frames), wanted, rtol=0, atol=1e-5)


def test_padding_does_not_change_the_logits() -> None:
    head, frames = MeanPoolLinear(24, hidden=16, num_classes=5), padded([30, 7, 1], 24)
    alone = [head(Frames(x[None, :n], torch.tensor([n]))) for x, n in zip(*frames, strict=True)]
    torch.testing.assert_close(head(frames), torch.cat(alone), rtol=0, atol=1e-5)
