# SPDX-License-Identifier: Apache-2.0
"""The gate on the position bias, and attention back-ends that agree with the eager one."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model.attention import (
    BACKENDS,
    BY_DISTANCE,
    Bias,
    SelfAttention,
    attend_eager,
    choose,
    dense_table,
)
from wavlm_lightning.model.kernels import by_head, chunked
from wavlm_lightning.model.kernels.by_head import AttentionByHead
from wavlm_lightning.model.kernels.chunked import ChunkedAttention

FRAMES = (21, 13)
PADDING = torch.arange(21) >= torch.tensor([[21], [13]])
both_paddings = pytest.mark.parametrize(
    "padding", [None, PADDING], ids=["without_padding", "with_padding"]
)


class Inputs(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    gate: Tensor
    table: Tensor


def inputs(dtype: torch.dtype = torch.float32) -> Inputs:
    """Two heads of 16, 21 frames, two rows."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 2, 21, 16)] * 3 + [(2, 2, 21), (2, 41)]
    tensors = (torch.randn(s, generator=generator) for s in shapes)
    return Inputs(*(t.to(dtype).requires_grad_() for t in tensors))


def attend(backend: str, x: Inputs, padding: Tensor | None) -> Tensor:
    table = x.table if backend in BY_DISTANCE else dense_table(x.table)
    bias = Bias(table, padding, None if padding is None else FRAMES)
    out = BACKENDS[backend](x.q, x.k, x.v, gate=x.gate, bias=bias, dropout=0.0)
    return out if padding is None else out.masked_fill(padding[:, None, :, None], 0)


def gradients(backend: str, x: Inputs, padding: Tensor | None) -> dict[str, Tensor]:
    weights = torch.linspace(-1, 1, x.q.numel(), device=x.q.device).view_as(x.q)
    loss = (attend(backend, x, padding).float() * weights).sum()
    return dict(zip(Inputs._fields, torch.autograd.grad(loss, x), strict=True))


def relative_error(x: Tensor, reference: Tensor) -> float:
    x, reference = x.detach().float(), reference.detach()
    return float((x - reference).abs().max() / reference.abs().max())


def set_gate_bias(attention: SelfAttention, values: list[float]) -> None:
    with torch.no_grad():
        attention.gate.weight.zero_()
        attention.gate.bias.copy_(torch.tensor(values))


def test_gate_is_1_75_at_zero_logits_and_unit_constant(tiny) -> None:
    attention = SelfAttention(tiny("base"))
    set_gate_bias(attention, [0.0] * 8)
    gates = attention.gates(torch.randn(2, 5, 64))
    torch.testing.assert_close(gates, torch.full((2, 4, 5), 1.75))


def test_gate_sums_its_outputs_in_two_groups_of_four(tiny) -> None:
    attention = SelfAttention(tiny("base"))
    set_gate_bias(attention, [0.1, 0.2, 0.3, 0.4, -1.0, -0.5, 0.0, 0.0])
    with torch.no_grad():
        attention.gate_scale.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]).view(1, 4, 1, 1))
    a, b = torch.sigmoid(torch.tensor([1.0, -1.5]))
    expected = a * (b * torch.tensor([0.5, 1.0, 2.0, 3.0]) - 1) + 2
    gates = attention.gates(torch.randn(1, 1, 64))
    torch.testing.assert_close(gates, expected.view(1, 4, 1))


def test_gate_reads_its_own_head_of_the_modules_input(tiny) -> None:
    attention = SelfAttention(tiny("base"))  # 4 heads of 16
    x = torch.randn(1, 3, 64, requires_grad=True)
    seen = torch.autograd.grad(attention.gates(x)[0, 1, 2], x)[0].nonzero()
    assert seen.tolist() == [[0, 2, i] for i in range(16, 32)]


def test_bias_of_a_distance_is_added_to_the_keys_at_that_distance() -> None:
    x = inputs()
    keys = attend_eager(
        torch.zeros_like(x.q[:1]),
        x.k[:1],
        torch.eye(21).expand(1, 2, 21, 21),  # values that give the weights back
        gate=torch.full((1, 2, 21), 2.0),
        bias=Bias(dense_table(x.table), None),
        dropout=0.0,
    )
    query, head = 4, 1
    distances = torch.arange(21) - query  # key minus query
    expected = torch.softmax(2 * x.table[head, distances + 20], 0)
    torch.testing.assert_close(keys[0, head, query], expected)


@pytest.fixture(params=["chunked-1", "chunked-5", "chunked-100", "by_head-1", "by_head-2"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A back-end of a CPU, with so many queries a chunk, or heads at a time, of 21 frames."""
    name, size = request.param.split("-")
    monkeypatch.setitem(chunked.CHUNK_ELEMENTS, "cpu", int(size) * 2 * 21)
    monkeypatch.setattr(by_head, "SCORES", int(size) * 21 * 21)
    monkeypatch.setattr(chunked, "SUMMED_ROWS", 8)
    return str(name)


@both_paddings
def test_sdpa_gives_the_output_of_eager(padding: Tensor | None) -> None:
    x = inputs()
    reference = attend("eager", x, padding)
    torch.testing.assert_close(attend("sdpa", x, padding), reference, atol=1e-5, rtol=1e-5)


@both_paddings
def test_sdpa_gives_the_gradients_of_eager(padding: Tensor | None) -> None:
    reference = gradients("eager", inputs(), padding)
    assert min(float(g.abs().max()) for g in reference.values()) > 0
    found = gradients("sdpa", inputs(), padding)
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-5)


@both_paddings
def test_kernels_give_the_output_of_eager(padding: Tensor | None, kernel: str) -> None:
    x = inputs()
    reference = attend("eager", x, padding)
    torch.testing.assert_close(attend(kernel, x, padding), reference, atol=1e-5, rtol=1e-5)


@both_paddings
def test_kernels_give_the_gradients_of_eager(padding: Tensor | None, kernel: str) -> None:
    reference = gradients("eager", inputs(), padding)
    found = gradients(kernel, inputs(), padding)
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-5)


def test_kernels_without_a_bias_give_the_output_of_eager(kernel: str) -> None:
    x = inputs()
    bias = Bias(None, None)
    reference, found = (
        BACKENDS[b](x.q, x.k, x.v, gate=x.gate, bias=bias, dropout=0.0) for b in ("eager", kernel)
    )
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-5)
    for loss in (found, reference):
        assert torch.autograd.grad(loss.sum(), x.gate, allow_unused=True, retain_graph=True)


def test_dropout_of_kernels_is_the_same_in_the_backward_pass(kernel: str) -> None:
    x = inputs()
    function = {"chunked": ChunkedAttention, "by_head": AttentionByHead}[kernel]
    weights = weights_of(function, x, seed=3)
    assert 0.2 < float((weights == 0).float().mean()) < 0.3
    # With the same mask, attention is a function that autograd can take apart.
    exact = eager_weights(x) * (weights != 0) / 0.75
    torch.testing.assert_close(weights, exact, atol=1e-5, rtol=1e-5)
    direction = torch.linspace(-1, 1, x.v.numel()).view_as(x.v)
    reference = torch.autograd.grad(((exact @ x.v) * direction).sum(), x)
    out = function.apply(x.q, x.k, x.v, x.gate, x.table, None, 0.25, 3)
    found = torch.autograd.grad((out * direction).sum(), x)
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-5)


def eager_weights(x: Inputs) -> Tensor:
    scores = x.q @ x.k.transpose(-1, -2) / 4
    return (scores + x.gate[..., None] * dense_table(x.table)).softmax(-1)


def weights_of(function: Any, x: Inputs, *, seed: int) -> Tensor:
    """Weights after dropout of a quarter: attention over the identity, 7 values at a time."""
    eye = torch.eye(21).expand(2, 2, 21, 21)
    parts = [
        function.apply(x.q, x.k, part.contiguous(), x.gate, x.table, None, 0.25, seed)
        for part in eye.split(7, dim=-1)
    ]
    return torch.cat(parts, -1).detach()


def peak(work: Callable[[], Any]) -> int:
    """Most bytes that it holds of what it allocates."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    total = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return most


def test_by_head_keeps_its_weights_and_nothing_else() -> None:
    x, sizes = inputs(torch.bfloat16), []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        attend("by_head", x, None)
    given = sum(t.numel() * t.element_size() for t in x)
    assert sum(sizes) - given == 2 * 2 * 21 * 21 * 2


def test_by_head_without_gradients_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, heads = 300, 8
    monkeypatch.setattr(by_head, "SCORES", frames**2)  # one at a time
    shapes = [(1, heads, frames, 8)] * 3 + [(1, heads, frames), (heads, 2 * frames - 1)]
    weights = heads * frames**2 * 4
    peaks = []
    for grad in (True, False):
        x = Inputs(*(torch.randn(s, requires_grad=grad) for s in shapes))
        peaks.append(peak(lambda x=x: attend("by_head", x, None)))  # type: ignore[misc]
    assert peaks[1] < peaks[0] - weights / 2


@pytest.mark.parametrize(
    ("frames", "dtype", "grad", "wanted"),
    [
        (500, torch.bfloat16, True, "by_head"),
        (500, torch.float32, True, "by_head"),
        (500, torch.bfloat16, False, "by_head"),
        (500, torch.float32, False, "sdpa"),
        (1025, torch.bfloat16, False, "chunked"),
        (1000, torch.float32, True, "chunked"),  # what is kept would take 4 x 12 x 4 MB
    ],
)
def test_auto_on_a_processor(frames: int, dtype: torch.dtype, grad: bool, wanted: str) -> None:
    x = torch.zeros(4, frames, 1, dtype=dtype)
    with torch.set_grad_enabled(grad):
        assert choose("auto", x, 12, kernels=True) == wanted
        assert choose("eager", x, 12, kernels=True) == "eager"


def test_auto_elsewhere_is_what_a_compiler_reads() -> None:
    assert choose("auto", torch.zeros(4, 1500, 1), 12, kernels=False) == "sdpa"
    assert choose("auto", torch.zeros(1, 8193, 1), 12, kernels=False) == "chunked"


def test_chunked_memory_grows_with_the_length() -> None:
    peaks = []
    for frames in (1000, 4000):
        shapes = [(1, 2, frames, 16)] * 3 + [(1, 2, frames), (2, 2 * frames - 1)]
        x = Inputs(*(torch.randn(s, requires_grad=True) for s in shapes))

        def both(x: Inputs = x) -> None:
            attend("chunked", x, None).sum().backward()

        peaks.append(peak(both))
    assert peaks[1] < 4.5 * peaks[0]
    assert peaks[1] < 2 * 4000 * 4000 * 4  # less than one matrix of scores


@both_paddings
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_bf16_gives_the_output_of_fp32_within_two_percent(
    backend: str, padding: Tensor | None
) -> None:
    reference = attend("eager", inputs(), padding)
    found = attend(backend, inputs(torch.bfloat16), padding)
    assert found.dtype == torch.bfloat16
    assert relative_error(found, reference) < 0.02


@both_paddings
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_bf16_gives_the_gradients_of_fp32_within_two_percent(
    backend: str, padding: Tensor | None
) -> None:
    reference = gradients("eager", inputs(), padding)
    found = gradients(backend, inputs(torch.bfloat16), padding)
    errors = {n: relative_error(found[n], reference[n]) for n in reference}
    assert max(errors.values()) < 0.02, errors


def test_eager_drops_attention_weights() -> None:
    x, eye = inputs(), torch.eye(21).expand(2, 2, 21, 21)
    torch.manual_seed(0)
    kept = attend_eager(x.q, x.k, eye, gate=x.gate, bias=Bias(None, None), dropout=0.25)
    assert 0.2 < float((kept == 0).float().mean()) < 0.3


@pytest.mark.parametrize("backend", ["eager", "by_head", "chunked"])
def test_fp16_survives_scores_beyond_its_range(backend: str) -> None:
    x = inputs(torch.float16)
    x = x._replace(q=200 * x.q, k=200 * x.k)
    scores = x.q.detach().float() @ x.k.detach().float().transpose(-1, -2) / 4
    assert float(scores.abs().max()) > 2 * 65_504  # twice what float16 holds
    found = attend(backend, x, PADDING)
    assert found.dtype == torch.float16
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("backend", ["eager", "by_head", "chunked"])
def test_fp16_gives_the_output_of_fp32(backend: str) -> None:
    reference = attend("eager", inputs(), PADDING)
    assert relative_error(attend(backend, inputs(torch.float16), PADDING), reference) < 2e-3


@pytest.mark.parametrize("size", ["base", "large"])
def test_a_model_gives_the_same_layers_with_every_back_end(tiny, build, batch, size: str) -> None:
    config = tiny(size)
    layers = []
    for backend in list(BACKENDS):
        model = build(dataclasses.replace(config, attention=backend))
        with torch.no_grad():
            found = model(*batch(8000, 5000))
        own = padding_mask(found.lengths, found.layers[0].shape[1])[..., None]
        layers.append([x.masked_fill(own, 0) for x in found.layers])
    for other in layers[1:]:
        torch.testing.assert_close(other, layers[0], atol=1e-5, rtol=1e-5)
