# SPDX-License-Identifier: Apache-2.0
"""Reading sound: formats, channels, rates and spans; and what is refused, with its reason."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from wavlm_lightning.audio import (
    AudioError,
    audio_length,
    check_audio,
    read_audio,
    resampled_length,
    write_audio,
)

RATES = [8_000, 22_050, 44_100, 48_000]


def tones(seconds: float, rate: int, *, channels: int = 1) -> NDArray[np.float64]:
    """(T, channels) of tones below 2 kHz, so that every rate can hold them."""
    times = np.arange(round(seconds * rate)) / rate
    waves = [
        0.2 * np.sin(2 * np.pi * 313 * (c + 1) * times) + 0.1 * np.sin(2 * np.pi * 1700 * times + c)
        for c in range(channels)
    ]
    return np.stack(waves, axis=1)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "FLOAT", 1e-6),
        ("a.flac", "PCM_16", 1e-4),
        ("a.ogg", "VORBIS", 0.05),
    ],
)
def test_every_format_gives_the_samples_written(
    tmp_path: Path, name: str, subtype: str, tolerance: float
) -> None:
    data = tones(1, 16_000)
    soundfile.write(tmp_path / name, data, 16_000, subtype=subtype)
    waveform = read_audio(tmp_path / name)
    expected = torch.from_numpy(data[:, 0]).float()
    torch.testing.assert_close(waveform, expected, atol=tolerance, rtol=0)


def test_stereo_becomes_the_mean_of_its_channels(tmp_path: Path) -> None:
    data = tones(0.5, 16_000, channels=2)
    soundfile.write(tmp_path / "a.wav", data, 16_000, subtype="FLOAT")
    expected = torch.from_numpy(data.mean(1)).float()
    torch.testing.assert_close(read_audio(tmp_path / "a.wav"), expected)


@pytest.mark.parametrize("rate", RATES)
def test_resampling_gives_the_length_that_the_header_promises(tmp_path: Path, rate: int) -> None:
    for samples in (rate, rate + 1, rate // 3):
        path = tmp_path / f"{samples}.wav"
        soundfile.write(path, tones(samples / rate, rate), rate)
        wanted = resampled_length(samples, rate)
        assert wanted == int(np.ceil(samples * 16_000 / rate))
        assert (len(read_audio(path)), audio_length(path)) == (wanted, wanted)


@pytest.mark.parametrize("rate", RATES)
def test_resampling_keeps_the_sound(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tones(1, rate), rate, subtype="FLOAT")
    inner = slice(1000, -1000)  # the filter sees silence beyond both ends
    expected = torch.from_numpy(tones(1, 16_000)[:, 0]).float()
    waveform = read_audio(tmp_path / "a.wav")
    torch.testing.assert_close(waveform[inner], expected[inner], atol=5e-3, rtol=0)


@pytest.mark.parametrize("rate", [16_000, *RATES])
@pytest.mark.parametrize("span", [(0, 400), (16_000, 32_000), (15_999, 40_001), (50_000, None)])
def test_a_span_equals_the_same_span_of_the_whole(
    tmp_path: Path, rate: int, span: tuple[int, int | None]
) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(3.7 * rate))
    soundfile.write(tmp_path / "a.flac", noise, rate)
    whole = read_audio(tmp_path / "a.flac")
    part = read_audio(tmp_path / "a.flac", *span)
    torch.testing.assert_close(part, whole[slice(*span)], atol=1e-4, rtol=0)


def test_written_audio_reads_back(tmp_path: Path) -> None:
    waveform = torch.from_numpy(tones(0.1, 16_000)[:, 0]).float()
    write_audio(tmp_path / "a.flac", waveform)
    torch.testing.assert_close(read_audio(tmp_path / "a.flac"), waveform, atol=1e-4, rtol=0)


def test_check_audio_returns_the_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(1, 8_000), 8_000)
    assert check_audio(tmp_path / "a.wav") == 16_000


def refusal(path: Path, reason: str) -> str:
    return f"^{re.escape(str(path))}: .*{reason}"


@pytest.mark.parametrize("read", [read_audio, check_audio, audio_length])
def test_a_missing_file_is_named(tmp_path: Path, read) -> None:
    path = tmp_path / "gone.wav"
    with pytest.raises(AudioError, match=refusal(path, "no such file")):
        read(path)


@pytest.mark.parametrize("read", [read_audio, check_audio, audio_length])
def test_a_file_of_no_bytes_is_named(tmp_path: Path, read) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    with pytest.raises(AudioError, match=refusal(path, "empty file")):
        read(path)


@pytest.mark.parametrize("read", [read_audio, check_audio, audio_length])
def test_a_file_that_is_not_audio_is_named(tmp_path: Path, read) -> None:
    path = tmp_path / "a.wav"
    path.write_text("not a recording, whatever the name says")
    with pytest.raises(AudioError, match=refusal(path, "not readable as audio")):
        read(path)


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("read", [check_audio, audio_length])
def test_a_recording_of_no_samples_is_named(tmp_path: Path, rate: int, read) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), rate)
    with pytest.raises(AudioError, match=refusal(path, "0 samples")):
        read(path)


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_is_refused(tmp_path: Path, rate: int, value: float) -> None:
    data = tones(0.5, rate)
    data[100] = value
    path = tmp_path / "a.wav"
    soundfile.write(path, data, rate, subtype="FLOAT")
    with pytest.raises(AudioError, match=refusal(path, "NaN or infinite")):
        read_audio(path)


@pytest.mark.parametrize("level", [0.0, 0.25])
def test_a_constant_recording_is_refused_as_silent(tmp_path: Path, level: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(800, level), 16_000)
    with pytest.raises(AudioError, match=refusal(path, "silent, all 800 samples")):
        check_audio(path)


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize(("start", "stop"), [(15_000, 16_001), (16_000, 16_400), (90_000, 95_000)])
def test_a_span_beyond_the_end_is_refused(tmp_path: Path, rate: int, start: int, stop: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(1, rate), rate)
    with pytest.raises(AudioError, match=refusal(path, f"samples {start} to {stop} are wanted")):
        read_audio(path, start, stop)
