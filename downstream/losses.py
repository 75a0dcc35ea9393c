# SPDX-License-Identifier: Apache-2.0
"""Losses that more than a library call makes: additive-margin softmax, permutation invariance."""

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning.lengths import padding_mask


def am_softmax(cosines: Tensor, speakers: Tensor, *, margin: float, scale: float) -> Tensor:
    """Cross entropy of scale * (cosine - margin of the right speaker), mean over the batch.

    Additive Margin Softmax (Wang et al. 2018, equation 6).

    Args:
        cosines: (B, C) between embeddings and class vectors.
        speakers: (B,) int64, the right class.

    >>> cosines = torch.tensor([[0.5, 0.1]])
    >>> round(float(am_softmax(cosines, torch.tensor([0]), margin=0.4, scale=1.0)), 4)
    0.6931
    """
    right = F.one_hot(speakers, cosines.shape[1]).to(cosines.dtype)
    return F.cross_entropy(scale * (cosines - margin * right), speakers)


def permutation_bce(logits: Tensor, active: Tensor, lengths: Tensor) -> Tensor:
    """Binary cross entropy under each utterance's best order of speakers.

    Permutation-free training of diarization (Fujita et al. 2019, section 2.2): mean over speakers,
    summed over frames, divided by all frames of the batch.

    Args:
        logits: (B, F, S).
        active: (B, F, S) 1 where a speaker speaks.
        lengths: (B,) valid frames.

    >>> logits = torch.tensor([[[20.0, -20.0], [20.0, -20.0]]])
    >>> swapped = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    >>> bool(permutation_bce(logits, swapped, torch.tensor([2])) < 1e-6)
    True
    """
    valid = ~padding_mask(lengths, logits.shape[1], logits.device)[..., None]  # (B, F, 1)
    costs = []
    for order in permutations(range(logits.shape[2])):
        bce = F.binary_cross_entropy_with_logits(
            logits, active[..., list(order)].to(logits.dtype), reduction="none"
        )
        costs.append((bce * valid).mean(2).sum(1))
    return torch.stack(costs).amin(0).sum() / lengths.sum()


def permutation_mse(estimates: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Squared error of magnitudes under each utterance's best order of speakers.

    Utterance-level permutation invariant training (Kolbaek et al. 2017, equation 7): summed over
    frequencies and frames, divided by frames, then by speakers, mean over utterances.

    Args:
        estimates: (B, S, F, N) masked magnitudes, N frequencies.
        targets: (B, S, F, N).
        lengths: (B,) valid frames.
    """
    valid = ~padding_mask(lengths, estimates.shape[2], estimates.device)[:, None, :, None]
    speakers = estimates.shape[1]
    costs = []
    for order in permutations(range(speakers)):
        error = (estimates - targets[:, list(order)]).square() * valid
        costs.append(error.sum((1, 2, 3)))
    lengths = lengths.to(estimates.device, non_blocking=True)
    return (torch.stack(costs).amin(0) / lengths / speakers).mean()
