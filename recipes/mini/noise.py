# SPDX-License-Identifier: Apache-2.0
"""Noise clips of ten kinds, made from seeds: `noise/<split>/<kind>/<kind>-<index>.flac`.

Every kind has clips in both splits, no clip is in two. 16 kHz, mono, 16 bit.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from wavlm_lightning.recipes.mini.store import write_audio

SAMPLE_RATE = 16000
PEAK = 0.95
_SEED = 21


def write(root: Path, *, train: int, dev: int) -> tuple[dict[str, str], dict[str, float]]:
    """Write `train` and `dev` clips of each kind below `root / "noise"`.

    Returns SHA-256 of the int16 samples by path relative to `root`, and hours by split.
    """
    digests: dict[str, str] = {}
    hours: dict[str, float] = {}
    for split, indices in (("train", range(train)), ("dev", range(train, train + dev))):
        num_samples = 0
        for number, kind in enumerate(KINDS):
            for index in indices:
                samples = clip(kind, seed=[_SEED, number, index])
                path = root / "noise" / split / kind / f"{kind}-{index:02d}.flac"
                sha256 = write_audio(path, samples, sample_rate=SAMPLE_RATE)
                digests[path.relative_to(root).as_posix()] = sha256
                num_samples += len(samples)
        hours[split] = num_samples / SAMPLE_RATE / 3600
    return digests, hours


def clip(kind: str, *, seed: list[int]) -> np.ndarray:
    """Samples (T,) int16 of 3 to 8 s, level drawn from -32 to -18 dB (RMS re full scale)."""
    rng = np.random.default_rng(seed)
    waveform = KINDS[kind](rng, int(SAMPLE_RATE * rng.uniform(3, 8)))
    waveform = waveform - waveform.mean()
    gain = 10 ** (rng.uniform(-32, -18) / 20) / np.sqrt(np.mean(waveform**2))
    gain = min(gain, PEAK / np.abs(waveform).max())
    return np.round(32767 * gain * waveform).astype(np.int16)


def _seconds(num_samples: int) -> np.ndarray:
    return np.arange(num_samples) / SAMPLE_RATE


def _shaped(rng: np.random.Generator, gain: np.ndarray, num_samples: int) -> np.ndarray:
    """White noise (T,) times `gain` (T // 2 + 1,) over frequency."""
    return np.fft.irfft(gain * np.fft.rfft(rng.standard_normal(num_samples)), num_samples)


def _hertz(num_samples: int) -> np.ndarray:
    return np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)


def _colored(rng: np.random.Generator, num_samples: int, *, slope: float) -> np.ndarray:
    """Noise whose power falls as frequency to the `slope`, flat below 20 Hz."""
    return _shaped(rng, np.maximum(_hertz(num_samples), 20) ** (-slope / 2), num_samples)


def _band(rng: np.random.Generator, num_samples: int, *, low: float, high: float) -> np.ndarray:
    """White noise from `low` to `high` Hz, 12 dB an octave less outside."""
    ratio = np.maximum(_hertz(num_samples), 1.0)
    gain = 1 / (1 + (low / ratio) ** 2) / (1 + (ratio / high) ** 2)
    return _shaped(rng, gain, num_samples)


def _slow(rng: np.random.Generator, num_samples: int, *, hertz: float) -> np.ndarray:
    """A smooth random curve from 0 to 1 that turns about `hertz` times a second."""
    knots = rng.uniform(0, 1, int(num_samples / SAMPLE_RATE * hertz) + 3)
    places = np.linspace(0, len(knots) - 1, num_samples)
    return np.interp(places, np.arange(len(knots)), knots)


def _white(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    return rng.standard_normal(num_samples)


def _pink(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    return _colored(rng, num_samples, slope=1.0)


def _brown(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    return _colored(rng, num_samples, slope=2.0)


def _hum(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Mains at 50 or 60 Hz with harmonics, over a little hiss."""
    phase = 2 * np.pi * (50, 60)[int(rng.integers(2))] * _seconds(num_samples)
    out = 0.05 * rng.standard_normal(num_samples)
    for harmonic in range(1, 13):
        out += rng.uniform(0.2, 1) / harmonic * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    return out


def _bursts(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Short bands of noise that start suddenly and die away, as of things set down."""
    out = 0.01 * rng.standard_normal(num_samples)
    for _ in range(int(rng.integers(4, 13))):
        low = rng.uniform(150, 3000)
        length = int(SAMPLE_RATE * rng.uniform(0.05, 0.5))
        burst = _band(rng, length, low=low, high=low * rng.uniform(1.3, 2.3))
        burst *= np.exp(-_seconds(length) / rng.uniform(0.02, 0.15)) * rng.uniform(1, 3)
        start = int(rng.integers(num_samples - length))
        out[start : start + length] += burst
    return out


def _chirps(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Tones that glide up or down, as of birds and alarms."""
    out = 0.02 * rng.standard_normal(num_samples)
    for _ in range(int(rng.integers(6, 20))):
        length = int(SAMPLE_RATE * rng.uniform(0.05, 0.4))
        first, last = rng.uniform(400, 6000, 2)
        phase = 2 * np.pi * np.cumsum(np.linspace(first, last, length)) / SAMPLE_RATE
        start = int(rng.integers(num_samples - length))
        out[start : start + length] += rng.uniform(0.3, 1) * np.hanning(length) * np.sin(phase)
    return out


def _rain(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Many small drops over a hiss."""
    drops = np.zeros(num_samples)
    count = int(num_samples / SAMPLE_RATE * rng.uniform(60, 400))
    drops[rng.integers(num_samples, size=count)] = rng.standard_normal(count)
    ring = np.exp(-np.arange(64) / 8) * np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * np.arange(64))
    hiss = _band(rng, num_samples, low=1500, high=7000)
    return np.convolve(drops, ring)[:num_samples] + rng.uniform(0.02, 0.1) * hiss


def _clicks(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Typing: pairs of clicks at an uneven pace."""
    out = 0.002 * rng.standard_normal(num_samples)
    start = 0
    while (start := start + int(SAMPLE_RATE * rng.uniform(0.06, 0.35))) < num_samples - 1600:
        for at in (start, start + int(SAMPLE_RATE * rng.uniform(0.03, 0.09))):
            out[at : at + 160] += rng.uniform(0.3, 1) * _band(rng, 160, low=900, high=5000)
    return out


def _wind(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Low noise in gusts."""
    gusts = _slow(rng, num_samples, hertz=rng.uniform(0.4, 1.5)) ** 2
    howl = _band(rng, num_samples, low=250, high=rng.uniform(500, 900))
    rumble = _colored(rng, num_samples, slope=1.6)
    return (0.1 + gusts) * (rumble / rumble.std() + 0.5 * howl / howl.std())


def _engine(rng: np.random.Generator, num_samples: int) -> np.ndarray:
    """Harmonics of a speed that changes slowly, beaten by each stroke, over low noise."""
    speed_hz = rng.uniform(18, 60) * (1 + 0.4 * _slow(rng, num_samples, hertz=0.5))
    phase = 2 * np.pi * np.cumsum(speed_hz) / SAMPLE_RATE
    out = 0.3 * (1 + 0.8 * np.sin(phase)) * _band(rng, num_samples, low=80, high=1800)
    for harmonic in range(1, 25):
        weight = rng.uniform(0.2, 1) / harmonic**0.7
        out += weight * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    return out


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "white": _white,
    "pink": _pink,
    "brown": _brown,
    "hum": _hum,
    "bursts": _bursts,
    "chirps": _chirps,
    "rain": _rain,
    "clicks": _clicks,
    "wind": _wind,
    "engine": _engine,
}
