# SPDX-License-Identifier: Apache-2.0
"""A mini Libri2Mix in the layout of the real one, of the mini LibriSpeech and its noise.

    Libri2Mix/wav16k/min/{train-100,dev,test}/{mix_clean,s1,s2}/<utterance>_<utterance>.wav
    Libri2Mix/wav16k/max/{train-100,dev,test}/mix_both/<utterance>_<utterance>.wav
    Libri2Mix/wav16k/{min,max}/metadata/mixture_<split>_{mix_clean,mix_both}.csv
    Libri2Mix/data/{train,dev,test}/{rttm,wav.scp,segments,utt2spk,reco2dur}

Layout and mixing: Cosentino et al. 2020. Two speakers start together; `min` ends with the shorter
one, `max` with the longer one, where noise is added. Loudness is drawn from -33 to -25 dB for
speech and from -38 to -30 dB for noise (there LUFS, here RMS re full scale where words are). `min`
and `max` have the same gains. `data` is what diarization reads, in Kaldi's form; who speaks when is
known from the synthesizer. Paths in tables are relative to `Libri2Mix` (absolute in the real one),
and those of the sources and noise of `max` name files that are not kept: no task reads them.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from wavlm_lightning.recipes.mini import build
from wavlm_lightning.recipes.mini.build import MiniCorpus
from wavlm_lightning.recipes.mini.speech import SAMPLE_RATE, Tally
from wavlm_lightning.recipes.mini.store import (
    FACTS,
    Digests,
    Facts,
    Progress,
    Recipe,
    folder_name,
    stored,
    write_audio,
)

VERSION = 1  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "ed3412fc34b4b7e81c9e6050ceecd7c5fc8fc80c0c660ed6d395bb0fabee3019",
}
_SEED = 25
_BYTES_PER_MIXTURE = 2_000_000  # about 800 kB are used
_PEAK = 0.9  # largest sample of a mixture, re full scale; LibriMix's MAX_AMP
_JOINED_SECONDS = 0.2  # words of one speaker with a shorter gap are one segment
_SPLITS = {  # LibriMix's name: LibriSpeech's, the one in data/, the number that seeds its draws
    "train-100": ("train-clean-100", "train", 0),
    "dev": ("dev-clean", "dev", 1),
    "test": ("test-clean", "test", 2),
}
_WORD = re.compile(r'xmin = (\S+)\n +xmax = (\S+)\n +text = "(\w[^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Mixtures by split, and the corpus they are made of."""

    train: int = 160
    dev: int = 24
    test: int = 24
    source: build.Sizes = field(default_factory=build.Sizes)


TINY = Sizes(train=6, dev=3, test=3, source=build.TINY)


@dataclass(frozen=True)
class Source:
    """An utterance of LibriSpeech."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def speaker(self) -> str:
        return self.name.split("-")[0]

    @cached_property
    def words(self) -> list[tuple[float, float]]:
        """Start and end in seconds."""
        text = self.path.with_suffix(".TextGrid").read_text(encoding="utf-8")
        tier = text.split('name = "words"')[1].split('name = "phones"')[0]
        return [(float(start), float(end)) for start, end, _ in _WORD.findall(tier)]

    @cached_property
    def waveform(self) -> np.ndarray:
        """Samples (T,) float64 with 0 dB RMS where words are."""
        waveform, _ = soundfile.read(self.path)
        spans = [waveform[_samples(start) : _samples(end)] for start, end in self.words]
        out: np.ndarray = waveform / np.sqrt(np.mean(np.concatenate(spans) ** 2))
        return out

    @property
    def segments(self) -> list[tuple[float, float]]:
        """Start and end of runs of words, in seconds."""
        out: list[tuple[float, float]] = []
        for start, end in self.words:
            if out and start - out[-1][1] < _JOINED_SECONDS:
                out[-1] = (out[-1][0], end)
            else:
                out.append((start, end))
        return out


@dataclass(frozen=True)
class Mixture:
    """Two utterances of two speakers."""

    split: str
    sources: tuple[Source, Source]

    @property
    def name(self) -> str:
        return f"{self.sources[0].name}_{self.sources[1].name}"


def cached(cache: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None) -> Path:
    """Root of the corpus of these sizes in `cache`, made if it is not there.

    `progress` counts the utterances of the mini LibriSpeech, if that has to be made first.
    """
    folder = folder_name(f"librimix-v{VERSION}", sizes, Sizes())
    root = Path(cache).absolute() / folder
    if not (root / FACTS).is_file():  # before this corpus, as a build holds the cache's lock
        source = build.cached(cache, sizes.source, num_workers=num_workers, progress=progress)
        recipe = Recipe(
            title="mini Libri2Mix",
            folder=folder,
            num_bytes=(sizes.train + sizes.dev + sizes.test) * _BYTES_PER_MIXTURE,
            fill=lambda folder: _fill(folder, sizes, source),
            expected_sha256=EXPECTED_SHA256 if sizes == Sizes() else {},
        )
        stored(cache, recipe)
    return root / "Libri2Mix"


def _fill(folder: Path, sizes: Sizes, source: MiniCorpus) -> tuple[Facts, Digests]:
    root = folder / "Libri2Mix"
    tally = Tally()
    digests: Digests = {}
    for split, count in (("train-100", sizes.train), ("dev", sizes.dev), ("test", sizes.test)):
        mixtures = plan(source.librispeech, split, count=count)
        noises = _noises(source.noise, split)
        lengths: dict[str, list[int]] = {"min": [], "max": []}
        for number, mixture in enumerate(mixtures):
            rng = np.random.default_rng([_SEED, _SPLITS[split][2], number])
            for path, samples in _mixed(rng, mixture, noises).items():
                sha256 = write_audio(root / path, samples, sample_rate=SAMPLE_RATE)
                digests[f"Libri2Mix/{path}"] = sha256
                if path.parent.name.startswith("mix"):
                    lengths[path.parts[1]].append(len(samples))
                    tally.add(f"{path.parts[1]}/{split}", len(samples))
        for mode, kind in (("min", "mix_clean"), ("max", "mix_both")):
            _write_metadata(root, mixtures, lengths[mode], mode=mode, kind=kind)
        _write_kaldi(root, mixtures, lengths["max"])
    facts = {
        "version": VERSION,
        "source_sha256": source.sha256,
        "utterances": tally.utterances,
        "hours": tally.hours,
    }
    return facts, digests


def plan(librispeech: Path, split: str, *, count: int) -> list[Mixture]:
    """Mixtures of the shortest utterances; each is used once more only when all have been used."""
    paths = (librispeech / _SPLITS[split][0]).rglob("*.flac")
    pool = sorted(
        map(Source, paths), key=lambda item: (soundfile.info(item.path).frames, item.name)
    )
    pool = pool[: 2 * count]
    rng = np.random.default_rng([_SEED, _SPLITS[split][2]])
    if count > _num_pairs(pool):
        raise ValueError(f"{count} mixtures of {split} are more than its utterances give")
    out: dict[frozenset[str], Mixture] = {}
    while len(out) < count:
        deck = [pool[place] for place in rng.permutation(len(pool))]
        while len(deck) > 1 and len(out) < count:
            one = deck.pop()
            other = next((item for item in deck if item.speaker != one.speaker), None)
            if other is None:
                break
            deck.remove(other)
            key = frozenset((one.name, other.name))
            out.setdefault(key, Mixture(split, (one, other)))
    return sorted(out.values(), key=lambda mixture: mixture.name)


def _num_pairs(pool: list[Source]) -> int:
    """Pairs of two speakers."""
    return sum(one.speaker < two.speaker for one in pool for two in pool)


def _noises(folder: Path, split: str) -> list[Path]:
    """Clips of this split alone: the last training clip of each kind is kept for the test."""
    paths = sorted((folder / ("dev" if split == "dev" else "train")).rglob("*.flac"))
    last = {path.parent: path for path in paths}
    return [
        path for path in paths if split == "dev" or (path == last[path.parent]) == (split == "test")
    ]


def _mixed(
    rng: np.random.Generator, mixture: Mixture, noises: list[Path]
) -> dict[Path, np.ndarray]:
    """Samples (T,) int16 of all files of a mixture, by path below Libri2Mix."""
    gains = 10 ** (rng.uniform(-33, -25, 2) / 20)
    speech = [gain * item.waveform for gain, item in zip(gains, mixture.sources, strict=True)]
    noise, _ = soundfile.read(noises[int(rng.integers(len(noises)))])
    noise = np.resize(np.concatenate([noise, noise[::-1]]), max(map(len, speech)))  # no step
    noise *= 10 ** (rng.uniform(-38, -30) / 20) / np.sqrt(np.mean(noise**2))
    both = noise.copy()
    for waveform in speech:
        both[: len(waveform)] += waveform
    shorter = min(map(len, speech))
    first, second = (waveform[:shorter] for waveform in speech)
    clean = first + second
    scale = min(1.0, _PEAK / max(np.abs(both).max(), np.abs(clean).max()))
    files = {
        ("max", "mix_both"): both,
        ("min", "mix_clean"): clean,
        ("min", "s1"): first,
        ("min", "s2"): second,
    }
    return {
        _path(mode, kind, mixture): np.round(32767 * scale * waveform).astype(np.int16)
        for (mode, kind), waveform in files.items()
    }


def _path(mode: str, kind: str, mixture: Mixture) -> Path:
    """Below Libri2Mix."""
    return Path("wav16k", mode, mixture.split, kind, f"{mixture.name}.wav")


def _write_metadata(
    root: Path, mixtures: list[Mixture], lengths: list[int], *, mode: str, kind: str
) -> None:
    """LibriMix's table of one split, as for `mode` min and max."""
    kinds = [kind, "s1", "s2"] + ["noise"] * (kind == "mix_both")
    columns = ["mixture_path", "source_1_path", "source_2_path", "noise_path"][: len(kinds)]
    lines = [",".join(["mixture_ID", *columns, "length"])]
    for mixture, length in zip(mixtures, lengths, strict=True):
        paths = [_path(mode, each, mixture).as_posix() for each in kinds]
        lines.append(",".join([mixture.name, *paths, str(length)]))
    folder = root / "wav16k" / mode / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"mixture_{mixtures[0].split}_{kind}.csv", lines)


def _write_kaldi(root: Path, mixtures: list[Mixture], lengths: list[int]) -> None:
    """Kaldi's folder of a split: who speaks when in the mixtures of `max`."""
    tables: dict[str, list[str]] = {
        name: [] for name in ("rttm", "wav.scp", "segments", "utt2spk", "reco2dur")
    }
    for mixture, length in zip(mixtures, lengths, strict=True):
        name = mixture.name
        path = _path("max", "mix_both", mixture).as_posix()
        tables["wav.scp"].append(f"{name} {path}")
        tables["reco2dur"].append(f"{name} {length / SAMPLE_RATE:.4f}")
        for source in mixture.sources:
            who = source.speaker
            for start, end in source.segments:
                turn = f"{who}_{name}_{round(100 * start):07d}_{round(100 * end):07d}"
                tables["segments"].append(f"{turn} {name} {start:.3f} {end:.3f}")
                tables["utt2spk"].append(f"{turn} {who}")
                tables["rttm"].append(
                    f"SPEAKER {name} 1 {start:.3f} {end - start:.3f} <NA> <NA> {who} <NA> <NA>"
                )
    folder = root / "data" / _SPLITS[mixtures[0].split][1]
    folder.mkdir(parents=True)
    for table, lines in tables.items():
        _write(folder / table, lines if table == "rttm" else sorted(lines))


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
