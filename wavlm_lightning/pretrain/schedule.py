# SPDX-License-Identifier: Apache-2.0
"""The learning rate: linear rise, then linear fall to zero."""


def warmup_linear(update: int, *, warmup: int, total: int) -> float:
    """Share of the peak rate after `update` updates (fairseq 3d262bb, polynomial decay of power 1).

    >>> [warmup_linear(n, warmup=10, total=110) for n in (0, 5, 10, 60, 110)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if update < warmup:
        return update / warmup
    return max(0.0, (total - update) / max(total - warmup, 1))


def rate_for_update(updates_done: int, *, warmup: int, total: int) -> float:
    """Share of the peak that the next update uses; the first one takes the second's, not zero."""
    return warmup_linear(max(updates_done, 1), warmup=warmup, total=total)
