# SPDX-License-Identifier: Apache-2.0
"""Pronouncing dictionaries: lines of a word and its phones, ARPAbet with stress on vowels.

Form of LibriSpeech's librispeech-lexicon.txt (openslr.org/11) and of the CMU dictionary that it
continues: `WORD PH1 PH2 ...`, parted by tabs or blanks, a line for each pronunciation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.files import read_text
from wavlm_lightning.shipped import command

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
# Silence and noise, 15 vowels in three stresses, 24 consonants: 71 as published for SUPERB's PR
# (s3prl ec8064b5, downstream/ctc/vocab/phoneme.txt).
PHONES = ("SIL", "SPN", *sorted([v + s for v, s in product(_VOWELS, "012")] + _CONSONANTS))

Lexicon = dict[str, list[str]]


class Pronounced(Corpus):
    """A corpus whose recordings have their `phones`, parted by blanks, in `extra`.

    Args:
        corpus: Gives the texts.
        lexicons: Files of pronunciations, some of which may be missing.
    """

    def __init__(self, corpus: Corpus, lexicons: Sequence[Path]):
        super().__init__(corpus.root)
        self.corpus, self.lexicons = corpus, lexicons

    def __str__(self) -> str:
        return str(self.corpus)

    def recordings(self) -> list[Recording]:
        """Those of the corpus.

        Raises:
            ValueError: if words are in no lexicon, beside what the corpus raises.
        """
        found = self.corpus.recordings()
        lexicon = read([file for file in self.lexicons if file.is_file()])
        if missing := without({word for r in found for word in r.text.split()}, lexicon):
            where = ", ".join(f"{f}{'' if f.is_file() else ' (not there)'}" for f in self.lexicons)
            raise ValueError(
                f"{len(missing)} words of the transcripts, such as {missing[0]}, are in no lexicon "
                f"of task.lexicons: {where}. librispeech-lexicon.txt of openslr.org/11 goes into "
                f"paths.librispeech; {command()} lexicon root=DIR spells what is left"
            )
        return [replace(r, extra={**r.extra, "phones": _spelled(r, lexicon)}) for r in found]


def _spelled(recording: Recording, lexicon: Lexicon) -> str:
    return " ".join(phone for word in recording.text.split() for phone in lexicon[word])


def read(files: Sequence[Path]) -> Lexicon:
    """Phones of each word: its first line in the first file that has it.

    Raises:
        ValueError: naming the line with a phone that is none of ARPAbet's.
    """
    found: Lexicon = {}
    known = set(PHONES)
    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), 1):
            word, *phones = line.split() or [""]
            if not word or word.upper() in found:
                continue
            if not phones or not known.issuperset(phones):
                raise ValueError(
                    f"{file}, line {number}: must be a word and ARPAbet phones with stress, as "
                    f"`WORD W ER1 D` (got {line!r})"
                )
            found[word.upper()] = phones
    return found


def without(words: Iterable[str], lexicon: Lexicon) -> list[str]:
    """The different words that it does not have, sorted."""
    return sorted(set(words) - lexicon.keys())
