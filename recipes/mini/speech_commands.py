# SPDX-License-Identifier: Apache-2.0
"""A mini Speech Commands v0.01 in the layout of the real one: single words of one second.

    SpeechCommands/speech_commands_v0.01/<word>/<speaker>_nohash_<n>.wav    16 kHz, mono, 16 bit
    SpeechCommands/speech_commands_v0.01/_background_noise_/<kind>.wav      20 s each
    SpeechCommands/speech_commands_v0.01/{validation,testing}_list.txt      <word>/<name>.wav
    SpeechCommands/speech_commands_test_set_v0.01/{<word>,_unknown_,_silence_}/*.wav

Layout: Warden 2017 and 2018. A speaker is eight hexadecimal digits, whose hash says whether the
clips are for training (80 percent), for dev or for neither; the speakers of the test set are
others. As in the real one most clips last exactly a second, with the word anywhere in it, and some
are shorter. Each speaker has a channel, a noise and a ratio of speech to noise of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wavlm_lightning.downstream.corpora.speech_commands import (
    TEST_FOLDER,
    TRAIN_FOLDER,
    WORDS,
    part_of,
)
from wavlm_lightning.recipes.mini.noise import KINDS
from wavlm_lightning.recipes.mini.speech import COLOUR_HZ, SAMPLE_RATE, Speech, by_voice, speak_all
from wavlm_lightning.recipes.mini.store import Corpus, Digests, Facts, Progress, write_audio
from wavlm_lightning.recipes.mini.voices import speaker

VERSION = 1  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "c7292c88bae4ce4854b0f45406f8e9effdd869889109b8ea061b8a34f660bab4",
}
OTHER_WORDS = (
    *("bed", "bird", "cat", "dog", "eight", "five", "four", "happy", "house", "marvin"),
    *("nine", "one", "seven", "sheila", "six", "three", "tree", "two", "wow", "zero"),
)
_TRAIN, _TEST = Path("SpeechCommands", TRAIN_FOLDER), Path("SpeechCommands", TEST_FOLDER)
_SEED = 51  # so that dev has speakers in small sizes too
_TEST_SEED = 52
_SILENCE_SEED = 53
_SPEAKERS_PER_SHARD = 4
_BYTES_PER_UTTERANCE = 64_000  # about 32 kB are used
_BACKGROUND_BYTES = 4_000_000
_BACKGROUND_SECONDS = 20
_TWICE = 1 / 12  # share of words that a speaker says again
_SHORTER = 0.05  # share of clips of less than a second
_SNR_DB = (5, 30)
_BACKGROUND = {  # a sum of these kinds of noise
    "doing_the_dishes": ("bursts", "bursts", "bursts", "bursts", "clicks"),
    "dude_miaowing": ("chirps", "chirps", "hum"),
    "exercise_bike": ("engine", "clicks"),
    "pink_noise": ("pink",),
    "running_tap": ("rain", "rain", "white"),
    "white_noise": ("white",),
}
_ROOMS = ("white", "pink", "hum", "rain", "wind", "engine", "clicks")  # what is heard there
_ROOM_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Speakers who say all thirty words, those of train, dev and neither; speakers of the test."""

    speakers: int = 40
    test_speakers: int = 10


TINY = Sizes(speakers=4, test_speakers=2)


@dataclass(frozen=True)
class Clip:
    """One file: a word, and how it is heard."""

    speaker: str  # eight hexadecimal digits
    speech: Speech
    num_samples: int
    place: float  # of the word in what it leaves free, 0 to 1
    snr_db: float
    room: tuple[str, tuple[int, ...]]  # kind and seed of the noise

    @property
    def split(self) -> str:
        """train, dev, test, or unused: neither of them."""
        if not self.speech.path.is_relative_to(_TRAIN):
            return "test"
        return part_of(self.speech.path.name) or "unused"


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    def in_a_room(clip: Clip, said: dict[str, Any]) -> tuple[str, int]:
        samples = _heard(folder, clip, said["phones"])
        path = folder / clip.speech.path
        return write_audio(path, samples, sample_rate=SAMPLE_RATE), len(samples)

    clips = plan(sizes)
    spoken = speak_all(
        folder,
        clips,
        shards=by_voice([each.speech for each in clips], voices=_SPEAKERS_PER_SHARD),
        split=lambda clip: clip.split,
        num_workers=num_workers,
        progress=progress,
        rewrite=in_a_room,
    )
    silence = list(_silence(sizes.test_speakers))
    for path, samples in (*silence, *_background()):
        written = write_audio(folder / path, samples, sample_rate=SAMPLE_RATE)
        spoken.digests[path.as_posix()] = written
    for _, samples in silence:
        spoken.tally.add("test", len(samples))
    for name, split in (("validation_list.txt", "dev"), ("testing_list.txt", "unused")):
        kept = sorted(clip.speech.path for clip in clips if clip.split == split)
        text = "".join(f"{path.relative_to(path.parents[1])}\n" for path in kept)
        (folder / _TRAIN / name).write_text(text, encoding="utf-8")
    return spoken.facts(VERSION, speakers=_speakers(clips)), spoken.digests


def _speakers(clips: list[Clip]) -> dict[str, int]:
    """Number of speakers by split."""
    own: dict[str, set[str]] = {}
    for clip in clips:
        own.setdefault(clip.split, set()).add(clip.speaker)
    return {split: len(names) for split, names in own.items()}


def plan(sizes: Sizes) -> list[Clip]:
    """Every file with a word in it, by speaker."""
    out: list[Clip] = []
    for index in range(sizes.speakers):
        rng = np.random.default_rng([_SEED, index])
        words = sorted(WORDS + OTHER_WORDS)
        again = [word for word in words if rng.random() < _TWICE]
        takes = [(word, word, 0) for word in words] + [(word, word, 1) for word in again]
        out += _clips(rng, _TRAIN, takes, number=1001 + index)
    for index in range(sizes.test_speakers):
        rng = np.random.default_rng([_TEST_SEED, index])
        others = rng.choice(OTHER_WORDS, 2, replace=False).tolist()
        takes = [(word, word, 0) for word in WORDS]
        takes += [(word, "_unknown_", take) for take, word in enumerate(others)]
        out += _clips(rng, _TEST, takes, number=2001 + index)
    return out


def _clips(
    rng: np.random.Generator, folder: Path, takes: list[tuple[str, str, int]], *, number: int
) -> Iterator[Clip]:
    """Clips of one speaker: of each take the word, the class's folder and its number."""
    person = speaker(number, index=number, seed=_SEED)
    name = f"{rng.integers(2**32):08x}"
    snr_db, level_db = rng.uniform(*_SNR_DB), rng.uniform(-32, -20)
    colour = tuple(rng.uniform(-6, 6, len(COLOUR_HZ)).round(2).tolist())
    room = (_ROOMS[int(rng.integers(len(_ROOMS)))], (_SEED, number, 1))
    for word, label, take in takes:
        speech = Speech(
            path=folder / label / f"{name}_nohash_{take}.wav",
            accent=person.accent,
            variant_name=person.variant_name,
            variant=person.variant,
            sentences=(word + ".?!"[int(rng.integers(3))],),
            pauses=(0.0, 0.0),
            speed=round(150 * person.pace * rng.uniform(0.8, 1.25)),
            pitch=int(rng.integers(40, 61)),
            range=int(rng.integers(30, 75)),
            level_db=round(level_db + rng.normal(0, 2), 2),
            floor_db=-95.0,  # the room's noise comes after
            seed=(_SEED, number, take, *word.encode()),
            colour_db=colour,
        )
        shorter = rng.random() < _SHORTER
        seconds = rng.uniform(0.6, 0.98) if shorter else 1.0
        yield Clip(
            speaker=name,
            speech=speech,
            num_samples=round(SAMPLE_RATE * seconds),
            place=rng.uniform(0, 1),
            snr_db=float(np.clip(snr_db + rng.normal(0, 2), *_SNR_DB)),
            room=room,
        )


def _heard(folder: Path, clip: Clip, phones: list[tuple[str, int, int, int]]) -> np.ndarray:
    """Samples (T,) int16 of a clip: its word, cut out of what was spoken, in the room's noise."""
    spoken, _ = soundfile.read(folder / clip.speech.path)
    own = [(start, end) for _, start, end, word in phones if word >= 0]
    word = spoken[own[0][0] : own[-1][1]][: clip.num_samples]
    rng = np.random.default_rng([*clip.speech.seed, 1])
    room = _room(*clip.room)
    start = int(rng.integers(len(room) - clip.num_samples))
    gain = 10 ** (-clip.snr_db / 20) * np.sqrt(np.mean(word**2))
    out = gain * room[start : start + clip.num_samples]
    free = round(clip.place * (clip.num_samples - len(word)))
    out[free : free + len(word)] += word
    return _rounded(out)


@lru_cache(maxsize=1)  # clips of a speaker follow each other
def _room(kind: str, seed: tuple[int, ...]) -> np.ndarray:
    """Noise (T,) of 0 dB RMS."""
    return _noise((kind,), seed=seed, seconds=_ROOM_SECONDS)


def _noise(kinds: tuple[str, ...], *, seed: tuple[int, ...], seconds: float) -> np.ndarray:
    """The sum (T,) of some kinds of noise, each 0 dB RMS, as is the sum."""
    rng = np.random.default_rng(seed)
    parts = [KINDS[kind](rng, round(SAMPLE_RATE * seconds)) for kind in kinds]
    whole = sum(part / np.sqrt(np.mean(part**2)) for part in parts)
    out: np.ndarray = whole / np.sqrt(np.mean(whole**2))
    return out


def _background() -> Iterator[tuple[Path, np.ndarray]]:
    """Path and samples (T,) int16 of the long recordings without speech."""
    folder = _TRAIN / "_background_noise_"
    for number, (name, kinds) in enumerate(_BACKGROUND.items()):
        waveform = _noise(kinds, seed=(_SEED, number), seconds=_BACKGROUND_SECONDS)
        yield folder / f"{name}.wav", _rounded(10 ** (-26 / 20) * waveform)


def _silence(count: int) -> Iterator[tuple[Path, np.ndarray]]:
    """Path and samples (16000,) int16 of test clips without speech, of the background's kinds."""
    kinds = list(_BACKGROUND.values())
    for number in range(count):
        rng = np.random.default_rng([_SILENCE_SEED, number])
        waveform = _noise(kinds[number % len(kinds)], seed=(_SILENCE_SEED, number, 1), seconds=1)
        path = _TEST / "_silence_" / f"{rng.integers(2**32):08x}.wav"
        yield path, _rounded(10 ** (rng.uniform(-55, -25) / 20) * waveform)


def _rounded(waveform: np.ndarray) -> np.ndarray:
    out: np.ndarray = np.round(32767 * np.clip(waveform, -1, 1)).astype(np.int16)
    return out


def _num_bytes(sizes: Sizes) -> int:
    """Upper bound, with every word said twice."""
    num_words = len(WORDS) + len(OTHER_WORDS)
    most = 2 * num_words * sizes.speakers + 13 * sizes.test_speakers
    return most * _BYTES_PER_UTTERANCE + _BACKGROUND_BYTES


CORPUS = Corpus(
    title="mini Speech Commands",
    folder=f"speech-commands-v{VERSION}",
    root=_TRAIN.parent,
    standard=Sizes(),
    tiny=TINY,
    num_bytes=_num_bytes,
    fill=_fill,
    expected_sha256=EXPECTED_SHA256,
)
