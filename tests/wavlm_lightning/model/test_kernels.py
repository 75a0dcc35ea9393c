# SPDX-License-Identifier: Apache-2.0
"""Kernels give what plain operations give, and plain operations run where GPUs and compilers do."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_lightning import WavLM
from wavlm_lightning.model import position
from wavlm_lightning.model.attention import dense_table
from wavlm_lightning.model.export import exported
from wavlm_lightning.model.kernels import plain_operations, use_kernels
from wavlm_lightning.model.kernels.grouped_convolution import BLOCK, grouped_convolution

STILL = {"dropout": 0.0, "attention_dropout": 0.0, "input_dropout": 0.0, "layer_drop": 0.0}
both_sizes = pytest.mark.parametrize("size", ["base", "large"])
lengths_of_rows = pytest.mark.parametrize(
    "lengths", [(8000, 8000), (8000, 5000)], ids=["without_padding", "with_padding"]
)


def valid_output(model: WavLM, waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Frames (N, D) of the last layer that are not padding."""
    features = model(waveforms, lengths)
    frames = torch.arange(features.output.shape[1])
    return features.output[frames < features.lengths[:, None]]


def output_and_gradients(model: WavLM, waveforms: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    output = valid_output(model, waveforms, lengths)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(5))
    model.zero_grad()
    (output * direction).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"output": output.detach()} | gradients


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    # A bias of all keys moves all scores of a query alike: its gradient is zero but for rounding.
    names = [n for n in expected if not n.endswith("key.bias")]
    assert len(names) > 40
    for name in names:
        scale = float(expected[name].abs().max())
        error = float((found[name] - expected[name]).abs().max()) / scale
        assert error < 2e-5, f"{name}: {error}"


@both_sizes
@lengths_of_rows
def test_kernels_give_what_plain_operations_give(tiny, build, batch, size, lengths) -> None:
    model = build(tiny(size, **STILL)).train()
    found = output_and_gradients(model, *batch(*lengths))
    with plain_operations():
        expected = output_and_gradients(model, *batch(*lengths))
    assert not torch.equal(found["output"], expected["output"])  # both ways were taken
    assert_same(found, expected)


def test_plain_operations_end_with_their_block() -> None:
    x = torch.zeros(1)
    with plain_operations(), plain_operations():
        assert not use_kernels(x)
    assert use_kernels(x)
    assert not use_kernels(torch.zeros(1, device="meta"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "lengths"), [("base", (8000, 5000)), ("large", (8000, 8000))], ids=["base", "large"]
)
def test_compiled_regions_hold_all_lengths_without_a_break(
    tiny, build, batch, size, lengths
) -> None:
    """Traced and differentiated by the compiler, run by torch: no C++ compiler is needed."""
    torch._dynamo.reset()
    plain, compiled = build(tiny(size, **STILL)).train(), build(tiny(size, **STILL)).train()
    compiled.compile_regions(backend="aot_eager")
    shorter = tuple(n - 1600 for n in lengths)
    found = [output_and_gradients(compiled, *batch(*n)) for n in (lengths, shorter)]
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    found.append(output_and_gradients(compiled, *batch(*(n - 3200 for n in lengths))))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0
    with plain_operations():
        expected = output_and_gradients(plain, *batch(*lengths))
    assert_same(found[0], expected)


def test_a_back_end_that_no_compiler_reads_is_refused(tiny, build) -> None:
    with pytest.raises(ValueError, match=r"model.attention must be auto or sdpa .*got chunked"):
        build(tiny("base", attention="chunked")).compile_regions()


@torch.no_grad()
@both_sizes
def test_an_exported_program_takes_any_batch_and_length(tiny, build, size) -> None:
    model = build(tiny(size))
    program = exported(model).module()
    for rows, samples in ((1, 720), (3, 16_000), (2, 9_321)):
        x = 0.1 * torch.randn(rows, samples)
        for found, expected in zip(program(x), model(x).layers, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@both_sizes
@lengths_of_rows
def test_the_host_reads_nothing_of_what_the_device_computes(tiny, size, lengths) -> None:
    """Tensors without data stand for a device's: reading one, or waiting for one, raises."""
    with torch.device("meta"):
        model = WavLM(tiny(size, layer_drop=0.5)).train()
    waveforms = torch.empty(2, 8000, device="meta")
    masked = torch.empty(2, 24, device="meta", dtype=torch.bool)
    features = model(waveforms, torch.tensor(lengths), masked)
    assert features.lengths.tolist() == [(n - 400) // 320 + 1 for n in lengths]
    features.output.sum().backward()
    assert model.feature_encoder.layers[0].conv.weight.grad.device.type == "meta"


@pytest.mark.parametrize("frames", [1, 16, 33, 50])
@pytest.mark.parametrize("shape", [(24, 4, 128), (24, 3, 5), (16, 2, 7), (8, 8, 1)])
def test_grouped_convolution_is_torchs(shape: tuple[int, int, int], frames: int) -> None:
    channels, groups, taps = shape
    generator = torch.Generator().manual_seed(0)
    x, weight, direction = (
        torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_()
        for s in [
            (3, frames, channels),
            (channels, channels // groups, taps),
            (3, frames, channels),
        ]
    )
    expected = F.conv1d(x.transpose(1, 2), weight, padding=taps // 2, groups=groups)
    expected = expected.transpose(1, 2)[:, :frames]
    found = grouped_convolution(x, weight, groups=groups, before=taps // 2)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad((found * direction).sum(), (x, weight)),
        torch.autograd.grad((expected * direction).sum(), (x, weight)),
    )


@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_position_embedding_as_products_is_the_same(
    tiny, build, dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BLOCK, "cpu", block)
    module = build(tiny("base", position_groups=2)).encoder.position
    x = torch.randn(2, 37, 64)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        monkeypatch.setattr(position, "_as_products", lambda *_: False)
        expected = module(x)
        monkeypatch.setattr(position, "_as_products", lambda *_: True)
        found = module(x)
    assert found.dtype == expected.dtype == torch.float32
    assert not torch.equal(found, expected)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("shape", "channels", "dtype", "grad", "wanted"),
    [
        ((4, 199, 192), 12, torch.float32, True, True),  # the mini model
        ((4, 499, 768), 48, torch.float32, True, False),
        ((4, 100, 768), 48, torch.bfloat16, True, True),
        ((3, 100, 768), 48, torch.bfloat16, True, False),
        ((4, 100, 768), 48, torch.bfloat16, False, False),  # each utterance as if it were alone
        ((1, 400, 768), 48, torch.bfloat16, False, True),
    ],
)
def test_a_processor_takes_products_where_they_are_faster(
    shape: tuple[int, ...], channels: int, dtype: torch.dtype, grad: bool, wanted: bool
) -> None:
    x, weight = torch.zeros(shape), torch.zeros(shape[-1], channels, 8)
    with torch.set_grad_enabled(grad):
        assert position._as_products(x, weight, dtype) == wanted


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_dense_table_has_the_gradient_of_an_index(frames: int) -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(3, 2 * frames - 1, generator=generator).requires_grad_()
    direction = torch.randn(3, frames, frames, generator=generator)
    places = torch.arange(frames)
    expected = table[:, places - places[:, None] + frames - 1]
    found = dense_table(table)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad((found * direction).sum(), table),
        torch.autograd.grad((expected * direction).sum(), table),
    )
