# SPDX-License-Identifier: Apache-2.0
"""Any upstream, frozen: eval mode, no gradient, absent from checkpoints."""

from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.features.frames import Features, Upstream
from wavlm_lightning.lengths import similar_lengths
from wavlm_lightning.runtime import computes_bfloat16, threads

GROUP_RATIO = 0.8  # shortest over longest of the rows that run together
LARGE = 2**14  # weights of a layer that is worth rounding before it is used


class Frozen(nn.Module):
    """Any upstream, kept in eval mode, run without gradient, left out of checkpoints.

    Rows of very different lengths are run in several groups: padding costs time and, for upstreams
    in which an utterance does not depend on its batch, changes nothing.

    Args:
        upstream: what is frozen.
        precision: of its forward pass: auto, float32 or bfloat16.
        grouped: false for an upstream whose features depend on the batch.
    """

    def __init__(self, upstream: Upstream, *, precision: str = "float32", grouped: bool = True):
        super().__init__()
        assert isinstance(upstream, nn.Module)
        self.upstream = upstream.requires_grad_(False).eval()
        self.dim, self.num_layers, self.stride = upstream.dim, upstream.num_layers, upstream.stride
        self.precision, self.grouped = precision, grouped
        self.threads = 0  # of torch in the forward pass, if it has others elsewhere
        self._rounded = False

    def use_threads(self, count: int) -> None:
        """Run the forward pass with so many threads of torch, where others run with fewer."""
        self.threads = count

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of so many samples."""
        frames: int = self.upstream.num_frames(num_samples)
        return frames

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in eval mode, whatever a Trainer says."""
        return super().train(False)

    # Base has 95 million parameters and a head 0.1: every checkpoint would hold the same upstream.
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing of it."""
        return kwargs.get("destination", args[0] if args else {})

    def _round_weights(self) -> None:
        """Round large weights as autocast would at each use, once; small ones may be used else."""
        self._rounded = True
        for module in self.upstream.modules():
            if isinstance(module, nn.Linear) and module.weight.numel() >= LARGE:
                module.to(torch.bfloat16)

    def in_bfloat16(self, device: str) -> bool:
        """Whether the forward pass computes in it."""
        if self.precision == "auto":
            return computes_bfloat16(device)
        return self.precision == "bfloat16"

    def _autocast(self, device: str) -> Any:
        # Entered in float32 too: a Trainer's own autocast must not reach the upstream.
        return torch.autocast(device, torch.bfloat16, enabled=self.in_bfloat16(device))

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> layers of (B, F, D) and their lengths (B,).

        Both lengths are on the host.
        """
        lengths = lengths.cpu()  # what is read of them below costs a GPU no wait
        if self.in_bfloat16(waveforms.device.type) and not self._rounded:
            self._round_weights()
        with self._autocast(waveforms.device.type), threads(self.threads):
            groups = _groups(lengths) if self.grouped else [torch.arange(len(lengths))]
            parts = [
                self.upstream(waveforms[rows, : int(lengths[rows].max())], lengths[rows])
                for rows in groups
            ]
        return parts[0] if len(parts) == 1 else _joined(parts, groups)


def _groups(lengths: Tensor) -> list[Tensor]:
    """Rows of about the same length together; in their own order if one group holds all."""
    groups = similar_lengths(lengths.tolist(), ratio=GROUP_RATIO)
    if len(groups) == 1:
        return [torch.arange(len(lengths))]
    return [torch.tensor(rows) for rows in groups]


def _joined(parts: list[Features], groups: list[Tensor]) -> Features:
    """The rows of all groups in the order of the batch, zero on padding."""
    rows = torch.cat(groups)
    lengths = torch.cat([part.lengths for part in parts])
    layers = []
    for pieces in zip(*(part.layers for part in parts), strict=True):
        x = pieces[0].new_zeros(len(rows), pieces[0].shape[1], pieces[0].shape[2])
        for piece, where in zip(pieces, groups, strict=True):
            x[where, : piece.shape[1]] = piece
        layers.append(x)
    return Features(tuple(layers), torch.empty_like(lengths).index_copy_(0, rows, lengths))
