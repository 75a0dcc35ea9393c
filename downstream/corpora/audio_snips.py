# SPDX-License-Identifier: Apache-2.0
"""Audio SNIPS: `{train,valid,test}/<voice>-<id>.wav`, `all.iob.snips.txt` and `slots.txt`.

Sentences of SNIPS (Coucke et al. 2018) in sixteen synthetic voices (Lai et al. 2021), laid out as
for SUPERB's SF (s3prl ec8064b5, downstream/ctc/corpus/snips.py). A line of the text file is

    <id> BOS WORD ... WORD EOS <tab> O <slot or O> ... <slot or O> <intent>

Every voice has every sentence; a voice belongs to one split.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.files import read_text

TEXTS, SLOTS = "all.iob.snips.txt", "slots.txt"
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
OUTSIDE = "O"
PUNCTUATION = frozenset("?!.,;-")


class AudioSnips(Corpus):
    """Sentences in upper case; `extra` has the slot, or `O`, of each word as `slots`.

    Args:
        root: Holds train, valid, test and both text files.
        voices: Of each split.

    Raises:
        FileNotFoundError: if there is no file of slots.
    """

    key = "paths.audio_snips"

    def __init__(self, root: Path, voices: Mapping[str, Sequence[str]]):
        super().__init__(root)
        self.voices = voices
        path = root / SLOTS
        if not path.is_file():
            raise FileNotFoundError(f"{self}: there is no {SLOTS} in it")
        self.classes = read_text(path).split()[1:]  # the first line is that of words outside

    def recordings(self) -> list[Recording]:
        """Train, dev and test, each sorted by id.

        Raises:
            FileNotFoundError: if the text file, all recordings of a voice, or a recording's line in
                the text file are missing.
            ValueError: naming a line of the text file.
        """
        return [r for split in SPLITS for r in self.of(split)]

    def of(self, split: str) -> list[Recording]:
        """Those of one split; errors as of `recordings`."""
        texts = _texts(self.root)
        folder, voices = self.root / SPLITS[split], self.voices[split]
        paths = [p for p in sorted(folder.rglob("[!.]*.wav")) if p.name.split("-")[0] in voices]
        heard = {p.name.split("-")[0] for p in paths}
        if silent := [voice for voice in voices if voice not in heard]:
            raise FileNotFoundError(
                f"{self}: no recordings {folder.name}/{silent[0]}-*.wav of {len(silent)} of the "
                f"{len(voices)} voices of {split}"
            )
        if gone := [p for p in paths if p.stem not in texts]:
            raise FileNotFoundError(
                f"{self}: {len(gone)} recordings of {folder.name} have no line in {TEXTS}, such as "
                f"{gone[0].name}"
            )
        found = []
        for path in paths:
            words, slots = texts[path.stem]
            found.append(
                Recording(path.stem, path, split, text=" ".join(words), extra={"slots": slots})
            )
        return found


def _texts(root: Path) -> dict[str, tuple[list[str], list[str]]]:
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
                f"{path}, line {number}: {len(words)} words and {len(slots)} slots; the form is "
                "`id BOS word ... EOS<tab>O slot ... intent`"
            )
        kept = [
            ("AND" if word == "&" else word.upper(), slot)
            for word, slot in zip(words[1:-1], slots[1:-1], strict=True)
            if not PUNCTUATION.issuperset(word)
        ]
        found[name] = ([w for w, _ in kept], [s for _, s in kept])
    return found
