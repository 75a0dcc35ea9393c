# SPDX-License-Identifier: Apache-2.0
"""Reading sound: formats, channels, rates and spans; and what is refused, with its reason."""

import os
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
    with pytest.raises(AudioError, match=refusal(path, f"must hold samples {start} to {stop}")):
        read_audio(path, start, stop)


CASES = Path(os.environ.get("WAVLM_CASES", "../shared/cases"))


def cut(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.aiff", "a.au", "a.w64"])
def test_a_file_that_is_cut_off_is_never_taken_for_a_whole_one(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tones(3, 16_000)[:, 0], 16_000)
    assert check_audio(tmp_path / name) == 48_000
    cut(tmp_path / name)
    with pytest.raises(AudioError, match=rf"{re.escape(name)}: (cut off|not readable)"):
        check_audio(tmp_path / name)
    if name != "a.flac":  # its header alone does not show it
        with pytest.raises(AudioError, match=r"cut off: its header promises"):
            audio_length(tmp_path / name)


@pytest.mark.bad_input
def test_a_tag_without_audio_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"ID3\x03\x00\x00\x00\x00\x0f\x76" + bytes(2_048))
    for look in (read_audio, check_audio, audio_length):
        with pytest.raises(AudioError, match=r"a\.mp3: an ID3 tag and no audio behind it"):
            look(path)


def test_a_wav_that_was_written_into_a_pipe_is_as_long_as_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tones(1, 16_000)[:, 0], 16_000)
    content = bytearray(path.read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    assert audio_length(path) == len(read_audio(path)) == check_audio(path) == 16_000


def flac_of_unknown_length(path: Path, samples: NDArray[np.float64]) -> None:
    """With 0 for the number of samples in STREAMINFO, as encoders write into a pipe."""
    soundfile.write(path, samples, 16_000, format="FLAC")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # 36 bits, behind 20 of the rate, 3 of channels and 5 of bits a sample
    content[22:26] = bytes(4)
    path.write_bytes(content)


def test_a_flac_of_unknown_length_is_decoded_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    flac_of_unknown_length(path, tones(2, 16_000)[:, 0])
    assert soundfile.info(path).frames > 2**40
    assert audio_length(path) == check_audio(path) == 32_000
    whole = read_audio(path)
    torch.testing.assert_close(read_audio(path, 5_000, 7_000), whole[5_000:7_000])


def test_a_codec_that_cannot_be_entered_in_the_middle_is_read_from_the_start(
    tmp_path: Path,
) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, tones(2, 8_000)[:, 0], 8_000, subtype="GSM610")
    assert not soundfile.SoundFile(path).seekable()
    length = audio_length(path)
    whole = read_audio(path)
    assert len(whole) == length
    torch.testing.assert_close(read_audio(path, 17_000, 20_000), whole[17_000:20_000])


@pytest.mark.parametrize(
    ("samples", "rate", "wanted"),
    [
        (np.full(1600, 1e30, np.float32), 16_000, r"samples up to 1e\+30, where full scale is 1"),
        (20_000 * tones(1, 16_000).astype(np.float32), 16_000, "where full scale is 1"),
        (tones(1, 16_000) * [[1.0, -1.0]], 16_000, "its channels cancel each other"),
        (tones(1, 16_000)[:, 0], 1, "a rate of 1 Hz, where 2000 to 768000 are expected"),
    ],
    ids=["huge", "integers", "antiphase", "rate"],
)
def test_what_is_no_sound_is_refused_by_name(
    tmp_path: Path, samples: NDArray[np.float32], rate: int, wanted: str
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    with pytest.raises(AudioError, match=rf"a\.wav: .*{wanted}"):
        read_audio(path)


def test_loud_and_stereo_recordings_are_sound(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    both = 1.5 * rng.standard_normal((16_000, 2)).astype(np.float32)  # two rooms, above full scale
    soundfile.write(tmp_path / "a.wav", both, 16_000, subtype="FLOAT")
    torch.testing.assert_close(read_audio(tmp_path / "a.wav"), torch.from_numpy(both.mean(1)))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    for use in (audio_length, read_audio, check_audio):
        with pytest.raises(AudioError, match=r"a\.wav: no regular file"):
            use(tmp_path / "a.wav")


def test_what_git_lfs_left_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(AudioError, match="a pointer that Git LFS left; git lfs pull"):
        audio_length(tmp_path / "a.flac")


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases: set WAVLM_CASES to their folder")
def test_files_that_others_met_are_read() -> None:
    assert check_audio(CASES / "flac_unknown_length" / "streamed.flac") == 9_600
    assert check_audio(CASES / "gsm_wav" / "call.wav") == 32_000
