# SPDX-License-Identifier: Apache-2.0
"""Low-rank adaptation of an encoder's linear layers.

LoRA (Hu et al. 2022): W + alpha / rank * B A, where A (rank, in) is drawn, B (out, rank) begins at
zero, and W rests. As a parametrisation of the layer's weight it holds for every kernel that reads
the weight, and merging it is taking it off.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from wavlm_lightning.downstream.adapt.policy import LoRAConfig
from wavlm_lightning.model.encoder import Block
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.seeding import torch_generator

WEIGHT = "weight"


class LowRankUpdate(nn.Module):
    """A weight with its update.

    Args:
        weight: (out, in), for the shape.
        rank: Rank of the update.
        scale: Factor on the update.
        generator: Draws A, as torch draws the weights of a linear layer.
    """

    def __init__(self, weight: Tensor, *, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        out_features, in_features = weight.shape
        bound = 1 / math.sqrt(in_features)
        a = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
        self.a, self.b = nn.Parameter(a), nn.Parameter(torch.zeros(out_features, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        """Weight (C', C) -> the updated weight (C', C)."""
        return weight + self.scale * (self.b @ self.a)


def add_lora(model: WavLM, config: LoRAConfig, *, seed: int, blocks: int | None) -> None:
    """Freeze an encoder and give linear layers of its blocks updates that train.

    Args:
        model: The encoder, changed in place.
        config: Rank, scale and which layers.
        seed: Random seed of the first values of A.
        blocks: Number of blocks that have updates, the last ones; None for all.
    """
    model.requires_grad_(False)
    generator = torch_generator(seed, "lora")
    for block in last_blocks(model, blocks):
        for layer in _linear_layers(block, config):
            update = LowRankUpdate(
                layer.weight,
                rank=config.rank,
                scale=config.alpha / config.rank,
                generator=generator,
            )
            parametrize.register_parametrization(layer, WEIGHT, update)
            layer.parametrizations[WEIGHT].original.requires_grad_(False)  # type: ignore[index, union-attr]


def last_blocks(model: WavLM, blocks: int | None) -> list[Block]:
    """The last so many transformer blocks, all if None."""
    found: list[Block] = list(model.encoder.layers)  # type: ignore[arg-type]
    return found if blocks is None else found[max(0, len(found) - blocks) :]


def _linear_layers(block: Block, config: LoRAConfig) -> list[nn.Linear]:
    attention = block.attention
    found: list[nn.Linear] = []
    if config.layers in ("attention", "all"):
        found += [attention.query, attention.key, attention.value, attention.output]
    if config.layers in ("feed_forward", "all"):
        found += [block.feed_forward_in, block.feed_forward_out]
    return found


def load_merged(model: WavLM, state: dict[str, Tensor]) -> None:
    """Load weights under their usual names; an encoder with updates has none from here on."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, WEIGHT):
            parametrize.remove_parametrizations(module, WEIGHT)
    model.load_state_dict(state)


def load_original(model: WavLM, state: dict[str, Tensor]) -> None:
    """Load weights under their usual names below the updates of an encoder, which stay."""
    named = {}
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        updated = leaf == WEIGHT and parametrize.is_parametrized(model.get_submodule(path), WEIGHT)
        named[f"{path}.parametrizations.{WEIGHT}.original" if updated else name] = value
    updates = {n: v for n, v in model.state_dict().items() if _is_update(n)}
    model.load_state_dict(named | updates)


def _is_update(name: str) -> bool:
    return f".parametrizations.{WEIGHT}.0." in name


@torch.no_grad()
def merged_state(model: WavLM) -> dict[str, Tensor]:
    """The encoder's weights under their usual names, with updates added where it has some."""
    state = dict(model.state_dict())
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, WEIGHT):
            for key in [k for k in state if k.startswith(f"{name}.parametrizations.{WEIGHT}.")]:
                del state[key]
            state[f"{name}.{WEIGHT}"] = module.weight.detach().clone()
    return state
