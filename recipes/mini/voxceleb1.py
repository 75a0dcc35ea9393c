# SPDX-License-Identifier: Apache-2.0
"""A mini VoxCeleb1 in the layout of the real one: speakers heard in several videos each.

    VoxCeleb1/{dev,test}/wav/id10001/<video>/00001.wav      16 kHz, mono, 16 bit
    VoxCeleb1/vox1_meta.csv      tabs: VoxCeleb1 ID, VGGFace1 ID, Gender, Nationality, Set
    VoxCeleb1/veri_test.txt      trials of test speakers: 1 (same speaker) or 0, two paths
    VoxCeleb1/iden_split.txt     for identification: 1 (train), 2 (dev) or 3 (test), a path

Layout: Nagrani et al. 2017 and the files offered with VoxCeleb1. A video is a condition of its own:
one mood (pitch, pace), one channel (spectrum, level) and one noise floor. Without that the average
spectrum would tell the speakers apart. As in the real one the test speakers' numbers lie between
those of dev, video names may begin with - or _, and numbers within a video have gaps.
"""

import string
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

import numpy as np

from wavlm_lightning.recipes.mini.sentences import sentence_of
from wavlm_lightning.recipes.mini.speech import COLOUR_HZ, Speech, by_voice, speak_all
from wavlm_lightning.recipes.mini.store import Corpus, Digests, Facts, Progress
from wavlm_lightning.recipes.mini.voices import Speaker, speaker

VERSION = 1  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "62cd151d263053d6ecc7212b990b8f1052e6a15495b71b6ca04d47064780df39",
}
_SEED = 22
_TRIAL_SEED = 23
_FIRST_TEST = 10270  # as in the real one: id10270 to id10309
_NUM_TEST = 40
_SPEAKERS_PER_SHARD = 4
_BYTES_PER_UTTERANCE = 300_000  # about 130 kB are used
_SAME_SEX = 0.8  # share of the non-target trials: the hard ones
_NAME_LETTERS = string.ascii_letters + string.digits + "-_"
_NATIONS = {
    "en-us": "USA",
    "en": "UK",
    "en-029": "Trinidad and Tobago",
    "en-gb-scotland": "UK",
    "en-gb-x-rp": "UK",
    "en-gb-x-gbclan": "UK",
    "en-gb-x-gbcwmd": "UK",
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Speakers by split, videos a speaker, utterances a video, trials."""

    dev_speakers: int = 60
    test_speakers: int = 20
    videos: int = 4  # at least 3: train, dev and test of identification
    utterances: int = 3
    trials: int = 1200

    @property
    def num_utterances(self) -> int:
        """Utterances of both splits together."""
        return (self.dev_speakers + self.test_speakers) * self.videos * self.utterances


TINY = Sizes(dev_speakers=8, test_speakers=4, videos=3, utterances=2, trials=40)


@dataclass(frozen=True)
class Clip:
    """One file: its speaker, place in the corpus and what is spoken."""

    split: str
    speaker: Speaker
    video: int  # counts from 0 for each speaker
    name: str  # id10001/<video>/00001.wav
    speech: Speech


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    clips = plan(sizes)
    spoken = speak_all(
        folder,
        clips,
        shards=by_voice([each.speech for each in clips], voices=_SPEAKERS_PER_SHARD),
        split=lambda clip: clip.split,
        num_workers=num_workers,
        progress=progress,
    )
    _write_lists(folder / "VoxCeleb1", clips, num_trials=sizes.trials)
    speakers = {"dev": sizes.dev_speakers, "test": sizes.test_speakers}
    return spoken.facts(VERSION, speakers=speakers, trials=sizes.trials), spoken.digests


def plan(sizes: Sizes) -> list[Clip]:
    """Every file, by split, speaker and video."""
    below = range(_FIRST_TEST - _NUM_TEST, _FIRST_TEST)
    above = range(_FIRST_TEST + _NUM_TEST, 10**5)
    numbers = {
        "dev": [*below, *above[: sizes.dev_speakers]][: sizes.dev_speakers],
        "test": list(range(_FIRST_TEST, _FIRST_TEST + sizes.test_speakers)),
    }
    return [
        clip
        for split, own in numbers.items()
        for index, number in enumerate(own)
        for clip in _videos(split, speaker(number, index=index, seed=_SEED), sizes)
    ]


def _videos(split: str, person: Speaker, sizes: Sizes) -> list[Clip]:
    """All files of one speaker."""
    out = []
    for video in range(sizes.videos):
        rng = np.random.default_rng([_SEED, person.number, video])
        title = "".join(rng.choice(list(_NAME_LETTERS), 11))
        names = np.cumsum(rng.integers(1, 4, sizes.utterances))  # 00001 may be missing
        pitch, pace = int(rng.integers(41, 60)), rng.uniform(0.92, 1.08)  # 8 percent each
        colour = rng.uniform(-6, 6, len(COLOUR_HZ)).round(2)
        level_db = round(rng.uniform(-32, -18), 2)
        floor_db = round(level_db - rng.uniform(15, 35), 2)
        for number in names.tolist():
            name = f"id{person.number}/{title}/{number:05d}.wav"
            speed = round(165 * person.pace * pace * rng.uniform(0.97, 1.03))
            words_a_second = speed / 52  # measured, pauses included
            text = sentence_of(
                rng,
                min_words=round(rng.uniform(2.8, 3.4) * words_a_second),
                max_words=round(rng.uniform(3.8, 4.8) * words_a_second),
            )
            speech = Speech(
                path=Path("VoxCeleb1", split, "wav", name),
                accent=person.accent,
                variant_name=person.variant_name,
                variant=person.variant,
                sentences=(text,),
                pauses=tuple(rng.uniform(0.1, 0.3, 2).round(3).tolist()),
                speed=speed,
                pitch=pitch + int(rng.integers(-2, 3)),
                range=int(rng.integers(35, 70)),
                level_db=level_db,
                floor_db=floor_db,
                seed=(_SEED, person.number, video, number),
                colour_db=tuple(colour.tolist()),
            )
            out.append(Clip(split, person, video, name, speech))
    return out


def _write_lists(root: Path, clips: list[Clip], *, num_trials: int) -> None:
    people = {clip.speaker.number: clip for clip in clips}
    rows = ["VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet"]
    for number, clip in sorted(people.items()):
        person = clip.speaker
        nation = _NATIONS[person.accent]
        rows.append(f"id{number}\tMini_{number}\t{person.sex.lower()}\t{nation}\t{clip.split}")
    _write(root / "vox1_meta.csv", rows)
    parts = {0: 3, 1: 2}  # the first video is the test, the second the dev of identification
    kept = sorted(clips, key=lambda clip: clip.name)
    _write(root / "iden_split.txt", [f"{parts.get(clip.video, 1)} {clip.name}" for clip in kept])
    test = [clip for clip in clips if clip.split == "test"]
    lines = [f"{same} {one} {two}" for same, one, two in trials(test, num_trials=num_trials)]
    _write(root / "veri_test.txt", lines)


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def trials(clips: list[Clip], *, num_trials: int) -> list[tuple[int, str, str]]:
    """Pairs of files: targets, of two videos of one speaker, and non-targets take turns."""
    rng = np.random.default_rng(_TRIAL_SEED)
    own: dict[int, list[Clip]] = {}
    for clip in clips:
        own.setdefault(clip.speaker.number, []).append(clip)
    half = num_trials // 2
    decks = [_shuffled(rng, _targets(mine)) for mine in own.values()]
    targets = [pair for turn in zip(*decks, strict=True) for pair in turn][:half]
    same: list[tuple[Clip, Clip]] = []
    other: list[tuple[Clip, Clip]] = []
    for one, two in combinations(own.values(), 2):
        alike = one[0].speaker.sex == two[0].speaker.sex
        (same if alike else other).extend(product(one, two))
    num_same = round(_SAME_SEX * half)
    others = _shuffled(rng, same)[:num_same] + _shuffled(rng, other)[: half - num_same]
    if len(targets) < half or len(others) < half:
        raise ValueError(f"{num_trials} trials are more than {len(own)} test speakers give")
    out = []
    for target, non_target in zip(targets, _shuffled(rng, others), strict=True):
        out.append((1, target[0].name, target[1].name))
        out.append((0, non_target[0].name, non_target[1].name))
    return out


def _targets(clips: list[Clip]) -> list[tuple[Clip, Clip]]:
    return [pair for pair in combinations(clips, 2) if pair[0].video != pair[1].video]


def _shuffled(rng: np.random.Generator, pairs: list[tuple[Clip, Clip]]) -> list[tuple[Clip, Clip]]:
    """Pairs in a random order, with the two of each pair in a random order too."""
    turned = [
        pair[::-1] if turn else pair
        for pair, turn in zip(pairs, rng.random(len(pairs)) < 0.5, strict=True)
    ]
    return [turned[place] for place in rng.permutation(len(turned))]


CORPUS = Corpus(
    title="mini VoxCeleb1",
    folder=f"voxceleb1-v{VERSION}",
    root=Path("VoxCeleb1"),
    standard=Sizes(),
    tiny=TINY,
    num_bytes=lambda sizes: sizes.num_utterances * _BYTES_PER_UTTERANCE,
    fill=_fill,
    expected_sha256=EXPECTED_SHA256,
)
