# SPDX-License-Identifier: Apache-2.0
"""The mask estimator: published sizes, shape and sign of masks, padding."""

import pytest
import torch

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.mask import MaskBlstm

LENGTHS = [20, 33, 5]


def padded(lengths: list[int], dim: int) -> Frames:
    x = torch.nn.utils.rnn.pad_sequence([torch.randn(n, dim) for n in lengths], batch_first=True)
    return Frames(x, torch.tensor(lengths))


def make_head(*, dropout: float = 0.5) -> MaskBlstm:
    return MaskBlstm(24, hidden=12, num_layers=3, dropout=dropout, num_sources=2, num_bins=9)


@pytest.mark.parametrize(
    ("dim", "num_sources", "parameters"),
    [
        (768, 2, 51_427_330),
        (1024, 2, 53_262_338),
        (240, 2, 47_642_626),
        (768, 1, 50_966_529),  # enhancement, the same head
        (1024, 1, 52_801_537),
    ],
)
def test_head_has_the_published_parameter_count(
    dim: int, num_sources: int, parameters: int
) -> None:
    with torch.device("meta"):
        head = MaskBlstm(
            dim, hidden=896, num_layers=3, dropout=0.5, num_sources=num_sources, num_bins=257
        )
    assert sum(p.numel() for p in head.parameters()) == parameters


def test_masks_have_sources_before_frames_before_frequencies() -> None:
    assert make_head()(padded(LENGTHS, 24)).shape == (3, 2, 33, 9)


def test_masks_are_not_negative() -> None:
    assert float(make_head()(padded(LENGTHS, 24)).min().detach()) == 0.0


def test_each_source_has_a_mask_of_its_own() -> None:
    masks = make_head().eval()(padded([20], 24))
    assert float((masks[:, 0] - masks[:, 1]).abs().max().detach()) > 1e-3


def test_padding_does_not_change_the_masks() -> None:
    head, frames = make_head().eval(), padded(LENGTHS, 24)
    together = head(frames)
    for row, length in enumerate(LENGTHS):
        alone = head(Frames(frames.x[row : row + 1, :length], torch.tensor([length])))
        torch.testing.assert_close(together[row, :, :length], alone[0], rtol=0, atol=1e-5)


def test_dropout_follows_the_last_blstm() -> None:
    head = make_head(dropout=1.0)
    masks = head(padded([5], 24))
    biases = torch.stack([mask.bias for mask in head.masks])[None, :, None]
    torch.testing.assert_close(masks, biases.relu().expand_as(masks), rtol=0, atol=0)
