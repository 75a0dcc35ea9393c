# SPDX-License-Identifier: Apache-2.0
"""Query by example: which documents hold what a query says?

Corpus     QUESST 2014, queries and documents of its non-native English part
Head       none: frames of each layer by itself are compared by dynamic time warping
Score      maximum term-weighted value of the layer that is best on dev, higher is better
Source     SUPERB (Yang et al. 2021), task QbE; values in configs/superb/qbe.yaml

As SUPERB's published scores, those on QUESST 2014 are over the queries of all languages: the ones
that are not looked for count as missed.
"""

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from wavlm_lightning.downstream.corpora import quesst14
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording, measured
from wavlm_lightning.downstream.corpora.spoken_terms import SpokenTerms
from wavlm_lightning.downstream.families.search import Search
from wavlm_lightning.downstream.metrics.dtw import detect
from wavlm_lightning.downstream.metrics.mtwv import mtwv
from wavlm_lightning.downstream.task import Example, TaskConfig, example_of
from wavlm_lightning.fields import number
from wavlm_lightning.files import write_text

DECIMALS = 4  # of scores, as the original scorer reads them
QUERY, DOCUMENT = "query", "document"


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        gain_db: on every recording.
        threshold: of normalised scores, from which on the list for the original scorer says yes;
            MTWV does not depend on it.
        queries: with data.manifest, which then holds the documents: a second manifest folder, whose
            dev and test rows are looked for. A document holds a query if it has its words.
        documents: with data.manifest, a key in `extra` that rows must have to be documents.
    """

    gain_db: float = number(-200, 200)
    threshold: float = number(-(10**6), 10**6)
    queries: str | None = None
    documents: str | None = None


class Collection(Protocol):
    """Documents, and queries of each split that some of them hold."""

    def documents(self) -> list[Recording]: ...
    def queries(self, split: str) -> list[Recording]: ...
    def truth(self, split: str, *, usable: Set[str]) -> quesst14.Truth: ...


class QbE(Search[Config]):
    """Every query in every document."""

    name, corpus, Config = "qbe", "quesst14", Config
    monitor, mode, headline = "dev/mtwv", "max", "test/mtwv"
    headline_mode, unit = "max", ""
    trivial_answer = "finding nothing"

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        collection = self.sources.choose(own=self._of_texts, official=self._official)
        documents = self._examples_of(collection.documents(), DOCUMENT)
        usable = {e.id for e in documents}
        self._examples, self._truth = {}, {}
        for split in self.splits:
            queries = self._examples_of(collection.queries(split), QUERY)
            self._examples[split] = queries + documents
            self._truth[split] = collection.truth(split, usable=usable)

    @property
    def gain_db(self) -> float:
        """Gain of the protocol."""
        return self.config.gain_db

    def _official(self) -> "Collection":
        return quesst14.Quesst14(self.sources.folder("quesst14"))

    def _of_texts(self, corpus: Corpus) -> "Collection":
        return SpokenTerms(corpus, self.config.queries, self.config.documents)

    def _examples_of(self, found: list[Recording], kind: str) -> list[Example]:
        return [example_of(r, kind) for r in measured(found, self.sources.lengths)]

    def examples(self, split: str) -> Sequence[Example]:
        """Targets say whether it is a query or a document."""
        return self._examples.get(split, [])

    def excluded_counts(self) -> dict[str, float]:
        """Queries that no document holds, which MTWV leaves out."""
        return {
            f"{split}_queries_in_no_document": sum(
                e.target == QUERY and not truth.documents.get(e.id) for e in self._examples[split]
            )
            for split, truth in self._truth.items()
        }

    def compare(self, split: str, features: Mapping[str, Tensor], *, device: str) -> dict[str, Any]:
        """Scores by query and document."""
        kinds = (QUERY, DOCUMENT)
        queries, documents = ([e.id for e in self.examples(split) if e.target == k] for k in kinds)
        scores = detect(
            [features[q] for q in queries], [features[d] for d in documents], device=device
        )
        return {
            query: {d: round(s, DECIMALS) for d, s in zip(documents, row, strict=True)}
            for query, row in zip(queries, scores.tolist(), strict=True)
        }

    def trivial(self, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Score of finding nothing, by definition."""
        return {"mtwv": 0.0}

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """MTWV, between 0 and 1."""
        truth = self._truth[split]
        return {"mtwv": mtwv(predictions, truth.documents, num_documents=truth.num_documents).value}

    def submission(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The list of detections."""
        text = stdlist(predictions, threshold=self.config.threshold)
        return {"qbe_public/benchmark.stdlist.xml": text}

    def write_predictions(
        self, folder: Path, split: str, predictions: Mapping[str, Any]
    ) -> list[Path]:
        """The list of detections that NIST's scorer reads."""
        path = folder / split / "benchmark.stdlist.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, stdlist(predictions, threshold=self.config.threshold))
        return [path]


def stdlist(predictions: Mapping[str, Mapping[str, float]], *, threshold: float) -> str:
    """Scores by query and document as an STD list: each document once, without times."""
    root = ET.Element(
        "stdlist",
        termlist_filename="benchmark.stdlist.xml",
        indexing_time="1.00",
        language="english",
        index_size="1",
        system_id="benchmark",
    )
    for query, scores in predictions.items():
        found = ET.SubElement(
            root, "detected_termlist", termid=query, term_search_time="1.0", oov_term_count="1"
        )
        for document, score in scores.items():
            ET.SubElement(
                found,
                "term",
                file=document,
                channel="1",
                tbeg="0.000",
                dur="0.00",
                score=f"{score:.{DECIMALS}f}",
                decision="YES" if score > threshold else "NO",
            )
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
