# SPDX-License-Identifier: Apache-2.0
"""What each frame attends to, and how much each query's gate makes of relative position."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavlm_lightning.model.attention import (
    Bias,
    SelfAttention,
    attention_weights,
    dense_table,
)
from wavlm_lightning.model.wavlm import WavLM


class AttentionMaps(NamedTuple):
    """A tensor for each block, the first one first."""

    weights: tuple[Tensor, ...]  # (B, H, F, F) float32, rows of queries that sum to one
    gates: tuple[Tensor, ...]  # (B, H, F), factors on the position bias; () without one


@torch.no_grad()
def attention_maps(model: WavLM, waveforms: Tensor, lengths: Tensor | None = None) -> AttentionMaps:
    """Attention weights and gates of all blocks, in evaluation mode.

    Every map is square in the frames: a minute of audio has 9 million weights a head and block.

    Args:
        model: The encoder.
        waveforms: (B, T) float32 at 16 kHz.
        lengths: (B,) valid samples; None: all.
    """
    weights: list[Tensor] = []
    gates: list[Tensor] = []

    def look(module: Any, inputs: tuple[Any, ...]) -> None:
        x, bias, _ = inputs
        gate = module.gates(x)
        weights.append(_weights(module, x, bias, gate))
        if gate is not None:
            gates.append(gate)

    blocks: Any = model.encoder.layers
    hooks = [block.attention.register_forward_pre_hook(look) for block in blocks]
    was_training = model.training
    try:
        model.eval()(waveforms, lengths)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return AttentionMaps(tuple(weights), tuple(gates))


def _weights(module: SelfAttention, x: Tensor, bias: Bias, gate: Tensor | None) -> Tensor:
    """(B, H, F, F) of the module's input (B, F, D)."""
    if bias.table is not None and bias.table.ndim == 2:  # by distance, as some back-ends read it
        bias = bias._replace(table=dense_table(bias.table))
    q, k = module.heads(module.query(x)), module.heads(module.key(x))
    return attention_weights(q, k, gate, bias)
