# SPDX-License-Identifier: Apache-2.0
"""A mini IEMOCAP in the layout of the real one: five sessions of a woman and a man each.

    IEMOCAP/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav   16 kHz, mono, 16 bit
    IEMOCAP/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt                labels of its turns
    IEMOCAP/Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt

Layout: Busso et al. 2008 and the documentation of the release. As there, some turns have labels
that the four-class task leaves out (xxx: the raters disagreed; fru), `exc` stands beside `hap`, and
a Macintosh left `._` files beside the label files, which hold no text.

The emotion is in the prosody, after Scherer (2003): an angry or happy voice is higher,
livelier, faster and brighter, an angry one rough, a sad one low, flat, slow and dull. Each turn has
a strength and a spread of its own, so that classes overlap.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wavlm_lightning.recipes.mini.sentences import sentence_of
from wavlm_lightning.recipes.mini.speech import COLOUR_HZ, SAMPLE_RATE, Speech, speak_all
from wavlm_lightning.recipes.mini.store import Corpus, Digests, Facts, Progress
from wavlm_lightning.recipes.mini.voices import Speaker, speaker

VERSION = 1  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "911f7876e3e93a2e7d2ebd335bee33aafb031079f4d3f698520139dcfea1f576",
}
SESSIONS = range(1, 6)
_SEED = 24
_BYTES_PER_UTTERANCE = 300_000  # about 95 kB are used


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Dialogs a session, turns a dialog."""

    dialogs: int = 8  # at most 8
    turns: int = 12

    @property
    def num_utterances(self) -> int:
        """Utterances of all sessions together."""
        return len(SESSIONS) * self.dialogs * self.turns


TINY = Sizes(dialogs=2, turns=7)


@dataclass(frozen=True)
class Style:
    """How a voice differs from its plain one."""

    pitch: float = 0.0  # of eSpeak's scale; 9 are about 8 percent
    range: float = 0.0  # of the pitch, of eSpeak's scale
    pace: float = 0.0  # logarithm
    level_db: float = 0.0
    tilt_db: float = 0.0  # of the spectrum, from its lowest to its highest
    smile_db: float = 0.0  # around 2.5 kHz, where a smile carries the formants
    roughness: float = 0.0  # of eSpeak's variants, 0 to 7; flutter goes along


STYLES = {
    "neu": Style(),
    "hap": Style(pitch=16, range=26, pace=0.10, level_db=2, tilt_db=3, smile_db=9),
    "exc": Style(pitch=22, range=36, pace=0.16, level_db=4, tilt_db=4, smile_db=10),
    "ang": Style(pitch=5, range=6, pace=0.16, level_db=5, tilt_db=14, roughness=5),
    "sad": Style(pitch=-12, range=-30, pace=-0.24, level_db=-6, tilt_db=-12, smile_db=-2),
    "fru": Style(pitch=2, range=3, pace=0.06, level_db=2, tilt_db=6, roughness=2),
    "xxx": Style(pitch=3, range=5, pace=0.02, smile_db=2),
}
_SPREAD = Style(pitch=4, range=8, pace=0.05, level_db=1.5, tilt_db=2, smile_db=2, roughness=1)
_DECK = (  # of 12 turns: ten for the task
    *("neu", "neu", "neu", "ang", "ang", "sad", "sad"),
    *("hap", "exc", "exc", "xxx", "fru"),
)
_TINY_DECK = ("neu", "ang", "sad", "hap", "exc", "xxx", "fru")
_WORDS = {  # what raters call it, and valence, activation, dominance from 1 to 5
    "neu": ("Neutral", (3.0, 2.5, 2.5)),
    "hap": ("Happiness", (4.0, 3.0, 3.0)),
    "exc": ("Excited", (4.2, 3.8, 3.2)),
    "ang": ("Anger", (1.7, 3.8, 3.9)),
    "sad": ("Sadness", (2.1, 2.1, 2.3)),
    "fru": ("Frustration", (2.3, 3.0, 3.1)),
    "xxx": ("Other", (2.8, 3.0, 2.9)),
}
_APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02\xb0\xff"


@dataclass(frozen=True)
class Turn:
    """One utterance of a dialog."""

    session: int
    dialog: str  # Ses01F_impro01: the letter is who wore the markers
    name: str  # Ses01F_impro01_F000
    emotion: str
    speech: Speech


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    turns = plan(sizes)
    spoken = speak_all(
        folder,
        turns,
        shards=[[t.speech for t in turns if t.session == session] for session in SESSIONS],
        split=lambda turn: f"Session{turn.session}",
        num_workers=num_workers,
        progress=progress,
    )
    _write_labels(folder / "IEMOCAP", turns, [said["samples"] for _, said in spoken.said])
    emotions = dict(Counter(turn.emotion for turn in turns))
    return spoken.facts(VERSION, emotions=emotions), spoken.digests


def plan(sizes: Sizes) -> list[Turn]:
    """Every turn, by session and dialog."""
    return [turn for session in SESSIONS for turn in _session(session, sizes)]


def _session(session: int, sizes: Sizes) -> Iterator[Turn]:
    people = {
        "F": speaker(4001 + 10 * session, index=1, seed=_SEED),
        "M": speaker(4002 + 10 * session, index=0, seed=_SEED),
    }
    rng = np.random.default_rng([_SEED, session])
    colour = rng.uniform(-2, 2, len(COLOUR_HZ))
    deck = _DECK if sizes.turns >= len(_DECK) else _TINY_DECK
    for dialog in _dialogs(session)[: sizes.dialogs]:
        counts = {"F": 0, "M": 0}
        emotions = rng.permutation(np.resize(deck, sizes.turns)).tolist()
        for place, emotion in enumerate(emotions):
            letter = "FM"[place % 2] if rng.random() < 0.8 else "MF"[place % 2]
            name = f"{dialog}_{letter}{counts[letter]:03d}"
            counts[letter] += 1
            path = Path("IEMOCAP", f"Session{session}", "sentences", "wav", dialog, f"{name}.wav")
            speech = _speech(rng, path, people[letter], emotion=emotion, colour=colour)
            yield Turn(session, dialog, name, emotion, speech)


def _dialogs(session: int) -> list[str]:
    """Names as odd as the real ones: sessions 3 and 5 have parts a and b."""
    name = f"Ses{session:02d}"
    fifth = "impro05a" if session == 3 else "impro05"
    first = "script01_1b" if session == 5 else "script01_1"
    women = [f"{name}F_{part}" for part in ("impro01", "script01_1", "impro02", "script02_2")]
    men = [f"{name}M_{part}" for part in (fifth, first, "impro03", "script03_2")]
    return [dialog for both in zip(women, reversed(men), strict=True) for dialog in both]


def _speech(
    rng: np.random.Generator, path: Path, person: Speaker, *, emotion: str, colour: np.ndarray
) -> Speech:
    """One turn: its emotion at some strength, and chance."""
    style = _drawn(rng, STYLES[emotion])
    speed = round(170 * person.pace * np.exp(np.clip(style.pace, -0.35, 0.35)))
    words_a_second = speed / 52  # measured, pauses included
    text = sentence_of(
        rng,
        min_words=round(rng.uniform(1.5, 2.5) * words_a_second),
        max_words=round(rng.uniform(2.8, 3.2) * words_a_second),
    )
    roughness = int(np.clip(round(style.roughness), 0, 7))
    tilt = np.linspace(-style.tilt_db / 2, style.tilt_db / 2, len(COLOUR_HZ))
    smile = style.smile_db * np.exp(-(np.log2(np.array(COLOUR_HZ) / 2500) ** 2))
    return Speech(
        path=path,
        accent=person.accent,
        variant_name=f"{person.variant_name}r{roughness}",
        variant=_rough(person, roughness),
        sentences=(text,),
        pauses=tuple(rng.uniform(0.05, 0.3, 2).round(3).tolist()),
        speed=speed,
        pitch=int(np.clip(round(50 + style.pitch), 5, 95)),
        range=int(np.clip(round(48 + style.range), 5, 95)),
        level_db=round(-26 + style.level_db, 2),
        floor_db=round(-58 + rng.uniform(-4, 4), 2),
        seed=(_SEED, person.number, *path.stem.encode()),
        colour_db=tuple((colour + tilt + smile).round(2).tolist()),
    )


def _drawn(rng: np.random.Generator, style: Style) -> Style:
    """The style at a strength of this turn, plus chance in everything."""
    strength = rng.uniform(0.5, 1.2)
    return Style(
        *(
            strength * value + rng.normal(0, spread)
            for value, spread in zip(vars(style).values(), vars(_SPREAD).values(), strict=True)
        )
    )


def _rough(person: Speaker, roughness: int) -> str:
    """The speaker's voice variant with its roughness set and flutter raised.

    Without what colours the whole spectrum: actors stand in one room, and ten speakers are too few
    to tell a bright voice from a happy one.
    """
    name = person.variant_name
    lines = person.variant.replace(f"name {name}", f"name {name}r{roughness}").splitlines()
    plain = [
        line for line in lines if line.split()[0] not in ("tone", "breath", "voicing", "consonants")
    ]
    text = "".join(f"{line}\n" for line in plain)
    rougher = re.sub(r"roughness \d+", f"roughness {roughness}", text)
    return re.sub(r"flutter (\d+)", lambda match: f"flutter {int(match[1]) + roughness}", rougher)


def _write_labels(root: Path, turns: list[Turn], num_samples: list[int]) -> None:
    """The label files of all dialogs; turns follow each other with short pauses."""
    rng = np.random.default_rng([_SEED, 0])
    dialogs: dict[tuple[int, str], list[tuple[Turn, float, float]]] = {}
    for turn, count in zip(turns, num_samples, strict=True):
        before = dialogs.setdefault((turn.session, turn.dialog), [])
        start = (before[-1][2] if before else 5.0) + round(rng.uniform(0.1, 1.5), 4)
        before.append((turn, start, start + count / SAMPLE_RATE))
    for (session, dialog), timed in dialogs.items():
        folder = root / f"Session{session}" / "dialog" / "EmoEvaluation"
        (folder / "Categorical").mkdir(parents=True, exist_ok=True)
        blocks = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
        blocks += [_block(rng, turn, start=start, end=end) for turn, start, end in timed]
        (folder / f"{dialog}.txt").write_text("\n".join(blocks) + "\n", encoding="utf-8")
        (folder / f"._{dialog}.txt").write_bytes(_APPLE_DOUBLE)
        lines = [f"{turn.name} :{_WORDS[turn.emotion][0]}; ()\n" for turn, _, _ in timed]
        rater = folder / "Categorical" / f"{dialog}_e2_cat.txt"
        rater.write_text("".join(lines), encoding="utf-8")


def _block(rng: np.random.Generator, turn: Turn, *, start: float, end: float) -> str:
    """A turn's line and what four raters and the actor said of it."""
    said, attributes = _WORDS[turn.emotion]
    names = ("Neutral", said, said) if turn.emotion != "xxx" else ("Neutral", "Sadness", "Anger")
    rated = np.clip(np.round(2 * (np.array(attributes) + rng.normal(0, 0.4, (2, 3)))) / 2, 1, 5)
    mean = ", ".join(f"{value:.4f}" for value in rated.mean(0))
    lines = [f"[{start:.4f} - {end:.4f}]\t{turn.name}\t{turn.emotion}\t[{mean}]"]
    lines += [f"C-E{rater}:\t{name};\t()" for rater, name in zip((2, 3, 4), names, strict=True)]
    letter = turn.name.split("_")[-1][0]
    lines.append(f"C-{letter}1:\t{said};\t()")
    for rater, (valence, activation, dominance) in zip(("E3", "E4"), rated, strict=True):
        values = f"val {valence:.0f}; act {activation:.0f}; dom  {dominance:.0f};"
        lines.append(f"A-{rater}:\t{values}\t()")
    return "\n".join(lines) + "\n"


CORPUS = Corpus(
    title="mini IEMOCAP",
    folder=f"iemocap-v{VERSION}",
    root=Path("IEMOCAP"),
    standard=Sizes(),
    tiny=TINY,
    num_bytes=lambda sizes: sizes.num_utterances * _BYTES_PER_UTTERANCE,
    fill=_fill,
    expected_sha256=EXPECTED_SHA256,
)
