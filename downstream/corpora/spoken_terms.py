# SPDX-License-Identifier: Apache-2.0
"""Documents and queries of a user: a document holds a query if its text has the query's words."""

from collections.abc import Collection
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording, by_split, having
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.corpora.quesst14 import Truth
from wavlm_lightning.tables import spoken_text


class SpokenTerms:
    """The same as `Quesst14`, of texts.

    Args:
        corpus: Documents, of any split.
        queries: A manifest folder of queries; None is refused.
        key: In `extra` of recordings that are documents; None for all of the corpus.

    Raises:
        ValueError: naming the key that is missing.
    """

    def __init__(self, corpus: Corpus, queries: str | None, key: str | None):
        if queries is None:
            raise ValueError(
                "task.queries is not set: with data.manifest, a folder of documents, say "
                "task.queries=DIR, a manifest folder of queries"
            )
        self._queries = Manifest(Path(queries))
        self._documents = [r for r in having(corpus, ["text"]) if key is None or r.extra.get(key)]
        if not self._documents:
            raise ValueError(f"{corpus}: no recording has {key} in extra")

    def documents(self) -> list[Recording]:
        """Recordings to search."""
        return self._documents

    def queries(self, split: str) -> list[Recording]:
        """Recordings to search for, of dev or test."""
        return by_split(having(self._queries, ["text"]), [split], self._queries)[split]

    def truth(self, split: str, *, usable: Collection[str]) -> Truth:
        """Truth of dev or test, among the usable documents."""
        texts = {r.id: _words(r.text) for r in self._documents if r.id in usable}
        found = {
            query.id: {name for name, text in texts.items() if _words(query.text) in text}
            for query in self.queries(split)
        }
        return Truth(found, len(texts))


def _words(text: str) -> str:
    """Text with a blank around each word, so that a part of a word is not found."""
    return f" {spoken_text(text)} "
