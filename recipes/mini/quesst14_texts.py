# SPDX-License-Identifier: Apache-2.0
"""What the documents of the mini QUESST 2014 say, and the words of them that are its queries.

The documents are sentences of the mini corpora's grammar with few of its words, so that words and
pairs of words come again. Other languages are words of no language.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wavlm_lightning.recipes.mini.sentences import GRAMMAR, Grammar, sentence_of, words

ENGLISH = "nnenglish"  # non-native, as the real one says
MADE_UP = {  # words of the languages that stand for others
    "czech": "kovari meluto sadipe tunola ribeko galomi zetali basuno".split(),
    "romanian": "peruda vosine lakute nimoba doferu mitaro felusa gorani".split(),
}
_DOCUMENTS = (2, 8)  # that hold a query, fewest and most
_CONTENT = ("person", "name", "animal", "thing", "things", "spot", "quality", "took")
_NTH = {"quality": 10}  # one word in so many is used; of the other classes one in five


@dataclass(frozen=True)
class Item:
    """A document or a query."""

    split: str  # dev or eval; empty for a document
    language: str
    sentences: tuple[str, ...]

    @property
    def said(self) -> list[list[str]]:
        """Its words in capitals, by sentence."""
        return [words(text) for text in self.sentences]


def items(language: str, *, num_documents: int, num_queries: int, seed: int) -> list[Item]:
    """Documents of one language, and queries of what they hold; no query is in dev and eval."""
    rng = np.random.default_rng([seed, *language.encode()])
    documents = [Item("", language, _text(rng, language)) for _ in range(num_documents)]
    terms = _terms(documents)
    pairs = [term for term in terms if " " in term]
    single = [term for term in terms if " " not in term]
    # Of a single word of 10 to 20 frames, fifty documents always hold something like it.
    few = min(len(pairs), 2 * num_queries)
    kept = rng.permutation(pairs)[:few].tolist()
    kept += rng.permutation(single)[: 2 * num_queries - few].tolist()
    if len(kept) < 2 * num_queries:
        raise ValueError(f"{2 * num_queries} queries are more than {num_documents} documents give")
    queries = [
        Item(split, language, (f"{term.lower()}.",))
        for split, own in (("dev", kept[::2]), ("eval", kept[1::2]))
        for term in own
    ]
    return documents + queries


def _terms(documents: list[Item]) -> list[str]:
    """Words and pairs of words that are queries: in some documents, and nowhere part of others."""
    chosen = [_VOCABULARY[name] for name in _CONTENT] + list(MADE_UP.values())
    content = {word.upper() for own in chosen for word in own}
    lines = [_line(item) for item in documents]
    found = set()
    for item in documents:
        for said in item.said:
            found |= {word for word in said if word in content}
            found |= {" ".join(pair) for pair in pairwise(said) if content.issuperset(pair)}
    fewest, most = _DOCUMENTS
    return [
        term
        for term in sorted(found)
        if fewest <= sum(f" {term} " in line for line in lines) <= most
        and all((term in line) == (f" {term} " in line) for line in lines)
    ]


def _line(item: Item) -> str:
    """All its words, blanks around each, and a bar between sentences."""
    return " | ".join(["", *(" ".join(said) for said in item.said), ""])


def _text(rng: np.random.Generator, language: str) -> tuple[str, ...]:
    """What a document says: two sentences of English, or one of made-up words."""
    if language in MADE_UP:
        said = rng.choice(MADE_UP[language], int(rng.integers(5, 7)), replace=False)
        return (" ".join(said) + ".",)
    return tuple(sentence_of(rng, min_words=6, max_words=10, grammar=_VOCABULARY) for _ in range(2))


def _small() -> Grammar:
    """The grammar with few of its words, and a quality for most things."""
    chosen = {
        name: [word for word in GRAMMAR[name] if len(word) > 4][:: _NTH.get(name, 5)]
        for name in _CONTENT
    }
    return (
        GRAMMAR
        | chosen
        | {
            "np": ["the <quality> <person>", "the <quality> <animal>", "<name>"],
            "indefinite": ["a <quality> <thing>"],
            "object": ["the <thing>", "the <quality> <thing>", "<number> <things>"],
            "place": ["near the <quality> <spot>", "in the <spot>", "behind the <quality> <spot>"],
        }
    )


_VOCABULARY = _small()
