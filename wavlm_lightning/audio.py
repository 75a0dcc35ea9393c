# SPDX-License-Identifier: Apache-2.0
"""Sound files in: any format of soundfile, any rate, any channels -> float32 at 16 kHz, mono.

The only file I/O on sound. torchaudio resamples; it does not read files, for which it would need
FFmpeg.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_lightning.lengths import SAMPLE_RATE


class AudioError(ValueError):
    """A file that cannot be used; the message says which and why."""


def resampled_length(num_samples: int, rate: int) -> int:
    """Samples at 16 kHz of a recording of `num_samples` at `rate`.

    >>> resampled_length(44_100, 44_100), resampled_length(3, 8_000)
    (16000, 6)
    """
    return -(-num_samples * SAMPLE_RATE // rate)


def audio_length(path: str | Path) -> int:
    """Samples at 16 kHz, from the header alone.

    Raises:
        AudioError: if the file is missing, unreadable or empty.
    """
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: {_reason(path, error)}") from error
    if info.frames <= 0:
        raise AudioError(f"{path}: empty, 0 samples")
    return resampled_length(info.frames, info.samplerate)


def read_audio(path: str | Path, start: int = 0, stop: int | None = None) -> Tensor:
    """Waveform (T,) float32 at 16 kHz, mono, in [-1, 1].

    Args:
        path: a file.
        start: first sample wanted, counted at 16 kHz.
        stop: sample after the last one, counted at 16 kHz; None for the end.

    Raises:
        AudioError: if the file is missing, unreadable, shorter than asked or holds NaN.
    """
    try:
        with soundfile.SoundFile(str(path)) as file:
            rate = file.samplerate
            native = slice(start, stop)
            if rate != SAMPLE_RATE:  # whole seconds of input around the span keep the filter exact
                native = _native_span(start, stop, rate=rate, frames=file.frames)
            file.seek(min(native.start, file.frames))
            count = -1 if native.stop is None else native.stop - native.start
            data = file.read(count, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{path}: {_reason(path, error)}") from error
    waveform = torch.from_numpy(
        np.ascontiguousarray(data.mean(1) if data.shape[1] > 1 else data[:, 0])
    )
    if rate != SAMPLE_RATE:
        waveform = _resample(waveform, rate)
        first = native.start * SAMPLE_RATE // rate
        waveform = waveform[start - first : None if stop is None else stop - first].contiguous()
    if stop is not None and len(waveform) != stop - start:
        raise AudioError(
            f"{path}: samples {start} to {stop} are wanted, it ends {stop - start - len(waveform)} "
            "samples earlier: the manifest does not fit the file"
        )
    if not bool(torch.isfinite(waveform).all()):
        raise AudioError(f"{path}: NaN or infinite samples")
    return waveform


def check_audio(path: str | Path, start: int = 0, stop: int | None = None) -> int:
    """Read everything and return the samples at 16 kHz.

    Raises:
        AudioError: as `read_audio`, and if there is no sample or every sample is the same.
    """
    waveform = read_audio(path, start, stop)
    if len(waveform) == 0:
        raise AudioError(f"{path}: empty, 0 samples")
    if float(waveform.max()) == float(waveform.min()):
        raise AudioError(f"{path}: silent, all {len(waveform)} samples are the same")
    return len(waveform)


def write_audio(path: Path, waveform: Tensor | NDArray[np.float32]) -> None:
    """Write (T,) at 16 kHz; the format follows the name."""
    soundfile.write(str(path), np.asarray(waveform), SAMPLE_RATE)


def _native_span(start: int, stop: int | None, *, rate: int, frames: int) -> slice:
    first = max(start // SAMPLE_RATE - 1, 0) * rate
    last = frames if stop is None else min((-(-stop // SAMPLE_RATE) + 1) * rate, frames)
    return slice(first, last)


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
    if Path(path).stat().st_size == 0:
        return "empty file"
    return "not readable as audio: " + str(error).split(": ")[-1].strip().rstrip(".")
