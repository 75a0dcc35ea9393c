# SPDX-License-Identifier: Apache-2.0
"""Maximum term-weighted value: how well queries find the documents that hold them.

TWV at a threshold is 1 minus the mean over queries of P(miss) + beta P(false alarm), where trials
are pairs of a query and a document (NIST's spoken term detection; costs and prior of MediaEval's
QUESST 2014). MTWV is the largest over thresholds, and never less than 0, which finding nothing has.
"""

from collections.abc import Mapping, Set
from typing import NamedTuple

import numpy as np

PRIOR, COST_MISS, COST_FALSE_ALARM = 0.0008, 100.0, 1.0  # QUESST 2014
BETA = COST_FALSE_ALARM / COST_MISS * (1 / PRIOR - 1)  # 12.49


class Mtwv(NamedTuple):
    """The value, and the score from which on a trial counts as found."""

    value: float
    threshold: float


def mtwv(
    scores: Mapping[str, Mapping[str, float]], truth: Mapping[str, Set[str]], *, num_documents: int
) -> Mtwv:
    """Over queries with a true document; those that have no scores count as missed.

    Args:
        scores: by query and document; pairs that are left out are never found.
        truth: documents that hold a query; queries without any are left out.
        num_documents: of all, scored or not.

    Raises:
        ValueError: if no query has a true document.

    >>> scores = {"q": {"a": 2.0, "b": 1.0, "c": 0.0}, "r": {"a": 0.5, "b": 0.0, "c": 1.5}}
    >>> mtwv(scores, {"q": {"a"}, "r": {"c"}}, num_documents=3)
    Mtwv(value=1.0, threshold=1.5)
    >>> mtwv(scores, {"q": {"b"}, "r": {"c"}}, num_documents=1000)  # a comes before b: -beta/1998
    Mtwv(value=0.9937487487487487, threshold=1.0)
    """
    wanted = {query: documents for query, documents in truth.items() if documents}
    if not wanted:
        raise ValueError("MTWV needs at least one query with a true document")
    values, gains = [], []
    for query, true in wanted.items():
        for document, score in scores.get(query, {}).items():
            values.append(score)
            if document in true:
                gains.append(1 / len(true))
            else:
                gains.append(-BETA / (num_documents - len(true)))
    if not values:
        return Mtwv(0.0, float("inf"))
    order = np.argsort(-np.array(values), kind="stable")
    ranked = np.array(values)[order]
    twv = np.cumsum(np.array(gains)[order]) / len(wanted)
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are found together
    best = int(np.argmax(np.where(last, twv, -np.inf)))
    if twv[best] <= 0:
        return Mtwv(0.0, float("inf"))
    return Mtwv(float(twv[best]), float(ranked[best]))
