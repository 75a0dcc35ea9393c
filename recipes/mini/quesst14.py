# SPDX-License-Identifier: Apache-2.0
"""A mini QUESST 2014 in the layout of the real one: in which documents is a spoken query said?

    quesst14Database/Audio/quesst14_00001.wav                   8 kHz, mono, 16 bit
    quesst14Database/dev_queries/quesst14_dev_0001.wav          and eval_queries
    quesst14Database/scoring/language_key_utterances.lst        <path> <language>
    quesst14Database/scoring/language_key_{dev,eval}.lst
    quesst14Database/scoring/groundtruth_quesst14_{dev,eval}/   quesst14_dev.rttm, .ecf.xml, ...

Layout: Anguera et al. 2014; formats of NIST's STD 2006 plan. A query is two words, or one where the
documents have no more pairs, that two to eight documents hold just so (type T1 of the real one). As
there the ground truth is of all languages, while SUPERB looks at `nnenglish`: here the others are
made-up words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from wavlm_lightning.recipes.mini.quesst14_scoring import (
    Document,
    Occurrence,
    write_key,
    write_truth,
)
from wavlm_lightning.recipes.mini.quesst14_texts import ENGLISH, MADE_UP, Item, items
from wavlm_lightning.recipes.mini.speech import COLOUR_HZ, SAMPLE_RATE, Speech, by_voice, speak_all
from wavlm_lightning.recipes.mini.store import Corpus, Digests, Facts, Progress, write_audio
from wavlm_lightning.recipes.mini.voices import speaker

VERSION = 2  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "237742203fd45d90259d4fa1d37cdb26c336d7472a34bb0d73454322f0987ffe",
}
_ROOT = Path("quesst14Database")
_SEED = 81
_WRITTEN_RATE = 8000
_SPEAKERS_PER_SHARD = 4
_PER_SPEAKER = 4  # documents or queries of one voice
_BYTES_PER_FILE = 400_000  # a document uses about 90 kB, and 180 kB before its rate is halved
_FIRST = {"": 7001, "dev": 8001, "eval": 9001}  # number of the first speaker


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Documents and queries of each split, in English and in each of the two other languages."""

    documents: int = 112
    queries: int = 24
    other_documents: int = 6
    other_queries: int = 2

    @property
    def num_files(self) -> int:
        """Files of all kinds and languages."""
        english = self.documents + 2 * self.queries
        return english + len(MADE_UP) * (self.other_documents + 2 * self.other_queries)


TINY = Sizes(documents=12, queries=4, other_documents=4, other_queries=1)


@dataclass(frozen=True)
class Clip:
    """One file."""

    item: Item
    speech: Speech

    @property
    def name(self) -> str:
        return self.speech.path.stem


@dataclass(frozen=True)
class Hit:
    """A place in a document where a query is said."""

    document: Clip
    query: Clip
    words: range  # which ones of the document


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    def halve(clip: Clip, said: dict[str, Any]) -> tuple[str, int]:
        path = folder / clip.speech.path
        samples = _halved(soundfile.read(path)[0])
        return write_audio(path, samples, sample_rate=_WRITTEN_RATE), said["samples"]

    clips = plan(sizes)
    spoken = speak_all(
        folder,
        clips,
        shards=by_voice([each.speech for each in clips], voices=_SPEAKERS_PER_SHARD),
        split=_counted_as,
        num_workers=num_workers,
        progress=progress,
        rewrite=halve,
    )
    timed = {clip.name: said for clip, said in spoken.said}
    _write_scoring(folder / _ROOT / "scoring", clips, timed)
    found = {split: len(hits(clips, split)) for split in ("dev", "eval")}
    return spoken.facts(VERSION, hits=found), spoken.digests


def _counted_as(clip: Clip) -> str:
    kind = clip.item.split or "documents"
    return kind if clip.item.language == ENGLISH else f"{kind}/other"


def _write_scoring(folder: Path, clips: list[Clip], timed: Mapping[str, dict[str, Any]]) -> None:
    """The scoring package, but for its program."""
    for split, name in (("", "utterances"), ("dev", "dev"), ("eval", "eval")):
        own = {clip.speech.path: clip.item.language for clip in clips if clip.item.split == split}
        write_key(folder / f"language_key_{name}.lst", own)
    documents = {
        clip.name: Document(clip.speech.variant_name, timed[clip.name]["samples"] / SAMPLE_RATE)
        for clip in clips
        if not clip.item.split
    }
    for split in ("dev", "eval"):
        queries = [clip.name for clip in clips if clip.item.split == split]
        found = [
            Occurrence(
                hit.document.name,
                hit.query.name,
                *_span(timed[hit.document.name]["phones"], hit.words),
            )
            for hit in hits(clips, split)
        ]
        write_truth(folder, documents, queries, found, split=split)


def _halved(waveform: np.ndarray) -> np.ndarray:
    """Waveform (T,) at 16 kHz -> samples (T // 2,) int16 at 8 kHz, by cutting its spectrum."""
    count = len(waveform) // 2
    spectrum = np.fft.rfft(waveform[: 2 * count])[: count // 2 + 1]
    hertz = np.linspace(0, _WRITTEN_RATE / 2, len(spectrum))
    ramp = np.clip((hertz - 3700) / 300, 0, 1)
    out = np.fft.irfft(spectrum * np.cos(np.pi / 2 * ramp) ** 2, count) / 2
    samples: np.ndarray = np.round(32767 * np.clip(out, -1, 1)).astype(np.int16)
    return samples


def plan(sizes: Sizes) -> list[Clip]:
    """Every document and query, by voice."""
    said = items(ENGLISH, num_documents=sizes.documents, num_queries=sizes.queries, seed=_SEED)
    for language in MADE_UP:
        said += items(
            language,
            num_documents=sizes.other_documents,
            num_queries=sizes.other_queries,
            seed=_SEED,
        )
    return [clip for split in _FIRST for clip in _clips(split, said)]


def _clips(split: str, said: list[Item]) -> Iterator[Clip]:
    """All documents (split is empty) or the queries of a split; their numbers are shuffled."""
    own = [item for item in said if item.split == split]
    rng = np.random.default_rng([_SEED, _FIRST[split]])
    numbers = (1 + rng.permutation(len(own))).tolist()
    for first in range(0, len(own), _PER_SPEAKER):
        index = first // _PER_SPEAKER
        person = speaker(_FIRST[split] + index, index=index, seed=_SEED)
        colour = tuple(rng.uniform(-6, 6, len(COLOUR_HZ)).round(2).tolist())
        level_db, snr_db = rng.uniform(-30, -20), rng.uniform(12, 30)
        for place in range(first, min(first + _PER_SPEAKER, len(own))):
            item, number = own[place], numbers[place]
            query = Path(f"{split}_queries", f"quesst14_{split}_{number:04d}.wav")
            speech = Speech(
                path=_ROOT / (query if split else Path("Audio", f"quesst14_{number:05d}.wav")),
                accent=person.accent,
                variant_name=person.variant_name,
                variant=person.variant,
                sentences=item.sentences,
                pauses=tuple(rng.uniform(0.08, 0.2, len(item.sentences) + 1).round(3).tolist()),
                speed=round((152 if split else 165) * person.pace * rng.uniform(0.95, 1.05)),
                pitch=int(rng.integers(43, 58)),
                range=int(rng.integers(35, 65)),
                level_db=round(level_db, 2),
                floor_db=round(level_db - snr_db, 2),
                seed=(_SEED, person.number, place),
                colour_db=colour,
            )
            yield Clip(item, speech)


def hits(clips: list[Clip], split: str) -> list[Hit]:
    """Where the queries of a split are said, by document and query."""
    ordered = sorted(clips, key=lambda clip: clip.name)
    return [
        Hit(document, query, place)
        for document in ordered
        for query in ordered
        if not document.item.split and query.item.split == split
        for place in _places(document.item.said, query.item.said[0])
    ]


def _places(sentences: list[list[str]], wanted: list[str]) -> Iterator[range]:
    """Where the wanted words follow each other in one sentence, as counted over all of them."""
    before = 0
    for said in sentences:
        for at in range(len(said)):
            if said[at : at + len(wanted)] == wanted:
                yield range(before + at, before + at + len(wanted))
        before += len(said)


def _span(phones: list[tuple[str, int, int, int]], wanted: range) -> tuple[float, float]:
    """Start and end in seconds of some words."""
    own = [(start, end) for _, start, end, word in phones if word in wanted]
    return own[0][0] / SAMPLE_RATE, own[-1][1] / SAMPLE_RATE


CORPUS = Corpus(
    title="mini QUESST 2014",
    folder=f"quesst14-v{VERSION}",
    root=_ROOT,
    standard=Sizes(),
    tiny=TINY,
    num_bytes=lambda sizes: sizes.num_files * _BYTES_PER_FILE,
    fill=_fill,
    expected_sha256=EXPECTED_SHA256,
)
