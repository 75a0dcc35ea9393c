# SPDX-License-Identifier: Apache-2.0
"""Frame counts and padding, against the closed formula and by hand."""

import pytest
import torch

from wavlm_lightning.lengths import block_lengths, conv_lengths, pad_batch, padding_mask


def test_conv_lengths_follow_the_formula() -> None:
    samples = torch.arange(400, 20_001)
    torch.testing.assert_close(conv_lengths(samples), (samples - 400) // 320 + 1)


@pytest.mark.parametrize("samples", [400, 719, 720, 12_345, 250_000])
def test_conv_lengths_of_a_number_and_of_a_tensor_agree(samples: int) -> None:
    assert conv_lengths(samples) == int(conv_lengths(torch.tensor(samples)))


@pytest.mark.parametrize(
    ("samples", "frames"), [(16_000, 49), (32_000, 99), (250_000, 781), (1_600_000, 4999)]
)
def test_conv_lengths_of_published_examples(samples: int, frames: int) -> None:
    assert conv_lengths(samples) == frames


def test_less_than_one_frame_counts_as_none() -> None:
    samples = torch.tensor([0, 1, 9, 10, 100, 399])
    torch.testing.assert_close(conv_lengths(samples), torch.zeros(6, dtype=torch.int64))


def test_block_lengths_count_one_frame_more_than_the_convolutions() -> None:
    lengths = torch.tensor([48_000, 32_000])
    assert conv_lengths(lengths).tolist() == [149, 99]
    assert block_lengths(lengths, 48_000, 149).tolist() == [149, 100]


def test_block_lengths_never_exceed_the_frames() -> None:
    lengths = torch.arange(400, 4001)
    assert int(block_lengths(lengths, 4000, conv_lengths(4000)).max()) == conv_lengths(4000)


def test_padding_mask_is_true_on_padding() -> None:
    expected = torch.tensor([[False, False, False], [False, True, True], [True, True, True]])
    torch.testing.assert_close(padding_mask(torch.tensor([3, 1, 0]), 3), expected)


def test_pad_batch_puts_zeros_after_each_waveform() -> None:
    waveforms, lengths = pad_batch([torch.tensor([1.0]), torch.tensor([2.0, 3.0, 4.0])])
    torch.testing.assert_close(waveforms, torch.tensor([[1.0, 0.0, 0.0], [2.0, 3.0, 4.0]]))
    torch.testing.assert_close(lengths, torch.tensor([1, 3]))
