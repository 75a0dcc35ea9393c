# SPDX-License-Identifier: Apache-2.0
"""Scale-invariant signal-to-distortion ratio, its improvement over the mixture, best order.

SI-SDR (Le Roux et al. 2019, equation 3), without removal of the mean, by torchmetrics in float64.
"""

from itertools import permutations

from torch import Tensor


def best_order(estimates: Tensor, sources: Tensor) -> tuple[int, ...]:
    """Number of the estimate (S, T) of each source (S, T), by the highest mean SI-SDR."""
    orders = list(permutations(range(len(sources))))
    means = [float(_si_sdr(estimates[list(order)], sources).mean()) for order in orders]
    return orders[max(range(len(orders)), key=means.__getitem__)]


def si_sdr_improvement(estimates: Tensor, sources: Tensor, mixture: Tensor) -> float:
    """Mean over sources of SI-SDR of the estimate minus that of the mixture, in dB.

    Args:
        estimates: (S, T) in any order.
        sources: (S, T).
        mixture: (T,).

    >>> import torch
    >>> sources = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
    >>> mixture = sources.sum(0)
    >>> round(si_sdr_improvement(torch.stack([mixture, mixture]), sources, mixture), 6)
    0.0
    """
    order = best_order(estimates, sources)
    gained = _si_sdr(estimates[list(order)], sources) - _si_sdr(
        mixture.expand(len(sources), -1), sources
    )
    return float(gained.mean())


def _si_sdr(estimates: Tensor, sources: Tensor) -> Tensor:
    # torchmetrics takes five seconds to import, and every program reads every task.
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    return scale_invariant_signal_distortion_ratio(
        estimates.double(), sources.double(), zero_mean=False
    )
