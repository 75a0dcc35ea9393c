# SPDX-License-Identifier: Apache-2.0
"""Names that our checkpoints had before 28 November 2026, and have today."""

from collections.abc import Mapping
from typing import Any, TypeVar

V = TypeVar("V")

PARAMETERS = {"frontend.": "feature_encoder.", "mask_vector": "mask_embedding"}
KEYS = {
    "frontend_dim": "feature_encoder_dim",
    "frontend_norm": "feature_encoder_norm",
    "frontend_grad_scale": "feature_encoder_grad_scale",
}


def current_parameters(state: Mapping[str, V], *, prefix: str = "") -> dict[str, V]:
    """A state dict under today's names, where the encoder's names begin with `prefix`.

    >>> current_parameters({"model.mask_vector": 1, "model.encoder.norm.bias": 2}, prefix="model.")
    {'model.mask_embedding': 1, 'model.encoder.norm.bias': 2}
    """

    def current(name: str) -> str:
        for old, new in PARAMETERS.items():
            if name.startswith(prefix + old):
                return prefix + new + name.removeprefix(prefix + old)
        return name

    return {current(name): value for name, value in state.items()}


def current_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Section `model` of a configuration under today's names."""
    return {KEYS.get(key, key): value for key, value in values.items()}
