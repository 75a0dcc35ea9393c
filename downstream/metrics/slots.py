# SPDX-License-Identifier: Apache-2.0
"""Slots of an utterance: which types were found, and what their values are.

Texts hold slots as `B-artist MICHAEL JACKSON E-artist`. Metrics: SUPERB's SF (Yang et al. 2021), as
in s3prl ec8064b5, downstream/ctc/metric.py.
"""

import re
from collections.abc import Sequence

from wavlm_lightning.downstream.metrics.text import character_errors

Slots = list[tuple[str, str]]  # type, value
SLOT = re.compile(r"(?:^|(?<= ))B-(\S+) (.+?) E-\1(?= |$)")


def slots_of(text: str) -> Slots:
    """Slots in their order; one without a value or without its end is none.

    >>> slots_of("PLAY B-artist ABBA E-artist B-year E-year B-album X")
    [('artist', 'ABBA')]
    """
    return [(match[1], match[2]) for match in SLOT.finditer(text)]


def words_of(text: str) -> str:
    """The text without marks of slots.

    >>> words_of("PLAY B-artist ABBA E-artist")
    'PLAY ABBA'
    """
    return " ".join(word for word in text.split() if not re.match(r"[BE]-", word))


def slot_type_f1(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Percent: F1 of an utterance's set of types, mean over utterances; 1 for two empty sets.

    >>> slot_type_f1(["B-a X E-a B-b Y E-b B-c Z E-c", "X"], ["B-a X E-a", "X"])  # 1/2 and 1
    75.0
    """
    total = 0.0
    for r, h in zip(references, hypotheses, strict=True):
        wanted, found = ({kind for kind, _ in slots_of(text)} for text in (r, h))
        both = len(wanted) + len(found)
        total += 2 * len(wanted & found) / both if both else 1.0
    return 100.0 * total / len(references)


def slot_value_cer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Percent: edits over characters of all reference values; 0 if there are none.

    Each is compared with that value of its type in the hypothesis which is nearest by rate, with an
    empty one if there is none. Marks of slots that begin or end within a hypothesis's value are no
    part of it.

    >>> slot_value_cer(["B-a ABCD E-a B-b XY E-b"], ["B-a ABXD E-a B-a A E-a"])  # 1 and 2 of 6
    50.0
    >>> slot_value_cer(["B-a AB CD E-a"], ["B-a AB B-b CD E-a"])
    0.0
    """
    edits = characters = 0
    for r, h in zip(references, hypotheses, strict=True):
        found: dict[str, list[str]] = {}
        for kind, value in slots_of(h):
            found.setdefault(kind, []).append(words_of(value))
        for kind, value in slots_of(r):
            edits += min(character_errors(value, other) for other in found.get(kind, [""]))
            characters += len(value)
    return 100.0 * edits / characters if characters else 0.0
