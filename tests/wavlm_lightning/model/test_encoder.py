# SPDX-License-Identifier: Apache-2.0
"""One position table for all blocks, LayerDrop that leaves it alone, and the initial values."""

import os
from itertools import pairwise

import pytest
import torch
from torch import nn

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.model.kernels.gelu_linear import GeluLinear

compiles = pytest.mark.skipif(
    not torch.cuda.is_available() and "WAVLM_SLOW_TESTS" not in os.environ,
    reason="compiles for about a minute on a CPU: runs with WAVLM_SLOW_TESTS=1 or CUDA",
)
STILL = {
    "num_layers": 3,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "input_dropout": 0.0,
    "last_layer_normed": False,  # so that a dropped last block can be told by its output
}


def first_block_dropped(model: WavLM, batch) -> tuple[torch.Tensor, ...]:
    """Layers of a training pass in which LayerDrop took block 0 and no other."""
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        layers = model.encode(*batch(4000, 3000), generator=generator).layers
        kept = [not torch.equal(x, y) for x, y in pairwise(layers)]
        if kept == [False, True, True]:
            return layers
    raise AssertionError("no seed dropped block 0 alone")


@pytest.fixture(params=["base", "large"])
def size(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_position_table_is_one_parameter_of_the_whole_model(tiny) -> None:
    config = tiny("base", num_layers=3)
    tables = [n for n, p in WavLM(config).named_parameters() if p.shape[0] == config.num_buckets]
    assert tables == ["encoder.position_bias.weight"]


def test_every_block_reads_the_position_table(tiny, build, batch, size: str) -> None:
    model = build(tiny(size, **STILL))
    for block in model.encoder.layers:  # what reaches the table comes from the last block alone
        block.register_forward_pre_hook(lambda _, args: (args[0].detach(), *args[1:]))
    for output in model(*batch(4000)).layers[1:]:
        table = model.encoder.position_bias.weight
        gradient = torch.autograd.grad(output[0, 3, 5], table, retain_graph=True)[0]
        assert float(gradient.abs().max()) > 0


def test_gradient_reaches_gates_and_table_when_the_first_block_is_dropped(
    tiny, build, batch, size: str
) -> None:
    model = build(tiny(size, **STILL, layer_drop=0.5)).train()
    first_block_dropped(model, batch)[-1].square().sum().backward()
    for block in model.encoder.layers[1:]:
        assert float(block.attention.gate.weight.grad.abs().max()) > 0
        assert float(block.attention.gate_scale.grad.abs().max()) > 0
    assert float(model.encoder.position_bias.weight.grad.abs().max()) > 0


def test_official_layer_drop_takes_the_position_bias_with_the_first_block(
    tiny, build, batch, size: str
) -> None:
    model = build(tiny(size, **STILL, layer_drop=0.5, layer_drop_official=True)).train()
    first_block_dropped(model, batch)[-1].square().sum().backward()
    parameters = [p for b in model.encoder.layers[1:] for p in b.attention.gate.parameters()]
    parameters.append(model.encoder.position_bias.weight)
    reached = [p.grad is not None and bool(p.grad.any()) for p in parameters]
    assert not any(reached)
    assert bool(model.encoder.layers[1].attention.query.weight.grad.any())


def test_a_dropped_block_has_gradients_of_zero(tiny, build, batch, size: str) -> None:
    model = build(tiny(size, **STILL, layer_drop=0.5)).train()
    first_block_dropped(model, batch)[-1].square().sum().backward()
    for parameter in model.encoder.layers[0].parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, torch.zeros_like(parameter))


@pytest.mark.parametrize("layer_drop", [0.0, 0.3, 1 - 1e-9])
def test_every_parameter_has_a_gradient_whatever_is_dropped(
    tiny, build, batch, size: str, layer_drop: float
) -> None:
    changes = {**STILL, "num_layers": 6, "last_layer_normed": True}
    model = build(tiny(size, **changes, layer_drop=layer_drop)).train()
    waveforms, lengths = batch(2000, 1500)
    masked = torch.zeros(2, 6, dtype=torch.bool)
    masked[:, 2:4] = True
    for seed in range(4):
        model.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(seed)
        features = model.encode(waveforms, lengths, masked=masked, generator=generator)
        features.layers[-1].square().sum().backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_same_generator_state_drops_the_same_blocks(tiny, build, batch) -> None:
    model = build(tiny("base", **{**STILL, "num_layers": 8}, layer_drop=0.5)).train()
    first, second = (
        model.encode(*batch(1000), generator=torch.Generator().manual_seed(7)).layers
        for _ in range(2)
    )
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert any(torch.equal(x, y) for x, y in pairwise(first))


def test_evaluation_drops_no_block(tiny, build, batch) -> None:
    layers = build(tiny("base", layer_drop=0.99)).eval()(*batch(1000)).layers
    assert not any(torch.equal(x, y) for x, y in pairwise(layers))


@pytest.fixture(scope="module")
def fresh() -> WavLM:
    torch.manual_seed(0)
    return WavLM(WavLMConfig.mini())


def test_linear_weights_of_the_encoder_start_at_deviation_0_02(fresh: WavLM) -> None:
    linears = {n: m for n, m in fresh.encoder.named_modules() if isinstance(m, nn.Linear)}
    assert len(linears) == 4 * 7
    for name, linear in linears.items():
        tolerance = 0.003 if name.endswith("gate") else 0.0005  # a gate has 512 weights
        assert abs(float(linear.weight.detach().std()) - 0.02) < tolerance, name
        assert abs(float(linear.weight.detach().mean())) < tolerance, name


def test_the_position_table_starts_at_deviation_0_02(fresh: WavLM) -> None:
    assert abs(float(fresh.encoder.position_bias.weight.detach().std()) - 0.02) < 0.002


def test_biases_of_the_encoder_start_at_zero(fresh: WavLM) -> None:
    biases = [p for n, p in fresh.encoder.named_parameters() if n.endswith("bias")]
    assert len(biases) == 4 * 9 + 2
    assert not any(bool(b.any()) for b in biases)


def test_gate_constants_start_at_one(fresh: WavLM) -> None:
    for block in fresh.encoder.layers:
        torch.testing.assert_close(block.attention.gate_scale, torch.ones(1, 3, 1, 1))


def test_the_mask_embedding_starts_uniform_in_0_1(fresh: WavLM) -> None:
    vector = fresh.mask_embedding.detach()
    assert 0 <= float(vector.min()) < 0.1
    assert 0.9 < float(vector.max()) < 1
    assert abs(float(vector.mean()) - 0.5) < 0.1


def test_front_end_convolutions_start_he_normal(fresh: WavLM) -> None:
    weight = fresh.feature_encoder.layers[3].conv.weight.detach()  # (64, 64, 3)
    assert abs(float(weight.std()) - (2 / (64 * 3)) ** 0.5) < 0.003


def test_linear_of_gelu_has_the_gradients_of_the_two() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(s, generator=generator) for s in [(2, 3, 8), (5, 8), (5,), (2, 3, 5)]]
    *inputs, weights = (t.requires_grad_() for t in tensors)
    found = GeluLinear.apply(*inputs)
    expected = nn.functional.linear(nn.functional.gelu(inputs[0]), inputs[1], inputs[2])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
    )


def training_gradients(model: WavLM, batch) -> dict[str, torch.Tensor]:
    """Gradients of a training pass with dropouts, by name."""
    torch.manual_seed(0)
    model.train().encode(*batch(8000, 5000)).output.square().mean().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("attention", ["eager", "by_head", "chunked"])
def test_blocks_that_run_twice_have_the_gradients_of_those_that_run_once(
    tiny, build, batch, size: str, attention: str
) -> None:
    config = tiny(size, attention=attention, dropout=0.1, attention_dropout=0.2, layer_drop=0.0)
    once, twice = build(config), build(config)
    twice.encoder.recompute = True
    torch.testing.assert_close(
        training_gradients(twice, batch), training_gradients(once, batch), rtol=0, atol=0
    )


def test_blocks_that_run_twice_keep_less(tiny, build, batch) -> None:
    kept = []
    for recompute in (False, True):
        model = build(tiny("base", num_layers=4)).train()
        model.encoder.recompute = recompute
        sizes: list[int] = []

        def count(x: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(x.nbytes)
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            model.encode(*batch(16_000, 16_000))
        kept.append(sum(sizes))
    assert kept[1] < 0.6 * kept[0]


@compiles
def test_compiled_blocks_give_the_same_and_keep_their_names(tiny, build, batch, size: str) -> None:
    config = tiny(size, dropout=0.0, attention_dropout=0.0, input_dropout=0.0, layer_drop=0.0)
    plain, compiled = build(config), build(config)
    compiled.compile_regions()
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(*batch(8000, 5000)).layers, plain(*batch(8000, 5000)).layers
        )
    found, expected = training_gradients(compiled, batch), training_gradients(plain, batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
