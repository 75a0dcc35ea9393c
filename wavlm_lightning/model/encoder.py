# SPDX-License-Identifier: Apache-2.0
"""The transformer: position embedding, blocks with one position bias, LayerDrop, all layers out.

WavLM (Chen et al. 2021); behaviour as in microsoft/unilm 768a3c8, wavlm/WavLM.py, unless said.

Differs from the released code: the position table belongs to the encoder, so that dropping the
first block does not take the position bias from all others (`layer_drop_official` does as
released), and a dropped block takes part with weight zero, so that distributed training sees every
parameter.
"""

from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model.attention import (
    BY_DISTANCE,
    Bias,
    SelfAttention,
    choose,
    dense_table,
)
from wavlm_lightning.model.config import Attention, WavLMConfig
from wavlm_lightning.model.kernels import use_kernels
from wavlm_lightning.model.kernels.dropout import dropout
from wavlm_lightning.model.kernels.gelu_linear import gelu_linear
from wavlm_lightning.model.kernels.linear import linear
from wavlm_lightning.model.position import ConvPosition, relative_buckets


class Block(nn.Module):
    """Attention and feed-forward with residuals; layer norm before (Large) or after them (Base)."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout, self.activation_dropout = config.dropout, config.activation_dropout
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.feed_forward_in = nn.Linear(config.dim, config.ffn_dim)
        self.feed_forward_out = nn.Linear(config.ffn_dim, config.dim)
        self.feed_forward_norm = nn.LayerNorm(config.dim)

    def _drop(self, x: Tensor, rate: float) -> Tensor:
        return dropout(x, rate, training=self.training)

    def _feed_forward(self, x: Tensor) -> Tensor:
        x, out = linear(self.feed_forward_in, x), self.feed_forward_out  # (B, F, ffn_dim)
        drops = self.training and self.activation_dropout > 0
        if use_kernels(x) and torch.is_grad_enabled() and not drops:
            # Keeps the input of GELU alone, of the widest activations there are.
            x = gelu_linear(x, out.weight, out.bias)
        else:
            x = linear(out, self._drop(F.gelu(x), self.activation_dropout))
        return self._drop(x, self.dropout)

    def forward(self, x: Tensor, bias: Bias, backend: Attention) -> Tensor:
        """(B, F, D) -> (B, F, D).

        Args:
            x: (B, F, D) frames.
            bias: Position bias and padding, shared by all blocks.
            backend: What computes attention; "auto" is resolved before.
        """
        if self.norm_first:
            y = self.attention(self.attention_norm(x), bias, backend)
            x = x + self._drop(y, self.dropout)
            return x + self._feed_forward(self.feed_forward_norm(x))
        x = x + self._drop(self.attention(x, bias, backend), self.dropout)
        x = self.attention_norm(x)
        return self.feed_forward_norm(x + self._feed_forward(x))


class Encoder(nn.Module):
    """Projected features (B, F, D) -> the input of the first block and the output of each."""

    def __init__(self, config: WavLMConfig):
        super().__init__()
        self.config = config
        self.position = ConvPosition(
            config.dim, config.position_kernel, groups=config.position_groups
        )
        self.position_bias: nn.Embedding | None = None
        if config.position_bias == "gated":
            self.position_bias = nn.Embedding(config.num_buckets, config.num_heads)
        self.norm = nn.LayerNorm(config.dim)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.compiled = False  # blocks are
        self.recompute = False  # blocks keep their input alone, and run again when going back
        self.apply(_init_bert)

    def _block(self, block: nn.Module, x: Tensor, bias: Bias, backend: Attention) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(block, x, bias, backend, use_reentrant=False)
            return out
        out = block(x, bias, backend)
        return out

    def table(self, num_frames: int) -> Tensor | None:
        """Position bias (H, 2F-1) of the distances -(F-1) ... F-1, before any gate."""
        if self.position_bias is None:
            return None
        device = self.position_bias.weight.device
        distances = torch.arange(1 - num_frames, num_frames, device=device)
        buckets = relative_buckets(
            distances, self.config.num_buckets, max_distance=self.config.max_distance
        )
        return self.position_bias(buckets).T

    def _dropped(self, generator: torch.Generator | None) -> list[bool]:
        if not self.training or self.config.layer_drop == 0:
            return [False] * len(self.layers)
        # On the host: which blocks run must be known before any of them does.
        draws = torch.rand(len(self.layers), generator=generator)
        return (draws < self.config.layer_drop).tolist()

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None,
        *,
        generator: torch.Generator | None = None,
        num_blocks: int | None = None,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """(B, F, D) with valid frames (B,) on the host, None for no padding -> layers and output.

        The layers are num_layers + 1 of (B, F, D); the output (B, F, D) is the last one, always
        after the final layer norm where there is one: what pre-training predicts from.

        Args:
            generator: of the CPU, for LayerDrop; the same state on all ranks drops the same layers.
            num_blocks: Blocks to run, the first ones; None: all.
        """
        padding = None
        if lengths is not None:
            padding = padding_mask(lengths, x.shape[1], x.device)
            # Zero before the convolution over neighbours, so that frames at the end see no padding.
            x = x.masked_fill(padding[..., None], 0)
        x = x + self.position(x)
        if not self.config.norm_first:
            x = self.norm(x)
        x = dropout(x, self.config.dropout, training=self.training)
        backend: Attention = "sdpa"  # what a compiler reads
        if not self.compiled:
            kernels = use_kernels(x)
            backend = choose(self.config.attention, x, self.config.num_heads, kernels=kernels)
        dropped = self._dropped(generator)
        # Once for all blocks: they share the table, and each scales it by gates of its own.
        table = self.table(x.shape[1])
        if self.config.layer_drop_official and dropped[0]:
            table = None
        bias = _bias(table, padding, lengths, backend)
        layers = [x]
        for block, skip in islice(zip(self.layers, dropped, strict=True), num_blocks):
            # A dropped block still gives every parameter a gradient, of zero.
            x = x + _unused(block) if skip else self._block(block, x, bias, backend)
            layers.append(x)
        if all(dropped) and self.position_bias is not None:
            x = x + _unused(self.position_bias)
        output = self.norm(x) if self.config.norm_first else x
        if self.config.last_layer_normed and len(layers) > len(self.layers):
            layers[-1] = output
        return tuple(layers), output


def _bias(
    table: Tensor | None, padding: Tensor | None, lengths: Tensor | None, backend: Attention
) -> Bias:
    """What a back-end reads of biases by distance (H, 2F-1) and padding (B, F)."""
    if backend in BY_DISTANCE:
        return Bias(table, padding, None if lengths is None else tuple(lengths.tolist()))
    return Bias(None if table is None else dense_table(table), padding)


def _unused(module: nn.Module) -> Tensor:
    """Zero that depends on every parameter of the module (see the module's docstring)."""
    return torch.stack([p.sum() for p in module.parameters()]).sum() * 0.0


def _init_bert(module: nn.Module) -> None:
    """Normal weights of deviation 0.02 and zero biases for linear layers and tables, as BERT's."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
