# SPDX-License-Identifier: Apache-2.0
"""A mini Audio SNIPS in the layout of SUPERB's slot filling: orders with marked slots.

    SNIPS/{train,valid,test}/<Voice>-snips-<split>-<n>.wav    16 kHz, mono, 16 bit
    SNIPS/all.iob.snips.txt    <name> BOS WORD ... EOS<tab>O tag ... Intent
    SNIPS/slots.txt            O and the names of slots, the most frequent first, no last newline

Layout: Lai et al. 2021 and s3prl's preparation. A tag is the bare name of a slot, or O; that of EOS
is the intent. As in the real one a folder holds sentences of all sixteen voices, of which eight
train, four validate and four test: the other voices say one sentence there, which no one uses.
There every voice says the same sentences; so few as here would be learnt by heart, so here each
voice says its own. They are of our own templates, for all seven intents.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from wavlm_lightning.recipes.mini.sentences import words
from wavlm_lightning.recipes.mini.speech import COLOUR_HZ, Speech, by_voice, speak_all
from wavlm_lightning.recipes.mini.store import Corpus, Digests, Facts, Progress
from wavlm_lightning.recipes.mini.voices import speaker

VERSION = 2  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "07109dba6ad32f06e9e633e8831d2f5e58dce81fd9e9f3814bc141d6bd257f0e",
}
_ROOT = Path("SNIPS")
_SEED = 71
_VOICES_PER_SHARD = 2
_BYTES_PER_UTTERANCE = 180_000  # about 75 kB are used
_TRIES = 10_000  # to find a sentence that is new
_WORDS = (4, 9)  # fewest and most in a sentence
_US, _GB, _OTHER = "en-us", "en-gb-x-rp", "en-029"
_MAN, _WOMAN, _CHILD = 0, 1, 4  # indices that `speaker` makes these of
VOICES = {  # accent and kind, by split
    "train": {
        **{"Ivy": (_US, _CHILD), "Joanna": (_US, _WOMAN), "Joey": (_US, _MAN)},
        **{"Justin": (_US, _CHILD), "Kendra": (_US, _WOMAN), "Kimberly": (_US, _WOMAN)},
        **{"Matthew": (_US, _MAN), "Salli": (_US, _WOMAN)},
    },
    "valid": {
        **{"Aditi": (_OTHER, _WOMAN), "Amy": (_GB, _WOMAN)},
        **{"Geraint": (_GB, _MAN), "Nicole": (_US, _WOMAN)},
    },
    "test": {
        **{"Brian": (_GB, _MAN), "Emma": (_GB, _WOMAN)},
        **{"Raveena": (_OTHER, _WOMAN), "Russell": (_US, _MAN)},
    },
}
_TEMPLATES = {
    "AddToPlaylist": (
        "add {artist} to {playlist_owner} {playlist} playlist",
        "put {artist} on {playlist}",
        "include {artist} in the {playlist} list",
        "add {artist} to {playlist_owner} list {playlist}",
    ),
    "BookRestaurant": (
        "book a {restaurant_type} for {party_size_number} people",
        "find a {restaurant_type} in {city} for {timeRange}",
        "we need a table for {party_size_number} in {city}",
    ),
    "GetWeather": (
        "will it be {condition_description} in {city} {timeRange}",
        "what is the weather in {city} {timeRange}",
        "tell me when it gets {condition_description} in {city}",
    ),
    "PlayMusic": (
        "play {artist} on {service}",
        "I want to hear {artist} on {service}",
        "use {service} to play {playlist}",
        "play {playlist} on {service}",
    ),
    "RateBook": (
        "give {object_name} {rating_value} {rating_unit}",
        "rate {object_name} with {rating_value} {rating_unit}",
        "my rating of {object_name} is {rating_value}",
    ),
    "SearchCreativeWork": (
        "find me a book called {object_name}",
        "find the book {object_name} for me",
        "show me {object_name} please",
        "show me the book {object_name}",
        "where can I get {object_name}",
        "where can I find {object_name}",
        "please look for {object_name}",
        "is there a book called {object_name}",
    ),
    "SearchScreeningEvent": (
        "when is {movie_name} showing in {city}",
        "what time does {movie_name} start {timeRange}",
        "I want to see {movie_name} {timeRange}",
    ),
}
_VALUES = {
    "artist": (
        "walter stone",
        "julia winter",
        "black horses",
        "roy hunter",
        "golden foxes",
        "peter lane",
        "silver birds",
        "mary fields",
    ),
    "city": ("london", "boston", "paris", "chicago", "madrid", "dublin"),
    "condition_description": ("rainy", "windy", "cloudy", "sunny", "stormy"),
    "movie_name": (
        "silent river",
        "last train home",
        "seven ghosts",
        "queen of spades",
        "river queen",
        "the old train",
    ),
    "object_name": (
        "lost garden",
        "winter moon",
        "old captain",
        "paper castle",
        "secret door",
        "winter castle",
        "old garden",
        "paper moon",
        "lost captain",
        "golden door",
        "secret river",
        "white horse",
    ),
    "party_size_number": ("two", "three", "four", "five", "eight", "nine"),
    "playlist": ("summer party", "morning coffee", "road trip", "piano dreams", "dance night"),
    "playlist_owner": ("my", "our", "his", "her"),
    "rating_unit": ("points", "stars"),
    "rating_value": ("zero", "one", "two", "three", "four", "five"),
    "restaurant_type": ("bakery", "tavern", "pizza house", "diner", "steak house"),
    "service": ("youtube", "spotify", "deezer", "groove shark"),
    "timeRange": ("tomorrow", "tonight", "on sunday", "next friday", "this evening"),
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sentences of each voice, by split."""

    train: int = 60
    valid: int = 20
    test: int = 20

    @property
    def sentences(self) -> dict[str, int]:
        """Number of sentences by split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


TINY = Sizes(train=4, valid=2, test=2)


@dataclass(frozen=True)
class Order:
    """A sentence, a tag for each of its words, and its intent."""

    text: str
    tags: tuple[str, ...]
    intent: str


@dataclass(frozen=True)
class Clip:
    """One recording."""

    split: str  # of the sentence
    used: bool  # whether the voice is of that split too
    order: Order
    speech: Speech

    @property
    def line(self) -> str:
        """Its line of all.iob.snips.txt."""
        said = " ".join(words(self.order.text))
        tags = " ".join(self.order.tags)
        return f"{self.speech.path.stem} BOS {said} EOS\tO {tags} {self.order.intent}"


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    clips = plan(sizes)
    spoken = speak_all(
        folder,
        clips,
        shards=by_voice([each.speech for each in clips], voices=_VOICES_PER_SHARD),
        split=lambda clip: clip.split if clip.used else "unused",
        num_workers=num_workers,
        progress=progress,
    )
    _write_texts(folder / _ROOT, clips)
    voices = {split: len(names) for split, names in VOICES.items()}
    slots = len({tag for clip in clips for tag in clip.order.tags} - {"O"})
    return spoken.facts(VERSION, voices=voices, slots=slots), spoken.digests


def _write_texts(root: Path, clips: list[Clip]) -> None:
    """What is said, for all recordings, and the names of the slots."""
    kept = [clip for split in ("test", "valid", "train") for clip in clips if clip.split == split]
    text = "".join(f"{clip.line}\n" for clip in kept)
    (root / "all.iob.snips.txt").write_text(text, encoding="utf-8")
    counts = Counter(tag for clip in clips for tag in clip.order.tags)
    slots = sorted(counts, key=lambda tag: (tag != "O", -counts[tag], tag))
    (root / "slots.txt").write_text("\n".join(slots), encoding="utf-8")


def plan(sizes: Sizes) -> list[Clip]:
    """Every recording, by voice."""
    orders = _orders(sizes)
    first = {split: orders[next(iter(names))][:1] for split, names in VOICES.items()}
    return [
        clip
        for own, names in VOICES.items()
        for name in names
        for clip in _clips(own, name, first | {own: orders[name]})
    ]


def _orders(sizes: Sizes) -> dict[str, list[Order]]:
    """Sentences of each voice, all different; intents take turns."""
    rng = np.random.default_rng(_SEED)
    seen: set[str] = set()
    intents = cycle(_TEMPLATES)
    out: dict[str, list[Order]] = {}
    for split, names in VOICES.items():
        for name in names:
            own = out.setdefault(name, [])
            for intent in islice(intents, sizes.sentences[split]):
                own.append(_new_order(rng, intent, seen))
                seen.add(own[-1].text)
    return out


def _new_order(rng: np.random.Generator, intent: str, seen: set[str]) -> Order:
    """A sentence of an intent that is not among those seen.

    Raises:
        ValueError: if its templates seem to give no more.
    """
    for _ in range(_TRIES):
        order = _order(rng, intent)
        if order.text not in seen and _WORDS[0] <= len(order.tags) <= _WORDS[1]:
            return order
    raise ValueError(f"the templates of {intent} give no more sentences than {len(seen)} of all")


def _order(rng: np.random.Generator, intent: str) -> Order:
    """A template of the intent, its slots filled."""
    templates = _TEMPLATES[intent]
    said: list[tuple[str, str]] = []  # word, tag
    for part in templates[int(rng.integers(len(templates)))].split():
        if part.startswith("{"):
            slot = part[1:-1]
            value = _VALUES[slot][int(rng.integers(len(_VALUES[slot])))]
            said += [(word, slot) for word in value.split()]
        else:
            said.append((part, "O"))
    text, tags = zip(*said, strict=True)
    return Order(" ".join(text), tags, intent)


def _clips(own: str, name: str, orders: dict[str, list[Order]]) -> Iterator[Clip]:
    """Recordings of one voice: what it says in each split."""
    names = [each for voices in VOICES.values() for each in voices]
    number = 6001 + names.index(name)
    accent, index = VOICES[own][name]
    person = replace(speaker(number, index=index, seed=_SEED), accent=accent)
    rng = np.random.default_rng([_SEED, number])
    colour = tuple(rng.uniform(-5, 5, len(COLOUR_HZ)).round(2).tolist())
    snr_db = rng.uniform(15, 35)
    for split, said in orders.items():
        for place, order in enumerate(said):
            speech = Speech(
                path=_ROOT / split / f"{name}-snips-{split}-{place}.wav",
                accent=person.accent,
                variant_name=person.variant_name,
                variant=person.variant,
                sentences=(order.text,),
                pauses=tuple(rng.uniform(0.05, 0.2, 2).round(3).tolist()),
                speed=round(160 * person.pace * rng.uniform(0.95, 1.05)),
                pitch=int(rng.integers(45, 56)),
                range=int(rng.integers(40, 60)),
                level_db=round(person.level_db, 2),
                floor_db=round(person.level_db - snr_db, 2),
                seed=(_SEED, number, place, *split.encode()),
                colour_db=colour,
            )
            yield Clip(split, split == own, order, speech)


CORPUS = Corpus(
    title="mini Audio SNIPS",
    folder=f"audio-snips-v{VERSION}",
    root=_ROOT,
    standard=Sizes(),
    tiny=TINY,
    num_bytes=lambda sizes: len(plan(sizes)) * _BYTES_PER_UTTERANCE,
    fill=_fill,
    expected_sha256=EXPECTED_SHA256,
)
