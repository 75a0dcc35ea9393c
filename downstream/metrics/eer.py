# SPDX-License-Identifier: Apache-2.0
"""Equal error rate and minimum detection cost of verification trials.

Both from one sort of the scores. The equal error rate is where the two error rates cross, each
joined linearly between neighbouring thresholds; tied scores move together.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def error_rates(scores: ArrayLike, same: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Misses and false alarms (K + 1,) at rising thresholds, from accepting all to nothing.

    Args:
        scores: (N,) higher means more alike.
        same: (N,) true where a trial is of one speaker.

    Raises:
        ValueError: for scores that are not finite, or trials of one kind alone.
    """
    values, targets = np.asarray(scores, np.float64), np.asarray(same, bool)
    if not np.isfinite(values).all():
        raise ValueError(f"{int((~np.isfinite(values)).sum())} scores are not finite")
    if targets.all() or not targets.any():
        raise ValueError("trials of one speaker and of two are both needed")
    order = np.argsort(values, kind="stable")
    values, targets = values[order], targets[order]
    last = np.append(values[1:] != values[:-1], True)  # of each run of equal scores
    missed = np.cumsum(targets)[last] / targets.sum()
    accepted = 1 - np.cumsum(~targets)[last] / (~targets).sum()
    return np.append(0.0, missed), np.append(1.0, accepted)


def equal_error_rate(scores: ArrayLike, same: ArrayLike) -> float:
    """Percent.

    >>> equal_error_rate([0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 0, 0, 0])
    33.33333333333333
    """
    missed, accepted = error_rates(scores, same)
    gap = missed - accepted  # rises from -1 to 1
    right = int(np.argmax(gap >= 0))
    left = right - 1
    share = -gap[left] / (gap[right] - gap[left])
    return float(100 * (missed[left] + share * (missed[right] - missed[left])))


def det_curve(scores: ArrayLike, same: ArrayLike, *, points: int) -> dict[str, list[float]]:
    """Misses and false alarms at no more than so many thresholds, for a curve.

    >>> det_curve([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], points=3)
    {'misses': [0.0, 0.0, 1.0], 'false_alarms': [1.0, 0.0, 0.0]}
    """
    missed, accepted = error_rates(scores, same)
    # Equally many along the curve: one of the two rates changes from each threshold to the next.
    steps = np.diff(missed, prepend=0.0) - np.diff(accepted, prepend=1.0)
    length = np.cumsum(steps)
    places = np.unique(np.searchsorted(length, np.linspace(0.0, length[-1], points)))
    return {
        "misses": missed[places].round(6).tolist(),
        "false_alarms": accepted[places].round(6).tolist(),
    }


def min_dcf(scores: ArrayLike, same: ArrayLike, *, target_prior: float = 0.01) -> float:
    """Smallest cost over thresholds, unit costs, over that of the better constant answer.

    >>> min_dcf([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0])
    0.0
    """
    missed, accepted = error_rates(scores, same)
    cost = target_prior * missed + (1 - target_prior) * accepted
    return float(cost.min() / min(target_prior, 1 - target_prior))
