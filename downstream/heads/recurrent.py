# SPDX-License-Identifier: Apache-2.0
"""LSTMs over frames that know where an utterance ends.

The backward direction reads each utterance from its own last frame on, so padding changes nothing.
Packed sequences would give the same; their backward pass costs the square of the length.
"""

import torch
from torch import Tensor, nn

from downstream.features import Frames
from wavlm_lightning.lengths import padding_mask


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, F, D) with each row's valid frames in reverse order; padding stays where it is.

    >>> x = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [0.0]]])
    >>> reverse(x, torch.tensor([3, 2]))[..., 0]
    tensor([[3., 2., 1.],
            [5., 4., 0.]])
    """
    places = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    mirrored = lengths.to(x.device, non_blocking=True)[:, None] - 1 - places
    index = torch.where(mirrored >= 0, mirrored, places)
    return x.gather(1, index[..., None].expand_as(x))


class Blstm(nn.Module):
    """One bidirectional layer."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.onward = nn.LSTM(dim, hidden, batch_first=True)
        self.backward_ = nn.LSTM(dim, hidden, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, F, D) with valid frames (B,) -> (B, F, 2H), zero on padding."""
        onward, _ = self.onward(x)
        back, _ = self.backward_(reverse(x, lengths))
        out = torch.cat([onward, reverse(back, lengths)], dim=2)
        return out.masked_fill(padding_mask(lengths, x.shape[1], x.device)[..., None], 0)


class ProjectedBlstm(nn.Module):
    """Linear, BLSTMs with dropout after each, linear to symbols.

    SUPERB's ASR head (s3prl ec8064b5, downstream/asr/model.py): each BLSTM is one of its own, with
    no projection between them and no reduction of time.
    """

    def __init__(
        self,
        dim: int,
        *,
        projection: int,
        hidden: int,
        num_layers: int,
        dropout: float,
        num_symbols: int,
    ):
        super().__init__()
        self.projection = nn.Linear(dim, projection)
        sizes = [projection, *[2 * hidden] * (num_layers - 1)]
        self.layers = nn.ModuleList(Blstm(size, hidden) for size in sizes)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * hidden, num_symbols)

    def forward(self, frames: Frames) -> Tensor:
        """(B, F, D) -> logits (B, F, U)."""
        x = self.projection(frames.x)
        for layer in self.layers:
            x = self.dropout(layer(x, frames.lengths))
        return self.classifier(x)


class LstmActivity(nn.Module):
    """One forward LSTM straight on the frames, linear to one logit a speaker.

    SUPERB's diarization head (s3prl ec8064b5, downstream/diarization/model.py).
    """

    def __init__(self, dim: int, *, hidden: int, num_speakers: int):
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, num_speakers)

    def forward(self, frames: Frames) -> Tensor:
        """(B, F, D) -> logits (B, F, S)."""
        return self.classifier(self.lstm(frames.x)[0])
