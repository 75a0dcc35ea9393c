# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates, by jiwer: edits summed over a set, over its reference length."""

from collections.abc import Sequence

import jiwer


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Percent; an empty reference counts its hypothesis's words as insertions.

    >>> word_error_rate(["A B C D", "E"], ["A X C D", "E"])
    20.0
    """
    return _rate([r.split() for r in references], [h.split() for h in hypotheses])


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Percent, spaces included.

    >>> character_error_rate(["AB C"], ["AB"])
    50.0
    """
    return _rate([list(r) for r in references], [list(h) for h in hypotheses])


def word_errors(reference: str, hypothesis: str) -> int:
    """Substitutions, deletions and insertions of one utterance."""
    return _edits(reference.split(), hypothesis.split())


def character_errors(reference: str, hypothesis: str) -> int:
    """The same of characters, spaces included."""
    return _edits(list(reference), list(hypothesis))


def _rate(references: list[list[str]], hypotheses: list[list[str]]) -> float:
    edits = sum(_edits(r, h) for r, h in zip(references, hypotheses, strict=True))
    total = sum(map(len, references))
    if total == 0:
        raise ValueError("an error rate needs at least one symbol of reference")
    return 100.0 * edits / total


def _edits(reference: list[str], hypothesis: list[str]) -> int:
    if not reference:
        return len(hypothesis)
    # Symbols become single characters, for a symbol may hold or be a space.
    code: dict[str, str] = {}
    r, h = (
        "".join(code.setdefault(s, chr(0x4E00 + len(code))) for s in sequence)
        for sequence in (reference, hypothesis)
    )
    out = jiwer.process_characters(r, h)
    return out.substitutions + out.deletions + out.insertions
