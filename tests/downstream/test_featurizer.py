# SPDX-License-Identifier: Apache-2.0
"""The weighted sum: uniform at first, right gradients, no second copy of the layers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from wavlm_lightning.downstream.features.featurizer import Featurizer, FeaturizerConfig, WeightedSum
from wavlm_lightning.downstream.features.frames import Features

SAMPLES = torch.tensor([16_000, 9_000])
LENGTHS = torch.tensor([49, 27])


def layers(count: int = 4) -> tuple[Tensor, ...]:
    return tuple(torch.randn(2, 49, 8) for _ in range(count))


def featurizer(**kwargs: object) -> Featurizer:
    config = FeaturizerConfig(**kwargs)  # type: ignore[arg-type]
    return Featurizer(config, num_layers=4, stride=320)


def test_at_first_the_frames_are_the_mean_of_the_layers() -> None:
    x = layers()
    frames = featurizer()(Features(x, LENGTHS), SAMPLES)
    torch.testing.assert_close(frames.x[0], torch.stack(x).mean(0)[0])


def test_padding_is_zero() -> None:
    frames = featurizer()(Features(layers(), LENGTHS), SAMPLES)
    assert float(frames.x[1, 27:].detach().abs().max()) == 0


def test_gradients_equal_those_of_a_stacked_sum() -> None:
    x = [layer.double().requires_grad_() for layer in layers()]
    weights = torch.rand(4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(WeightedSum.apply, (weights, *x))


def test_no_copy_of_the_layers_is_kept_for_the_backward_pass() -> None:
    x, kept = layers(), []
    own = {layer.data_ptr() for layer in x}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        WeightedSum.apply(torch.zeros(4, requires_grad=True).softmax(0), *x)
    large = [t for t in kept if t.numel() > 4]
    assert len(large) == 4
    assert {t.data_ptr() for t in large} == own


def test_layers_in_16_bit_are_summed_in_32() -> None:
    x = tuple(layer.half() for layer in layers())
    frames = featurizer()(Features(x, LENGTHS), SAMPLES)
    assert frames.x.dtype == torch.float32
    expected = torch.stack([layer.float() for layer in x]).mean(0)
    torch.testing.assert_close(frames.x[0], expected[0])


def test_one_layer_can_be_chosen_and_has_no_weights() -> None:
    x = layers()
    chosen = featurizer(layer=2)
    torch.testing.assert_close(chosen(Features(x, LENGTHS), SAMPLES).x[0], x[2][0])
    assert chosen.weights() is None
    assert list(chosen.parameters()) == []


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"featurizer\.layer=4: the upstream has layers 0 to 3"):
        featurizer(layer=4)


def test_normalising_acts_on_each_layer_before_the_sum() -> None:
    x = layers()
    frames = featurizer(normalize=True)(Features(x, LENGTHS), SAMPLES)
    scaled = featurizer(normalize=True)(Features(tuple(9 * y + 3 for y in x), LENGTHS), SAMPLES)
    torch.testing.assert_close(frames.x, scaled.x, rtol=1e-3, atol=1e-4)


def test_s3prl_counts_frames_by_rounding_samples() -> None:
    x = layers()
    exact = featurizer()(Features(x, LENGTHS), SAMPLES)
    rounded = featurizer(lengths="s3prl")(Features(x, LENGTHS), SAMPLES)
    assert exact.lengths.tolist() == [49, 27]
    assert rounded.lengths.tolist() == [49, 28]  # 50 and 28.1 frames, of which 49 exist


@pytest.mark.parametrize("kwargs", [{}, {"layer": 2}, {"normalize": True}, {"lengths": "s3prl"}])
def test_layers_that_lie_together_give_the_same(kwargs: dict[str, Any]) -> None:
    together = torch.randn(4, 2, 49, 8)
    found = []
    for stacked in (None, together):
        module = featurizer(**kwargs)
        frames = module(Features(together.unbind(0), LENGTHS, stacked), SAMPLES)
        if module.logits is not None:
            (frames.x**2).sum().backward()
        found.append((frames, None if module.logits is None else module.logits.grad))
    (a, grad), (b, other) = found
    torch.testing.assert_close(a.x, b.x)
    assert a.lengths.tolist() == b.lengths.tolist()
    torch.testing.assert_close(grad, other)
