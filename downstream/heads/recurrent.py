# SPDX-License-Identifier: Apache-2.0
"""LSTMs over frames that know where an utterance ends.

The backward direction reads each utterance from its own last frame on, so padding changes nothing.
That is a packed sequence to a GPU. On a CPU the gradient of one costs the square of its length, so
there each direction runs by itself, the second on reversed frames.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.bfloat16_lstm import packing, run_direction, takes_bfloat16
from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model.kernels import use_kernels


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
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.register_load_state_dict_pre_hook(_rename_directions)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, F, D) with valid frames (B,) -> (B, F, 2H), zero on padding."""
        if not use_kernels(x):
            return self._as_packed_sequence(x, lengths)
        if takes_bfloat16(x, self.lstm.hidden_size):
            return self._in_bfloat16(x, lengths)
        return self._by_direction(x, lengths)

    def _as_packed_sequence(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run one LSTM, whose directions a GPU runs side by side."""
        order = torch.argsort(lengths, descending=True)
        sequence = pack_padded_sequence(
            x.index_select(0, order.to(x.device, non_blocking=True)),
            lengths[order],
            batch_first=True,
        )
        out, _ = pad_packed_sequence(
            self.lstm(sequence)[0], batch_first=True, total_length=x.shape[1]
        )
        return out.index_select(0, torch.argsort(order).to(x.device, non_blocking=True))

    def _by_direction(self, x: Tensor, lengths: Tensor) -> Tensor:
        onward, back = self._directions()
        zeros = [x.new_zeros(1, len(x), self.lstm.hidden_size)] * 2
        options = (True, 1, 0.0, self.training, False, True)
        read_onward = torch.lstm(x, zeros, onward, *options)[0]
        read_back = torch.lstm(reverse(x, lengths), zeros, back, *options)[0]
        out = torch.cat([read_onward, reverse(read_back, lengths)], dim=2)
        return out.masked_fill(padding_mask(lengths, x.shape[1], x.device)[..., None], 0)

    def _in_bfloat16(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed, frames = packing(lengths, x.shape[1]), x.flatten(0, 1)
        out = []
        for weights, places in zip(self._directions(), (packed.onward, packed.back), strict=True):
            found = run_direction(frames.index_select(0, places), weights, packed)
            empty = found.new_zeros(len(frames), found.shape[1])
            out.append(empty.index_copy(0, places, found).unflatten(0, x.shape[:2]))
        return torch.cat(out, dim=2)

    def _directions(self) -> tuple[list[Tensor], list[Tensor]]:
        """Weights of the direction that reads from the first frame on, and of the other."""
        weights: list[Tensor] = list(self.lstm.parameters())
        return weights[:4], weights[4:]


def _rename_directions(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read weights from before 0.1.0 was released, when each direction was an LSTM by itself."""
    for old, suffix in (("onward.", ""), ("backward_.", "_reverse")):
        for name in [n for n in state if n.startswith(prefix + old)]:
            kind = name.removeprefix(prefix + old)
            state[f"{prefix}lstm.{kind}{suffix}"] = state.pop(name)


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
