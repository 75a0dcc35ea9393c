# SPDX-License-Identifier: Apache-2.0
"""SpecAugment: what is hidden, where, and what it must not depend on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning.downstream.data.specaug import SpecAugmentConfig, spec_augment
from wavlm_lightning.downstream.features.frames import Frames

NOTHING = SpecAugmentConfig(
    warp_window=0, num_feature_masks=0, feature_width=0, num_time_masks=0, time_width=0
)
ALL = SpecAugmentConfig(
    warp_window=5, num_feature_masks=2, feature_width=6, num_time_masks=2, time_width=8
)
WARP = dataclasses.replace(NOTHING, warp_window=5)
TIME = dataclasses.replace(NOTHING, num_time_masks=1, time_width=8)
FEATURE = dataclasses.replace(NOTHING, num_feature_masks=1, feature_width=6)


def make_frames(lengths: Sequence[int] = (40, 23, 4), dim: int = 16) -> Frames:
    generator = torch.Generator().manual_seed(0)
    rows = [1 + torch.rand(n, dim, generator=generator) for n in lengths]
    x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return Frames(x, torch.tensor(lengths))


def augment(frames: Frames, config: SpecAugmentConfig, seed: int = 0) -> Frames:
    """Row i draws from seed + i."""
    rngs = [np.random.default_rng(seed + i) for i in range(len(frames.x))]
    return spec_augment(frames, config, rngs)


def places(hidden: Tensor) -> list[int]:
    """Where a bool vector is true."""
    return hidden.nonzero()[:, 0].tolist()


def hidden_frames(length: int, config: SpecAugmentConfig, seed: int) -> list[int]:
    out = augment(make_frames([length]), config, seed)
    return places((out.x[0] == 0).all(1))


def hidden_dimensions(config: SpecAugmentConfig, seed: int, dim: int = 16) -> list[int]:
    out = augment(make_frames([30], dim), config, seed)
    return places((out.x[0] == 0).all(0))


def test_zero_settings_change_nothing() -> None:
    frames = make_frames()
    torch.testing.assert_close(augment(frames, NOTHING), frames, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["feature", "time"])
def test_masks_of_width_zero_change_nothing(name: str) -> None:
    frames = make_frames()
    changes = {f"num_{name}_masks": 3}
    config = dataclasses.replace(NOTHING, **changes)
    torch.testing.assert_close(augment(frames, config), frames, rtol=0, atol=0)


def test_shape_and_lengths_are_kept() -> None:
    frames = make_frames()
    for seed in range(50):
        out = augment(frames, ALL, seed)
        assert out.x.shape == frames.x.shape
        torch.testing.assert_close(out.lengths, frames.lengths)


def test_padding_stays_zero() -> None:
    out = augment(make_frames(), ALL)
    assert [float(x[n:].abs().sum()) for x, n in zip(*out, strict=True)] == [0.0, 0.0, 0.0]


def test_input_is_not_written_to() -> None:
    frames = make_frames()
    before = frames.x.clone()
    augment(frames, ALL)
    torch.testing.assert_close(frames.x, before, rtol=0, atol=0)


def test_same_generators_hide_the_same() -> None:
    frames = make_frames()
    torch.testing.assert_close(augment(frames, ALL, 3), augment(frames, ALL, 3), rtol=0, atol=0)


def test_other_generators_hide_something_else() -> None:
    frames = make_frames()
    assert float((augment(frames, ALL, 3).x - augment(frames, ALL, 9).x).abs().max()) > 0.1


def test_batch_mates_do_not_matter() -> None:
    frames = make_frames()
    together = augment(frames, ALL, 5)
    for row, length in enumerate(frames.lengths.tolist()):
        alone = Frames(frames.x[row : row + 1, :length], frames.lengths[row : row + 1])
        out = augment(alone, ALL, 5 + row)
        torch.testing.assert_close(together.x[row, :length], out.x[0], rtol=0, atol=0)


def test_time_mask_is_one_stretch_of_whole_frames() -> None:
    for seed in range(50):
        hidden = hidden_frames(30, TIME, seed)
        first = min(hidden, default=0)
        assert hidden == list(range(first, first + len(hidden)))


def test_time_masks_are_of_every_width_below_the_limit() -> None:
    widths = {len(hidden_frames(30, TIME, seed)) for seed in range(200)}
    assert widths == set(range(8))


def test_time_masks_reach_both_ends_of_an_utterance() -> None:
    hidden = {place for seed in range(300) for place in hidden_frames(30, TIME, seed)}
    assert hidden == set(range(30))


def test_feature_mask_is_one_stretch_of_dimensions() -> None:
    for seed in range(50):
        hidden = hidden_dimensions(FEATURE, seed)
        first = min(hidden, default=0)
        assert hidden == list(range(first, first + len(hidden)))


def test_feature_masks_are_of_every_width_below_the_limit() -> None:
    widths = {len(hidden_dimensions(FEATURE, seed)) for seed in range(200)}
    assert widths == set(range(6))


def test_feature_masks_reach_every_dimension() -> None:
    hidden = {place for seed in range(300) for place in hidden_dimensions(FEATURE, seed)}
    assert hidden == set(range(16))


def test_what_is_not_hidden_stays_as_it_is() -> None:
    frames = make_frames()
    out = augment(frames, dataclasses.replace(ALL, warp_window=0))
    torch.testing.assert_close(out.x, frames.x * (out.x != 0), rtol=0, atol=0)


def test_as_many_masks_are_drawn_as_are_asked_for() -> None:
    config = dataclasses.replace(NOTHING, num_time_masks=4, time_width=8)
    seen = [len(hidden_frames(400, config, seed)) for seed in range(100)]
    assert np.mean(seen) == pytest.approx(4 * 3.5, abs=1.5)  # 0 to 7 frames each


def test_masks_lie_inside_a_short_utterance() -> None:
    frames = make_frames([400, 12])
    config = dataclasses.replace(NOTHING, num_time_masks=1, time_width=8)
    hidden = [int((augment(frames, config, s).x[1, :12] == 0).all(1).sum()) for s in range(200)]
    assert np.mean(hidden) == pytest.approx(3.5, abs=0.5)  # as if it stood alone


def test_masks_wider_than_an_utterance_hide_no_more_than_all_of_it() -> None:
    config = dataclasses.replace(NOTHING, num_time_masks=1, time_width=50)
    assert max(len(hidden_frames(4, config, seed)) for seed in range(20)) == 4


def test_warp_moves_moments_by_about_the_window_at_most() -> None:
    ramp = torch.arange(60.0)[None, :, None].expand(1, 60, 3)
    moved = [
        float((augment(Frames(ramp, torch.tensor([60])), WARP, seed).x - ramp).abs().max())
        for seed in range(100)
    ]
    assert max(moved) < 5 + 1
    assert max(moved) > 3


def test_warp_keeps_what_does_not_change_over_time() -> None:
    x = torch.randn(16).expand(1, 60, 16)
    out = augment(Frames(x, torch.tensor([60])), WARP)
    torch.testing.assert_close(out.x, x)


def test_warp_keeps_dimensions_apart() -> None:
    x = torch.rand(1, 60, 16)
    x[..., 4] = 0.0
    out = augment(Frames(x, torch.tensor([60])), WARP)
    torch.testing.assert_close(out.x[..., 4], torch.zeros(1, 60), rtol=0, atol=1e-6)


def test_warp_is_torchs_bicubic_interpolation_of_two_parts() -> None:
    for seed in range(30):
        x = make_frames([40]).x
        rng = np.random.default_rng(seed)
        centre = int(rng.integers(5, 35))
        moved = int(rng.integers(centre - 5, centre + 5)) + 1
        parts = [(x[:, :centre], moved), (x[:, centre:], 40 - moved)]
        wanted = torch.cat(
            [
                F.interpolate(part[None], size=(size, 16), mode="bicubic", align_corners=False)[0]
                for part, size in parts
                if size
            ],
            dim=1,
        )
        out = augment(Frames(x, torch.tensor([40])), WARP, seed)
        torch.testing.assert_close(out.x, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("length", "warped"), [(10, False), (11, True)])
def test_utterances_of_two_windows_are_not_warped(length: int, warped: bool) -> None:
    frames = make_frames([length])
    moved = [float((augment(frames, WARP, s).x - frames.x).abs().max()) > 1e-3 for s in range(10)]
    assert any(moved) is warped
