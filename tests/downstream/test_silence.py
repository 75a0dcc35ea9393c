# SPDX-License-Identifier: Apache-2.0
"""Digital silence is cut out, and nothing else is."""

import pytest
import torch
from torch import Tensor

from wavlm_lightning.downstream.data.silence import remove_silence

WINDOW = 320  # samples, 20 ms


def noise(num_samples: int, level: float = 0.1) -> Tensor:
    return level * torch.randn(num_samples)


def test_silence_between_words_is_cut_out() -> None:
    first, second = noise(20 * WINDOW), noise(15 * WINDOW)
    waveform = torch.cat([first, torch.zeros(25 * WINDOW), second])
    torch.testing.assert_close(remove_silence(waveform), torch.cat([first, second]))


def test_silence_at_both_ends_is_cut_out() -> None:
    word = noise(20 * WINDOW)
    waveform = torch.cat([torch.zeros(10 * WINDOW), word, torch.zeros(7 * WINDOW)])
    torch.testing.assert_close(remove_silence(waveform), word)


@pytest.mark.parametrize(("windows", "left"), [(4, 4), (5, 0)])
def test_pause_shorter_than_a_tenth_of_a_second_stays(windows: int, left: int) -> None:
    word = noise(10 * WINDOW)
    waveform = torch.cat([word, torch.zeros(windows * WINDOW), word])
    assert len(remove_silence(waveform)) == (20 + left) * WINDOW


@pytest.mark.parametrize(("level", "left"), [(5e-4, 20), (2e-3, 40)])
def test_silence_is_below_a_thousandth_of_full_scale(level: float, left: int) -> None:
    word = noise(10 * WINDOW)
    waveform = torch.cat([word, noise(20 * WINDOW, level), word])
    assert len(remove_silence(waveform)) == left * WINDOW


@pytest.mark.parametrize("num_samples", [16_013, 16_000, 320, 319, 0])
def test_speech_without_silence_stays_whole(num_samples: int) -> None:
    waveform = noise(num_samples)
    torch.testing.assert_close(remove_silence(waveform), waveform, rtol=0, atol=0)


@pytest.mark.parametrize("num_samples", [16_000, 16_013])
def test_recording_that_is_all_silent_stays_whole(num_samples: int) -> None:
    assert len(remove_silence(torch.zeros(num_samples))) == num_samples


def test_input_is_not_written_to() -> None:
    waveform = torch.cat([noise(20 * WINDOW), torch.zeros(20 * WINDOW)])
    before = waveform.clone()
    remove_silence(waveform)
    torch.testing.assert_close(waveform, before, rtol=0, atol=0)
