# SPDX-License-Identifier: Apache-2.0
"""Maps are the weights that the forward pass used, and looking changes nothing."""

import pytest
import torch
from torch import Tensor

from wavlm_lightning.model.attention_maps import attention_maps


@pytest.mark.parametrize("backend", ["eager", "sdpa", "by_head", "chunked", "auto"])
def test_maps_weigh_the_values_as_the_forward_pass_did(tiny, build, batch, backend: str) -> None:
    model = build(tiny("base", attention=backend))
    waveforms, lengths = batch(8000, 5000)
    outputs: list[tuple[Tensor, Tensor]] = []
    hooks = [
        block.attention.register_forward_hook(
            lambda module, inputs, y: outputs.append((module.heads(module.value(inputs[0])), y))
        )
        for block in model.encoder.layers
    ]
    maps = attention_maps(model, waveforms, lengths)
    for hook in hooks:
        hook.remove()
    frames = model(waveforms, lengths).lengths.tolist()
    assert frames == [24, 15]
    assert len(maps.weights) == len(maps.gates) == len(outputs) == 2
    for block, weights, (values, y) in zip(
        model.encoder.layers, maps.weights, outputs, strict=True
    ):
        assert weights.shape == (2, 4, 24, 24)
        found = block.attention.output((weights @ values).transpose(1, 2).flatten(2))
        for row, valid in enumerate(frames):
            torch.testing.assert_close(found[row, :valid], y[row, :valid], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 24))
        assert weights[1, :, :, 15:].count_nonzero() == 0  # nothing attends to padding


def test_gates_are_those_of_each_block(tiny, build, batch) -> None:
    model = build(tiny("base"))
    waveforms, _ = batch(8000)
    seen = []
    hooks = [
        block.attention.register_forward_pre_hook(
            lambda module, inputs: seen.append(module.gates(inputs[0]))
        )
        for block in model.encoder.layers
    ]
    maps = attention_maps(model, waveforms)
    for hook in hooks:
        hook.remove()
    assert [gate.shape for gate in maps.gates] == [(1, 4, 24)] * 2
    for gate, wanted in zip(maps.gates, seen, strict=True):
        assert torch.equal(gate, wanted)


def test_a_model_without_gates_has_maps_alone(tiny, build, batch) -> None:
    maps = attention_maps(build(tiny("base", position_bias="none")), batch(8000)[0])
    assert maps.gates == ()
    assert [w.shape for w in maps.weights] == [(1, 4, 24, 24)] * 2


@pytest.mark.parametrize("training", [True, False])
def test_looking_leaves_the_model_as_it_was(tiny, build, batch, training: bool) -> None:
    model = build(tiny("base")).train(training)
    waveforms, _ = batch(8000)
    maps = attention_maps(model, waveforms)
    assert model.training is training
    assert all(not m._forward_pre_hooks for m in model.modules())
    assert not maps.weights[0].requires_grad
    assert torch.equal(maps.weights[1], attention_maps(model, waveforms).weights[1])  # no dropout


def test_a_recording_that_is_too_short_leaves_no_hooks(tiny, build) -> None:
    model = build(tiny("base")).train()
    with pytest.raises(ValueError, match="400"):
        attention_maps(model, torch.randn(1, 300))
    assert model.training
    assert all(not m._forward_pre_hooks for m in model.modules())
