# SPDX-License-Identifier: Apache-2.0
"""Low-rank updates: nothing at first, all that trains, and merged into plain weights."""

import dataclasses

import pytest
import torch

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.downstream.adapt.lora import add_lora, load_merged, load_original, merged_state
from wavlm_lightning.downstream.adapt.policy import LoRAConfig

SHAPE = {"num_layers": 3, "dim": 32, "ffn_dim": 64, "num_heads": 4, "feature_encoder_dim": 16}
SHAPE |= {"position_kernel": 16, "position_groups": 4}


def encoder(size: str = "base") -> WavLM:
    torch.manual_seed(0)
    return WavLM(dataclasses.replace(WavLMConfig.preset(size), **SHAPE)).eval()


def waveforms() -> torch.Tensor:
    return torch.randn(2, 8000, generator=torch.Generator().manual_seed(1))


def trained(model: WavLM) -> WavLM:
    """With updates that are no longer zero."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".0.b"):
                parameter.normal_(0.0, 0.1, generator=generator)
    return model


@torch.no_grad()
@pytest.mark.parametrize("size", ["base", "large"])
def test_updates_change_nothing_at_first_and_something_once_trained(size: str) -> None:
    model = encoder(size)
    before = model(waveforms()).output
    add_lora(model, LoRAConfig(rank=2), seed=0, blocks=None)
    torch.testing.assert_close(model(waveforms()).output, before, rtol=0, atol=0)
    assert (trained(model)(waveforms()).output - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("layers", "blocks", "count"),
    [("attention", None, 3 * 4), ("feed_forward", None, 3 * 2), ("all", 1, 6), ("all", 0, 0)],
)
def test_only_updates_train(layers: str, blocks: int | None, count: int) -> None:
    model = encoder()
    add_lora(model, LoRAConfig(rank=2, layers=layers), seed=0, blocks=blocks)  # type: ignore[arg-type]
    learns = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(learns) == 2 * count
    assert all(".parametrizations.weight.0." in name for name in learns)
    last = {int(name.split(".")[2]) for name in learns}
    assert last == (set() if count == 0 else {2} if blocks == 1 else {0, 1, 2})


def test_gradients_reach_both_factors() -> None:
    model = trained_lora()
    model(waveforms()).output.square().sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def trained_lora() -> WavLM:
    model = encoder()
    add_lora(model, LoRAConfig(rank=2, alpha=4.0, layers="all"), seed=0, blocks=None)
    return trained(model)


@torch.no_grad()
def test_merged_weights_compute_the_same_under_the_usual_names() -> None:
    model = trained_lora()
    plain = encoder()
    state = merged_state(model)
    assert state.keys() == plain.state_dict().keys()
    plain.load_state_dict(state)
    torch.testing.assert_close(plain(waveforms()).output, model(waveforms()).output)
    layer = model.encoder.layers[1].feed_forward_in
    update = layer.parametrizations.weight[0]
    wanted = encoder().encoder.layers[1].feed_forward_in.weight + 2.0 * update.b @ update.a
    torch.testing.assert_close(state["encoder.layers.1.feed_forward_in.weight"], wanted)


@torch.no_grad()
def test_merged_weights_take_the_place_of_weights_and_updates() -> None:
    model, state = trained_lora(), merged_state(trained_lora())
    before = model(waveforms()).output
    load_merged(model, state)
    assert model.state_dict().keys() == encoder().state_dict().keys()
    torch.testing.assert_close(model(waveforms()).output, before)


@torch.no_grad()
def test_other_weights_may_be_put_below_the_updates() -> None:
    model, other = trained_lora(), encoder()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    updates = {n: p.clone() for n, p in model.named_parameters() if ".0." in n and p.requires_grad}
    load_original(model, other.state_dict())
    original = model.encoder.layers[0].attention.query.parametrizations.weight.original
    torch.testing.assert_close(original, other.encoder.layers[0].attention.query.weight)
    for name, parameter in updates.items():
        torch.testing.assert_close(dict(model.named_parameters())[name], parameter)


def test_the_seed_draws_the_same_updates() -> None:
    states = []
    for seed in (0, 0, 1):
        model = encoder()
        add_lora(model, LoRAConfig(rank=2), seed=seed, blocks=None)
        states.append(
            model.state_dict()["encoder.layers.0.attention.key.parametrizations.weight.0.a"]
        )
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
