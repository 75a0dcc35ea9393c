# SPDX-License-Identifier: Apache-2.0
"""The optimizer of heads and encoders."""

from typing import Any

import torch

from wavlm_lightning.downstream.config import OptimConfig

KINDS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(
    groups: list[dict[str, Any]], config: OptimConfig, *, fused: bool
) -> torch.optim.Optimizer:
    """Adam or AdamW.

    Args:
        groups: Parameters and learning rates, as torch's optimizers take them.
        config: Everything else.
        fused: Whether one kernel may do the whole step.
    """
    return KINDS[config.name](
        groups,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=fused,
    )
