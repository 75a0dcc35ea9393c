# SPDX-License-Identifier: Apache-2.0
"""Audio SNIPS: `{train,valid,test}/<voice>-<id>.wav`, `all.iob.snips.txt` and `slots.txt`.

Sentences of SNIPS (Coucke et al. 2018) in sixteen synthetic voices (Lai et al. 2021), laid out as
for SUPERB's SF (s3prl ec8064b5, downstream/ctc/corpus/snips.py). A line of the text file is

    <id> BOS WORD ... WORD EOS <tab> O <slot or O> ... <slot or O> <intent>

Every voice has every sentence; a voice belongs to one split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from downstream.corpora.lengths import Lengths, audio_lengths, usable
from wavlm_lightning.files import read_text

TEXTS, SLOTS = "all.iob.snips.txt", "slots.txt"
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
OUTSIDE = "O"
PUNCTUATION = frozenset("?!.,;-")


@dataclass(frozen=True)
class Sentence:
    """One recording, its words in upper case, and the slot or `O` of each."""

    id: str
    path: Path
    num_samples: int
    words: tuple[str, ...]
    slots: tuple[str, ...]


def slot_types(root: Path) -> list[str]:
    """All types of slots; the first line of their file is that of words outside.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    path = root / SLOTS
    if not path.is_file():
        raise FileNotFoundError(f"paths.audio_snips={root}: there is no {SLOTS} in it")
    return read_text(path).split()[1:]


def sentences(
    root: Path, split: str, voices: Sequence[str], *, lengths: Lengths = audio_lengths
) -> list[Sentence]:
    """All of train, dev or test that these voices say, sorted by id.

    Raises:
        FileNotFoundError: if the text file, all recordings of a voice, or a recording's line in the
            text file are missing.
    """
    texts = _texts(root)
    folder = root / SPLITS[split]
    paths = [p for p in sorted(folder.rglob("[!.]*.wav")) if p.name.split("-")[0] in voices]
    heard = {p.name.split("-")[0] for p in paths}
    if silent := [voice for voice in voices if voice not in heard]:
        raise FileNotFoundError(
            f"paths.audio_snips={root}: no recordings {folder.name}/{silent[0]}-*.wav of "
            f"{len(silent)} of the {len(voices)} voices of {split}"
        )
    if gone := [p for p in paths if p.stem not in texts]:
        raise FileNotFoundError(
            f"paths.audio_snips={root}: {len(gone)} recordings of {folder.name} have no line in "
            f"{TEXTS}, such as {gone[0].name}"
        )
    return [
        Sentence(path.stem, path, length, *texts[path.stem])
        for path, length in usable(paths, lengths(paths))
    ]


def _texts(root: Path) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Words and their slots by id, without marks of begin and end, and without punctuation."""
    path = root / TEXTS
    if not path.is_file():
        raise FileNotFoundError(f"paths.audio_snips={root}: there is no {TEXTS} in it")
    found = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        said, _, tagged = line.partition("\t")
        name, *words = said.split()
        slots = tagged.split()
        if len(words) < 3 or len(words) != len(slots):
            raise ValueError(
                f"{path}, line {number}: {len(words)} words and {len(slots)} slots; wants "
                "`id BOS word ... EOS<tab>O slot ... intent`"
            )
        kept = [
            ("AND" if word == "&" else word.upper(), slot)
            for word, slot in zip(words[1:-1], slots[1:-1], strict=True)
            if not PUNCTUATION.issuperset(word)
        ]
        found[name] = (tuple(w for w, _ in kept), tuple(s for _, s in kept))
    return found
