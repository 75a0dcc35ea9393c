# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech's own layout: what is said by whom, transcripts, tables and alignments.

    LibriSpeech/{SPEAKERS,CHAPTERS}.TXT, librispeech-lexicon.txt
    LibriSpeech/<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt
    LibriSpeech/<split>/<speaker>/<chapter>/<speaker>-<chapter>-<index>.flac, .TextGrid

Layout: Panayotov et al. 2015 and the README.TXT of openslr.org/12. The TextGrids look as the
Montreal Forced Aligner writes them (tiers `words` and `phones`), but hold the times at which the
synthesizer spoke, not estimates.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wavlm_lightning.recipes.mini.pronounce import lexicon_text, pronounced
from wavlm_lightning.recipes.mini.sentences import sentences, words
from wavlm_lightning.recipes.mini.speech import SAMPLE_RATE, Speech
from wavlm_lightning.recipes.mini.voices import Speaker, arpabet, speaker

SILENCE = "sil"
_SEED = 20
_SHORT = 576  # samples, 36 ms: an l or r this short after a vowel was spoken within the vowel


class Interval(NamedTuple):
    """A phone and the number of its word in the utterance (-1: none), `start` to `end` samples."""

    label: str
    start: int
    end: int
    word: int


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One file to be spoken."""

    split: str
    speaker: Speaker
    chapter: int
    index: int
    sentences: tuple[str, ...]
    pauses: tuple[float, ...]  # seconds before each sentence and after the last
    speed: int  # words a minute, as eSpeak counts
    pitch: int  # 0 to 99, 50 is the speaker's own
    range: int  # of the pitch, likewise

    @property
    def name(self) -> str:
        return f"{self.speaker.number}-{self.chapter}-{self.index:04d}"

    @property
    def folder(self) -> Path:
        """Relative to the corpus."""
        return Path("LibriSpeech", self.split, str(self.speaker.number), str(self.chapter))

    @property
    def transcript(self) -> list[str]:
        return words(" ".join(self.sentences))

    @property
    def path(self) -> Path:
        """Path of the audio, relative to the corpus."""
        return self.folder / f"{self.name}.flac"

    @property
    def speech(self) -> Speech:
        """What the worker must know to speak it."""
        return Speech(
            path=self.path,
            accent=self.speaker.accent,
            variant_name=self.speaker.variant_name,
            variant=self.speaker.variant,
            sentences=self.sentences,
            pauses=self.pauses,
            speed=self.speed,
            pitch=self.pitch,
            range=self.range,
            level_db=self.speaker.level_db,
            floor_db=self.speaker.floor_db,
            seed=(_SEED, self.speaker.number, self.chapter, self.index),
        )


def plan(split: str, *, first: int, speakers: int, utterances: int) -> list[Utterance]:
    """All of a split: `speakers` numbered from `first`, `utterances` each, in two chapters."""
    out = []
    for index in range(speakers):
        voice = speaker(first + index, index=index, seed=_SEED)
        for place in range(utterances):
            second, within = divmod(place, (utterances + 1) // 2)
            chapter = 10 * voice.number + second
            out.append(_utterance(split, voice, chapter=chapter, index=within))
    return out


def _utterance(split: str, voice: Speaker, *, chapter: int, index: int) -> Utterance:
    rng = np.random.default_rng([_SEED, voice.number, chapter, index])
    speed = round(165 * voice.pace * rng.uniform(0.93, 1.07))
    words_a_second = speed / 52  # measured, pauses included
    texts = sentences(
        rng,
        min_words=round(rng.uniform(3.5, 10) * words_a_second),
        max_words=round(12 * words_a_second),
    )
    between = [round(pause, 3) for pause in rng.uniform(0.2, 0.6, len(texts) - 1).tolist()]
    edges = [round(pause, 3) for pause in rng.uniform(0.1, 0.4, 2).tolist()]
    return Utterance(
        split=split,
        speaker=voice,
        chapter=chapter,
        index=index,
        sentences=tuple(texts),
        pauses=(edges[0], *between, edges[1]),
        speed=speed,
        pitch=int(rng.integers(44, 57)),
        range=int(rng.integers(35, 70)),
    )


def write(root: Path, utterances: Sequence[Utterance], spoken: Sequence[dict[str, Any]]) -> None:
    """Transcripts, TextGrids and tables beside the audio; `spoken` is what the worker returned."""
    minutes: dict[tuple[str, int, int], float] = {}
    lines: dict[Path, list[str]] = {}
    for utterance, said in zip(utterances, spoken, strict=True):
        number, chapter = utterance.speaker.number, utterance.chapter
        key = (utterance.split, number, chapter)
        minutes[key] = minutes.get(key, 0.0) + said["samples"] / SAMPLE_RATE / 60
        table = root / utterance.folder / f"{number}-{chapter}.trans.txt"
        line = f"{utterance.name} {' '.join(utterance.transcript)}"
        lines.setdefault(table, []).append(line)
        phones = align(said["phones"], utterance.speaker.accent)
        grid = textgrid(phones, utterance.transcript)
        (root / utterance.folder / f"{utterance.name}.TextGrid").write_text(grid, encoding="utf-8")
    for table, transcripts in lines.items():
        table.write_text("".join(f"{line}\n" for line in transcripts), encoding="utf-8")
    speakers = {utterance.speaker.number: utterance.speaker for utterance in utterances}
    _write_tables(root / "LibriSpeech", speakers, minutes)


def write_lexicon(root: Path, utterances: Sequence[Utterance], *, num_workers: int) -> None:
    """Pronunciations of all words, as openslr.org/11 has those of the real one.

    They are American and canonical; what a voice says is in its TextGrid.
    """
    words = {word for utterance in utterances for word in utterance.transcript}
    found, failed = pronounced(words, num_workers=num_workers)
    if failed:
        raise ValueError(f"no pronunciation: {failed}")
    path = root / "LibriSpeech" / "librispeech-lexicon.txt"
    path.write_text(lexicon_text(found), encoding="utf-8")


def _write_tables(
    root: Path, speakers: dict[int, Speaker], minutes: dict[tuple[str, int, int], float]
) -> None:
    """SPEAKERS.TXT and CHAPTERS.TXT; `minutes` is keyed by split, speaker and chapter."""
    readers = [
        "; Synthetic speakers (eSpeak NG), in the columns of LibriSpeech's SPEAKERS.TXT",
        ";ID  |SEX| SUBSET           |MINUTES| NAME",
    ]
    chapters = [
        "; Chapters of synthetic sentences, in the columns of LibriSpeech's CHAPTERS.TXT",
        ";ID    |READER|MINUTES| SUBSET           | PROJ.|BOOK ID| CH. TITLE | PROJECT TITLE",
    ]
    for (split, number), keys in groupby(sorted(minutes), key=lambda key: key[:2]):
        person = speakers[number]
        total = 0.0
        for key in keys:
            total += minutes[key]
            row = f"{key[2]:<7}| {number:<5}| {minutes[key]:<6.2f}| {split:<17}| 0    | 0     "
            chapters.append(f"{row}| Chapter {key[2] % 10 + 1} | Mini corpus")
        row = f"{number:<5}| {person.sex} | {split:<17}| {total:<6.2f}"
        readers.append(f"{row}| eSpeak {person.kind} {number}, {person.accent}")
    (root / "SPEAKERS.TXT").write_text("\n".join(readers) + "\n", encoding="utf-8")
    (root / "CHAPTERS.TXT").write_text("\n".join(chapters) + "\n", encoding="utf-8")


def align(phones: Iterable[Sequence[Any]], accent: str) -> list[Interval]:
    """ARPAbet phones and silences of eSpeak's phones (mnemonic, start, end, word), without gaps.

    Times are eSpeak's own, but for two cases. An l or r after a vowel is often spoken within it and
    marked where both are over: it takes the last third of the two, and the gap up to the next mark
    is that phone's closure. Two phones under one mnemonic take half each.
    """
    out: list[Interval] = []
    for mnemonic, mark, end, word in phones:
        start = out[-1].end if out else mark
        labels = arpabet(mnemonic, accent) if word >= 0 else [SILENCE]
        if len(out) > 1 and out[-1].label == SILENCE and out[-2].word == word >= 0:
            out[-2:] = [out[-2]._replace(end=start)]  # a break inside a word, such as a closure
        before = out[-1] if out and out[-1].word == word else None
        if before and (labels in ([], [SILENCE]) or labels == ["R"] == [before.label]):
            out[-1] = before._replace(end=end)
            continue
        if before and labels in (["L"], ["R"]) and end - mark < _SHORT:
            start, end = mark - (mark - before.start) // 3, mark
            out[-1] = before._replace(end=start)
        elif word < 0 and end == start:
            continue
        if not labels or end <= start:
            raise ValueError(f"eSpeak gave no time to {mnemonic!r} at sample {start}")
        middle = (start + end) // 2 if len(labels) == 2 else end
        out.append(Interval(labels[0], start, middle, word))
        out += [Interval(label, middle, end, word) for label in labels[1:]]
    return out


def textgrid(phones: Sequence[Interval], transcript: Sequence[str]) -> str:
    """Praat's long text format: tiers `words` (lower case, empty in silence) and `phones`."""
    spans = [list(group) for _, group in groupby(phones, key=lambda phone: phone.word)]
    said = [
        ("" if span[0].word < 0 else transcript[span[0].word].lower(), span[0].start, span[-1].end)
        for span in spans
    ]
    tiers = {"words": said, "phones": [phone[:3] for phone in phones]}
    end = _seconds(phones[-1].end)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end}",
    ]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"']
        lines += [f'        name = "{name}"', "        xmin = 0", f"        xmax = {end}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for place, (label, start, stop) in enumerate(intervals, 1):
            lines.append(f"        intervals [{place}]:")
            lines.append(f"            xmin = {_seconds(start)}")
            lines.append(f"            xmax = {_seconds(stop)}")
            lines.append(f'            text = "{label}"')
    return "\n".join(lines) + "\n"


def _seconds(samples: int) -> str:
    """Exact: a sample is 0.0000625 s."""
    return f"{samples / SAMPLE_RATE:.7f}".rstrip("0").rstrip(".")
