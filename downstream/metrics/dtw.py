# SPDX-License-Identifier: Apache-2.0
"""Where in a document a query fits best: dynamic time warping that may begin and end anywhere.

As SUPERB's QbE has it (s3prl ec8064b5, downstream/quesst14_dtw): exponential cosine distance, each
query frame's distances scaled to between 0 and 1 over the document, asymmetric steps (each query
frame once, 0 to 2 document frames onwards), the cost divided by the query's length. Here for many
documents at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning.lengths import padding_mask

SHORTEST = 5  # frames; shorter queries are not looked for
FLOOR = 1e-9  # of standard deviations and ranges
BATCH_FRAMES = 2**15  # of documents, padded, that are compared at once


class Documents(NamedTuple):
    """Documents of about one length side by side."""

    indices: list[int]  # in the list that they come from
    x: Tensor  # (N, F, D), each frame of length one
    padding: Tensor  # (N, F) bool, True on padding


def side_by_side(documents: Sequence[Tensor]) -> list[Documents]:
    """Documents (F, D) in batches of nearly one length."""
    order = sorted(range(len(documents)), key=lambda i: len(documents[i]))
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(documents[i]) > BATCH_FRAMES:
            batches.append([])
        batches[-1].append(i)
    out = []
    for indices in batches:
        x = torch.nn.utils.rnn.pad_sequence([documents[i] for i in indices], batch_first=True)
        lengths = torch.tensor([len(documents[i]) for i in indices], device=x.device)
        out.append(Documents(indices, F.normalize(x, dim=-1), padding_mask(lengths, x.shape[1])))
    return out


def distances(query: Tensor, documents: Documents) -> Tensor:
    """Query (n, D) -> (N, n, F): between 0 and 1 in each row, infinite on padding."""
    cosine = F.normalize(query, dim=-1) @ documents.x.transpose(1, 2)  # (N, n, F)
    raw = torch.expm1(1 - cosine)
    padding = documents.padding[:, None]
    low = raw.masked_fill(padding, torch.inf).amin(-1, keepdim=True)
    high = raw.masked_fill(padding, -torch.inf).amax(-1, keepdim=True)
    scaled = (raw - low) / (high - low).clamp_min(FLOOR)
    return scaled.masked_fill(padding, torch.inf)


def warped_cost(distance: Tensor) -> Tensor:
    """(N, n, F) -> (N,): the cheapest path through all n rows, over n.

    >>> warped_cost(torch.tensor([[[9.0, 1.0, 9.0, 9.0], [9.0, 9.0, 9.0, 3.0]]]))
    tensor([2.])
    """
    cost = distance[:, 0]  # (N, F): a path may begin at any frame
    for row in distance[:, 1:].unbind(1):
        padded = F.pad(cost, (2, 0), value=torch.inf)
        cost = row + torch.minimum(torch.minimum(cost, padded[:, 1:-1]), padded[:, :-2])
    return cost.amin(-1) / distance.shape[1]


def detect(
    queries: Sequence[Tensor], documents: Sequence[Tensor], *, device: str = "cpu"
) -> Tensor:
    """Scores (Q, N) of queries (n, D) in documents (F, D), each query's normalised over documents.

    All frames together are normalised first: zero mean, unit variance in each dimension.

    Args:
        queries: Q of (n, D), each of its own length.
        documents: N of (F, D), each of its own length.
        device: Where distances are computed.
    """
    mean, scale = _moments([*queries, *documents])
    batches = side_by_side([((x - mean) / scale).to(device) for x in documents])
    scores = torch.zeros(len(queries), len(documents), dtype=mean.dtype)
    for number, query in enumerate(queries):
        if len(query) < SHORTEST:
            continue
        normal = ((query - mean) / scale).to(device)
        for batch in batches:
            cost = warped_cost(distances(normal, batch))
            scores[number, batch.indices] = -cost.cpu()
    centred = scores - scores.mean(1, keepdim=True)
    return centred / scores.std(1, correction=0, keepdim=True).clamp_min(FLOOR)


def _moments(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) over the frames of all."""
    count = sum(map(len, rows))
    mean = torch.stack([x.double().sum(0) for x in rows]).sum(0) / count
    squares = torch.stack([(x - mean).square().sum(0) for x in rows]).sum(0) / count
    kind = rows[0].dtype
    return mean.to(kind), squares.sqrt().clamp_min(FLOOR).to(kind)
