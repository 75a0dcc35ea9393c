# SPDX-License-Identifier: Apache-2.0
"""Pronouncing dictionaries: lines of a word and its phones, ARPAbet with stress on vowels.

Form of LibriSpeech's librispeech-lexicon.txt (openslr.org/11) and of the CMU dictionary that it
continues: `WORD PH1 PH2 ...`, parted by tabs or blanks, a line for each pronunciation.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path

from wavlm_lightning.files import read_text

_VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH".split()
# Silence and noise, 15 vowels in three stresses, 24 consonants: 71 as published for SUPERB's PR
# (s3prl ec8064b5, downstream/ctc/vocab/phoneme.txt).
PHONES = ("SIL", "SPN", *sorted([v + s for v, s in product(_VOWELS, "012")] + _CONSONANTS))

Lexicon = dict[str, list[str]]


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
                    f"{file}, line {number}: wants a word and phones of ARPAbet with stress, such "
                    f"as `WORD W ER1 D`; got {line!r}"
                )
            found[word.upper()] = phones
    return found


def without(words: Iterable[str], lexicon: Lexicon) -> list[str]:
    """The different words that it does not have, sorted."""
    return sorted(set(words) - lexicon.keys())
