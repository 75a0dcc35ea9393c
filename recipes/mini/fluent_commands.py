# SPDX-License-Identifier: Apache-2.0
"""A mini Fluent Speech Commands in the layout of the real one: orders to a house and a telephone.

    fluent_speech_commands_dataset/data/{train,valid,test}_data.csv
    fluent_speech_commands_dataset/data/speaker_demographics.csv
    fluent_speech_commands_dataset/wavs/speakers/<speaker>/<uuid>.wav       16 kHz, mono, 16 bit

Layout: Lugosch et al. 2019 and the release of fluent.ai. All 31 intents of the real one, each an
action, an object and a location, with wordings of our own; speakers are of one split alone.
"""

import csv
import string
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavlm_lightning.recipes.mini.speech import COLOUR_HZ, Speech, by_voice, speak_all
from wavlm_lightning.recipes.mini.store import Corpus, Digests, Facts, Progress
from wavlm_lightning.recipes.mini.voices import Speaker, speaker

VERSION = 1  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "8b8145fae41fc742b61422c97db5c4165407e22caaf34e703a67ba2c507f8932",
}
Intent = tuple[str, str, str]  # action, object, location
_ROOT = Path("fluent_speech_commands_dataset")
_SEED = 61
_SPEAKERS_PER_SHARD = 3
_BYTES_PER_UTTERANCE = 150_000  # about 65 kB are used
_FIRST = {"train": 3001, "valid": 4001, "test": 5001}
_COLUMNS = ("", "path", "speakerId", "transcription", "action", "object", "location")
_PEOPLE_COLUMNS = (  # as odd as the real ones
    *("speakerId", "Self-reported fluency level ", "First Language spoken"),
    *("Current language used for work/school", "Gender", "ageRange"),
)
_AGES = {"man": "22-40", "woman": "41-65", "child": "under 18"}

_PLACES = ("none", "bedroom", "kitchen", "washroom")
_WORDINGS: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    # action and object: locations, wordings; {place} is empty or " in the kitchen"
    ("activate", "lamp"): (
        ("none",),
        ("Turn on the lamp", "Switch the lamp on", "Lamp on", "Please light the lamp"),
    ),
    ("activate", "lights"): (
        _PLACES,
        ("Turn on the lights{place}", "Switch on the lights{place}", "Lights on{place}"),
    ),
    ("activate", "music"): (
        ("none",),
        ("Turn on the music", "Play some music", "Start the music", "Put the music on"),
    ),
    ("deactivate", "lamp"): (
        ("none",),
        ("Turn off the lamp", "Switch the lamp off", "Lamp off", "Put the lamp out"),
    ),
    ("deactivate", "lights"): (
        _PLACES,
        ("Turn off the lights{place}", "Switch off the lights{place}", "Lights off{place}"),
    ),
    ("deactivate", "music"): (
        ("none",),
        ("Turn off the music", "Stop the music", "End the music", "Pause the music"),
    ),
    ("increase", "heat"): (
        _PLACES,
        ("Turn up the heat{place}", "Make it warmer{place}", "It is too cold{place}"),
    ),
    ("decrease", "heat"): (
        _PLACES,
        ("Turn down the heat{place}", "Make it cooler{place}", "It is too hot{place}"),
    ),
    ("increase", "volume"): (
        ("none",),
        ("Turn up the volume", "Make it louder", "Volume up", "I cannot hear that"),
    ),
    ("decrease", "volume"): (
        ("none",),
        ("Turn down the volume", "Make it quieter", "Volume down", "That is too loud"),
    ),
    **{
        ("bring", thing): (
            ("none",),
            (f"Bring me {words}", f"Fetch {words}", f"Please get me {words}", f"I need {words}"),
        )
        for thing, words in (
            *(("juice", "some juice"), ("newspaper", "the newspaper")),
            *(("shoes", "my shoes"), ("socks", "my socks")),
        )
    },
    **{
        ("change language", language): (
            ("none",),
            (f"Speak {language}", f"Switch to {language}", f"Set my telephone to {language}"),
        )
        for language in ("Chinese", "English", "German", "Korean")
    },
    ("change language", "none"): (
        ("none",),
        ("Change the language", "Use another language", "Open the language settings"),
    ),
}
INTENTS: dict[Intent, tuple[str, ...]] = {  # with the wordings of each
    (action, thing, place): tuple(
        text.format(place="" if place == "none" else f" in the {place}") for text in texts
    )
    for (action, thing), (places, texts) in _WORDINGS.items()
    for place in places
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Speakers by split, and utterances of each speaker."""

    train: int = 30
    valid: int = 6
    test: int = 6
    train_utterances: int = 31
    utterances: int = 25  # of valid and test

    @property
    def num_utterances(self) -> int:
        """Utterances of all splits together."""
        return self.train * self.train_utterances + (self.valid + self.test) * self.utterances


TINY = Sizes(train=3, valid=1, test=2, train_utterances=31, utterances=16)


@dataclass(frozen=True)
class Command:
    """One recording."""

    split: str
    name: str  # of the speaker
    speaker: Speaker
    intent: Intent
    speech: Speech


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    commands = plan(sizes)
    spoken = speak_all(
        folder,
        commands,
        shards=by_voice([each.speech for each in commands], voices=_SPEAKERS_PER_SHARD),
        split=lambda command: command.split,
        num_workers=num_workers,
        progress=progress,
    )
    _write_tables(folder / _ROOT / "data", commands)
    intents = len({command.intent for command in commands})
    return spoken.facts(VERSION, intents=intents), spoken.digests


def plan(sizes: Sizes) -> list[Command]:
    """Every recording, by split and speaker."""
    counts = {"train": sizes.train, "valid": sizes.valid, "test": sizes.test}
    out: list[Command] = []
    for split, count in counts.items():
        each = sizes.train_utterances if split == "train" else sizes.utterances
        rng = np.random.default_rng([_SEED, _FIRST[split]])
        intents = _dealt(rng, count * each)
        for index in range(count):
            own = intents[index * each : (index + 1) * each]
            out += _commands(split, own, number=_FIRST[split] + index, index=index)
    return out


def _dealt(rng: np.random.Generator, count: int) -> list[Intent]:
    """So many intents: each as often as any other, or once more."""
    intents = list(INTENTS)
    places = [rng.permutation(len(intents)) for _ in range(-(-count // len(intents)))]
    return [intents[place] for place in np.concatenate(places)[:count]]


def _commands(split: str, intents: list[Intent], *, number: int, index: int) -> Iterator[Command]:
    """All recordings of one speaker."""
    person = speaker(number, index=index, seed=_SEED)
    rng = np.random.default_rng([_SEED, number])
    name = "".join(rng.choice(list(string.ascii_letters + string.digits), 16))
    colour = tuple(rng.uniform(-6, 6, len(COLOUR_HZ)).round(2).tolist())
    snr_db = rng.uniform(5, 30)
    for intent in intents:
        wordings = INTENTS[intent]
        unique = uuid.UUID(bytes=rng.bytes(16), version=4)
        level_db = person.level_db + rng.normal(0, 2)
        speech = Speech(
            path=_ROOT / "wavs" / "speakers" / name / f"{unique}.wav",
            accent=person.accent,
            variant_name=person.variant_name,
            variant=person.variant,
            sentences=(wordings[int(rng.integers(len(wordings)))],),
            pauses=tuple(rng.uniform(0.1, 0.5, 2).round(3).tolist()),
            speed=round(165 * person.pace * rng.uniform(0.9, 1.12)),
            pitch=int(rng.integers(42, 59)),
            range=int(rng.integers(35, 70)),
            level_db=round(level_db, 2),
            floor_db=round(level_db - snr_db + rng.normal(0, 1), 2),
            seed=(_SEED, number, *unique.bytes),
            colour_db=colour,
        )
        yield Command(split, name, person, intent, speech)


def _write_tables(folder: Path, commands: list[Command]) -> None:
    """The table of each split and that of the speakers."""
    folder.mkdir()
    for split in _FIRST:
        rows = [
            (each.speech.path.relative_to(_ROOT), each.name, *each.speech.sentences, *each.intent)
            for each in commands
            if each.split == split
        ]
        numbered = [(number, *row) for number, row in enumerate(rows)]
        _write(folder / f"{split}_data.csv", [_COLUMNS, *numbered])
    people = {each.name: each.speaker for each in commands}
    gender = {"M": "male", "F": "female"}
    _write(
        folder / "speaker_demographics.csv",
        [_PEOPLE_COLUMNS]
        + [
            (name, "native", "English", "English", gender[person.sex], _AGES[person.kind])
            for name, person in people.items()
        ],
    )


def _write(path: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


CORPUS = Corpus(
    title="mini Fluent Speech Commands",
    folder=f"fluent-commands-v{VERSION}",
    root=_ROOT,
    standard=Sizes(),
    tiny=TINY,
    num_bytes=lambda sizes: sizes.num_utterances * _BYTES_PER_UTTERANCE,
    fill=_fill,
    expected_sha256=EXPECTED_SHA256,
)
