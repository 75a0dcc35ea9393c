# SPDX-License-Identifier: Apache-2.0
"""The x-vector: published sizes, frames lost, statistics as NumPy has them, padding."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.xvector import LOST, XVector, statistics

LENGTHS = [40, 16, 23]


def padded(lengths: list[int], dim: int) -> Frames:
    x = nn.utils.rnn.pad_sequence([torch.randn(n, dim) for n in lengths], batch_first=True)
    return Frames(x, torch.tensor(lengths))


def make_head() -> XVector:
    return XVector(24, width=16, num_classes=7)


@pytest.mark.parametrize(
    ("dim", "parameters"), [(768, 6_110_172), (1024, 6_241_244), (240, 5_839_836)]
)
def test_head_has_the_published_parameter_count_beside_the_classes(
    dim: int, parameters: int
) -> None:
    head = XVector(dim, width=512, num_classes=1211)
    assert sum(p.numel() for p in head.parameters()) - head.classes.numel() == parameters


def test_class_vectors_have_the_published_parameter_count() -> None:
    assert XVector(1, width=512, num_classes=1211).classes.numel() == 620_032


def test_layers_lose_exactly_fourteen_frames() -> None:
    x = torch.randn(1, 16, 40)
    for layer in make_head().layers:
        x = layer(x)
    assert (x.shape[2], LOST) == (40 - 14, 14)


def test_layers_are_linear_maps_of_unfolded_frames() -> None:
    layer, x = make_head().layers[1], torch.randn(1, 16, 20)  # three frames, two apart
    seen = torch.cat([x[0, :, i : i + 16] for i in (0, 2, 4)])  # (3 D, F)
    weight = layer.weight.transpose(1, 2).flatten(1)
    torch.testing.assert_close(layer(x)[0], weight @ seen + layer.bias[:, None])


def test_statistics_are_numpys_mean_and_unbiased_deviation() -> None:
    frames = padded(LENGTHS, 5)
    ours = statistics(frames.x.transpose(1, 2), frames.lengths)
    wanted = [
        np.concatenate([x[:n].mean(0), x[:n].std(0, ddof=1)])
        for x, n in zip(frames.x.double().numpy(), LENGTHS, strict=True)
    ]
    torch.testing.assert_close(ours.double(), torch.from_numpy(np.stack(wanted)), rtol=0, atol=1e-5)


def test_statistics_of_what_never_changes_have_a_gradient() -> None:
    x = torch.zeros(1, 3, 9, requires_grad=True)
    statistics(x, torch.tensor([9])).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


@pytest.mark.parametrize("output", ["embedding", "cosines"])
def test_padding_does_not_change_the_output(output: str) -> None:
    head, frames = make_head(), padded(LENGTHS, 24)
    alone = [
        getattr(head(Frames(x[None, :n], torch.tensor([n]))), output)
        for x, n in zip(*frames, strict=True)
    ]
    torch.testing.assert_close(getattr(head(frames), output), torch.cat(alone), rtol=0, atol=1e-5)


def test_cosines_are_those_of_the_second_layer_with_the_classes() -> None:
    head, frames = make_head(), padded(LENGTHS, 24)
    out = head(frames)
    vectors = F.relu(head.output(out.embedding))
    wanted = F.cosine_similarity(vectors[:, :, None], head.classes[None], dim=1)
    torch.testing.assert_close(out.cosines, wanted, rtol=0, atol=1e-6)


def test_embedding_is_that_of_the_first_layer_after_its_relu() -> None:
    head, frames = make_head(), padded([20], 24)
    x = head.projection(frames.x).transpose(1, 2)
    for layer in head.layers:
        x = layer(x).relu()
    pooled = torch.cat([x.mean(2), x.std(2)], dim=1)
    wanted = head.embedding(pooled).relu()
    torch.testing.assert_close(head(frames).embedding, wanted, rtol=0, atol=1e-5)


def test_utterance_with_one_frame_after_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="an utterance of 15 frames: the x-vector needs 16"):
        make_head()(padded([40, 15], 24))


def test_utterance_with_two_frames_after_the_context_is_embedded() -> None:
    assert bool(torch.isfinite(make_head()(padded([16], 24)).embedding).all())


def test_first_weights_as_published_leave_little_between_utterances_and_he_keeps_it() -> None:
    """Which is why a short training learns sooner from the latter."""
    alike = {}
    for init in ("torch", "he"):
        torch.manual_seed(0)
        head = XVector(24, width=64, num_classes=7, init=init).eval()
        x = torch.randn(8, 1, 24) + 0.5 * torch.randn(8, 40, 24)  # each row has its own mean
        vectors = F.normalize(head(Frames(x, torch.full((8,), 40))).embedding, dim=1)
        cosines = vectors @ vectors.T
        alike[init] = float((cosines.sum() - 8) / 56)
    assert alike["torch"] > 0.99
    assert alike["he"] < 0.97
