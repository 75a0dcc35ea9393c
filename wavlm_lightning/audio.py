# SPDX-License-Identifier: Apache-2.0
"""Sound files in: any format of soundfile, any rate, any channels -> float32 at 16 kHz, mono.

The only file I/O on sound. torchaudio resamples; it does not read files, for which it would need
FFmpeg.
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.files import LFS_HINT, LFS_POINTER
from wavlm_lightning.lengths import SAMPLE_RATE

RATES = (2_000, 768_000)  # Hz; a rate beyond these is a damaged header
UNKNOWN_FRAMES = 2**40  # what is written into a pipe has no length in its header
UNKNOWN_BYTES = 2**31 - 2**17  # the same of WAV: the largest number, or a little less
DECODED = ("MP3",)  # formats whose headers are not checked against what follows
BLOCK_FRAMES = 2**20  # decoded at a time
MAX_PEAK = 16.0  # 24 dB above full scale; more is a file of another number format
MAX_CANCELLED_DB = 30.0  # by which the mean of channels may lie below them
ID3 = b"ID3"  # what a tag before MP3 audio begins with


class AudioError(ValueError):
    """A file that cannot be used; the message says which and why."""


def resampled_length(num_samples: int, rate: int) -> int:
    """Samples at 16 kHz of a recording of `num_samples` at `rate`.

    >>> resampled_length(44_100, 44_100), resampled_length(3, 8_000)
    (16000, 6)
    """
    return -(-num_samples * SAMPLE_RATE // rate)


def audio_length(path: str | Path) -> int:
    """Samples at 16 kHz: from the header where it can be trusted, else by decoding.

    Raises:
        AudioError: if the file is missing, unreadable, empty, cut off, or of a strange rate.
    """
    with _opened(path) as file:
        frames, rate = _num_frames(file, path), file.samplerate
    if frames <= 0:
        raise AudioError(f"{path}: empty, 0 samples")
    return resampled_length(frames, rate)


def read_audio(path: str | Path, start: int = 0, stop: int | None = None) -> Tensor:
    """Waveform (T,) float32 at 16 kHz, mono, in [-1, 1].

    Args:
        path: a file.
        start: first sample wanted, counted at 16 kHz.
        stop: sample after the last one, counted at 16 kHz; None for the end.

    Raises:
        AudioError: if the file is missing, unreadable, shorter than asked, or holds what is no
            sound: NaN, values far above full scale, channels that cancel each other.
    """
    with _opened(path) as file:
        rate = file.samplerate
        native = slice(start, stop)
        if rate != SAMPLE_RATE:  # whole seconds of input around the span keep the filter exact
            native = _native_span(start, stop, rate=rate)
        data = _read(file, native.start, native.stop)
    _check_values(data, path)
    waveform = torch.from_numpy(
        np.ascontiguousarray(data.mean(1) if data.shape[1] > 1 else data[:, 0])
    )
    if rate != SAMPLE_RATE:
        waveform = _resample(waveform, rate)
        first = native.start * SAMPLE_RATE // rate
        waveform = waveform[start - first : None if stop is None else stop - first].contiguous()
    if stop is not None and len(waveform) != stop - start:
        raise AudioError(
            f"{path}: it must hold samples {start} to {stop} (it ends "
            f"{stop - start - len(waveform)} earlier): the manifest does not fit the file"
        )
    return waveform


def check_audio(path: str | Path, start: int = 0, stop: int | None = None) -> int:
    """Read everything and return the samples at 16 kHz.

    Raises:
        AudioError: as `sound_of`.
    """
    return len(sound_of(path, start, stop))


def sound_of(path: str | Path, start: int = 0, stop: int | None = None) -> Tensor:
    """Waveform (T,) as of `read_audio`, in which there is something to hear.

    Args:
        path: a file.
        start: first sample wanted, counted at 16 kHz.
        stop: sample after the last one, counted at 16 kHz; None for the end.

    Raises:
        AudioError: as `read_audio`, and if the file is cut off, there is no sample or every sample
            is the same.
    """
    promised = audio_length(path)  # refuses what is cut off
    waveform = read_audio(path, start, stop)
    if start == 0 and stop is None and len(waveform) < promised - SAMPLE_RATE // 10:
        raise AudioError(
            f"{path}: cut off: its header promises {promised / SAMPLE_RATE:.2f} s, "
            f"{len(waveform) / SAMPLE_RATE:.2f} are there"
        )
    if len(waveform) == 0:
        raise AudioError(f"{path}: empty, 0 samples")
    if float(waveform.max()) == float(waveform.min()):
        raise AudioError(f"{path}: silent, all {len(waveform)} samples are the same")
    return waveform


def write_audio(path: Path, waveform: Tensor | NDArray[np.float32]) -> None:
    """Write (T,) at 16 kHz; the format follows the name."""
    soundfile.write(str(path), np.asarray(waveform), SAMPLE_RATE)


class _Sequential(soundfile.SoundFile):
    """A file of unknown length: to go to its end, as reading does elsewhere, fails."""

    def seekable(self) -> bool:
        """Read from the beginning to the end."""
        return False


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """A file whose header makes sense.

    Raises:
        AudioError: if there is none.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would be waited for, for ever
            raise AudioError(f"{path}: no regular file")
        with soundfile.SoundFile(str(path)) as file:
            low, high = RATES
            if not low <= file.samplerate <= high:
                raise AudioError(
                    f"{path}: a rate of {file.samplerate} Hz, where {low} to {high} are expected"
                )
            if file.frames < UNKNOWN_FRAMES:
                yield file
                return
        with _Sequential(str(path)) as file:
            yield file
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise AudioError(f"{path}: {_reason(path, error)}") from error


def _num_frames(file: soundfile.SoundFile, path: str | Path) -> int:
    """Frames that are there; headers of some files promise more, or do not know."""
    if file.seekable() and file.format not in DECODED:
        for promised, there in re.findall(r": (\d+) \(should be (\d+)\)", file.extra_info):
            if int(there) < int(promised) < UNKNOWN_BYTES:
                raise AudioError(
                    f"{path}: cut off: its header promises {promised} bytes, {there} are there"
                )
        return int(file.frames)
    promised, counted = file.frames, 0
    while count := len(file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        counted += count
    if counted + file.samplerate // 10 < promised < UNKNOWN_FRAMES:
        raise AudioError(
            f"{path}: cut off: its header promises {promised / file.samplerate:.2f} s, "
            f"{counted / file.samplerate:.2f} are there"
        )
    return counted


def _read(file: soundfile.SoundFile, start: int, stop: int | None) -> NDArray[np.float32]:
    """Frames (T, channels) from `start` to before `stop`, or to the end of the file."""
    if file.seekable():
        file.seek(min(start, file.frames))
    else:  # some codecs cannot be entered in the middle
        _blocks(file, start)
    blocks = _blocks(file, None if stop is None else stop - start)
    empty = np.zeros((0, file.channels), np.float32)
    return np.concatenate(blocks) if blocks else empty


def _blocks(file: soundfile.SoundFile, count: int | None) -> list[NDArray[np.float32]]:
    """The next `count` frames, fewer at the end of the file; None for all."""
    if count is not None:
        return [file.read(count, dtype="float32", always_2d=True)]
    blocks = []
    while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        blocks.append(block)
    return blocks


def _check_values(data: NDArray[np.float32], path: str | Path) -> None:
    """Refuse samples (T, channels) that are no sound.

    Raises:
        AudioError: naming the file.
    """
    if len(data) == 0:
        return
    peak = float(np.abs(data).max())
    if not np.isfinite(peak):
        raise AudioError(f"{path}: NaN or infinite samples")
    if peak > MAX_PEAK:
        raise AudioError(
            f"{path}: samples up to {peak:.3g}, where full scale is 1: the file's numbers are not "
            "those of its format"
        )
    if data.shape[1] > 1:
        energy = float(np.square(data, dtype=np.float64).mean())
        mixed = float(np.square(data.mean(1), dtype=np.float64).mean())
        if energy > 0 and mixed < energy * 10 ** (-MAX_CANCELLED_DB / 10):
            raise AudioError(
                f"{path}: its channels cancel each other, their mean is more than "
                f"{MAX_CANCELLED_DB:g} dB below them: keep one channel"
            )


def _native_span(start: int, stop: int | None, *, rate: int) -> slice:
    first = max(start // SAMPLE_RATE - 1, 0) * rate
    return slice(first, None if stop is None else (-(-stop // SAMPLE_RATE) + 1) * rate)


@lru_cache(maxsize=16)
def _resampler(rate: int) -> torch.nn.Module:
    from torchaudio.transforms import Resample

    resampler: torch.nn.Module = Resample(rate, SAMPLE_RATE)
    return resampler


def _resample(waveform: Tensor, rate: int) -> Tensor:
    if len(waveform) == 0:
        return waveform
    with torch.no_grad():
        y: Tensor = _resampler(rate)(waveform)
    return y


def _reason(path: str | Path, error: Exception) -> str:
    if not Path(path).exists():
        return "no such file"
    with Path(path).open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start:
        return "empty file"
    if start == LFS_POINTER:
        return LFS_HINT
    if start.startswith(ID3):  # libsndfile says then that there is no such file
        return "an ID3 tag and no audio behind it"
    return "not readable as audio: " + str(error).split(": ")[-1].strip().rstrip(".")
