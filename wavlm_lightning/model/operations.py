# SPDX-License-Identifier: Apache-2.0
"""How much a WavLM multiplies: what a measured speed is compared with."""

from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.config import WavLMConfig

GATE_OUTPUTS = 8  # of each head, per frame
BACKWARD = 2  # times the forward pass: gradients of inputs, and of weights


def forward_operations(config: WavLMConfig, num_samples: int) -> float:
    """Floating-point operations of one utterance's forward pass, in matrix products alone.

    A multiplication and its addition count as two, as peak rates of processors do.

    Args:
        config: of the model.
        num_samples: of the utterance, unpadded.
    """
    total, frames, channels = 0.0, num_samples, 1
    for dim, kernel, stride in config.conv_layers:
        frames = int(conv_lengths(frames, (kernel,), (stride,)))
        total += frames * kernel * channels * dim
        channels = dim
    d = config.dim
    total += frames * channels * d
    total += frames * config.position_kernel * d // config.position_groups * d
    block = 4 * d * d + 2 * d * config.ffn_dim
    if config.position_bias == "gated":
        block += GATE_OUTPUTS * d
    total += config.num_layers * frames * (block + 2 * frames * d)
    return 2 * total
