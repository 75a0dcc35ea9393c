# SPDX-License-Identifier: Apache-2.0
"""Symbols of transcripts, phones and slots, and what CTC makes of a sequence of them."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

# fairseq's special symbols, in its order; `<s>` serves as the CTC blank.
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BLANK, END, UNKNOWN = 0, 2, 3
WORD_END = "|"
# wav2letter's letters of English in order of frequency (s3prl ec8064b5, downstream/asr/char.dict).
LETTERS = "|ETAONIHSRDLUMWCFGYPBVK'XJQZ"


class Characters:
    """Upper-case characters as integers, words ended by `|`.

    Args:
        more: characters beside English letters, for transcripts of other languages.

    >>> Characters().encode("it is")
    [10, 6, 4, 10, 12, 4, 2]
    >>> Characters().decode([10, 6, 4, 10, 12, 4, 2])
    'IT IS'
    """

    def __init__(self, more: Iterable[str] = ()):
        beyond = sorted(set(more) - set(LETTERS) - {" "})
        self.symbols = [*SPECIAL, *LETTERS, *beyond]
        self._number = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, *, end: bool = True) -> list[int]:
        """Numbers of the characters, a word end after each word, and then `</s>`."""
        spelled = "".join(word + WORD_END for word in text.upper().split())
        return [self._number.get(c, UNKNOWN) for c in spelled] + ([END] if end else [])

    def decode(self, numbers: Sequence[int]) -> str:
        """Words of collapsed numbers; special symbols are left out."""
        kept = [self.symbols[n] for n in numbers if n >= len(SPECIAL)]
        return " ".join("".join(kept).replace(WORD_END, " ").split())


class Tokens:
    """Any symbols as integers, behind the special ones of SUPERB's PR and SF.

    Args:
        symbols: all of them, in the order of their numbers.

    >>> tokens = Tokens(["AA1", "B"])
    >>> tokens.encode(["B", "AA1"]), len(tokens)
    ([4, 3, 1], 5)
    >>> tokens.decode([4, 3, 1])
    ['B', 'AA1']
    """

    SPECIAL = ("<pad>", "<eos>", "<unk>")  # s3prl ec8064b5, downstream/ctc/text.py; pad is blank
    END, UNKNOWN = 1, 2

    def __init__(self, symbols: Sequence[str]):
        self.symbols = [*self.SPECIAL, *symbols]
        self._number = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._number

    def encode(self, symbols: Iterable[str]) -> list[int]:
        """Numbers, and then the end."""
        return [*(self._number.get(symbol, self.UNKNOWN) for symbol in symbols), self.END]

    def decode(self, numbers: Sequence[int]) -> list[str]:
        """Symbols of collapsed numbers; special ones are left out."""
        return [self.symbols[n] for n in numbers if n >= len(self.SPECIAL)]


class Run(NamedTuple):
    """Frames in which one symbol stands for itself, by CTC's rule."""

    symbol: int
    first: int  # frame
    last: int


def symbol_runs(numbers: Sequence[int], blank: int = BLANK) -> list[Run]:
    """The symbols that `collapse` gives, and the frames of each.

    >>> symbol_runs([0, 5, 5, 0, 5, 6])
    [Run(symbol=5, first=1, last=2), Run(symbol=5, first=4, last=4), Run(symbol=6, first=5, last=5)]
    """
    found, frame = [], 0
    for symbol, group in groupby(numbers):
        length = len(list(group))
        if symbol != blank:
            found.append(Run(symbol, frame, frame + length - 1))
        frame += length
    return found


def split_runs(runs: Sequence[Run], separator: int) -> list[list[Run]]:
    """Runs between separators, which are left out.

    >>> [[r.symbol for r in word] for word in split_runs(symbol_runs([4, 9, 5, 6, 9]), 9)]
    [[4], [5, 6]]
    """
    words: list[list[Run]] = [[]]
    for run in runs:
        if run.symbol == separator:
            words.append([])
        else:
            words[-1].append(run)
    return [word for word in words if word]


def collapse(numbers: Sequence[int], blank: int = BLANK) -> list[int]:
    """CTC's rule: repeated symbols once, blanks out.

    >>> collapse([0, 5, 5, 0, 5, 6])
    [5, 5, 6]
    """
    merged = [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1]]
    return [n for n in merged if n != blank]
