# SPDX-License-Identifier: Apache-2.0
"""Masked prediction: against the stacked form of the loss, by hand, and summed over batches."""

import math

import pytest
import torch
from torch import Tensor

from wavlm_lightning.pretrain.objective import (
    MaskedLoss,
    MaskedPrediction,
    ObjectiveConfig,
    feature_penalty,
    frames_to_predict,
)

DIM = 24
TAU = 0.07  # not the published one, which anything may have by default


def make_head(
    clusters: tuple[int, ...] = (50,), *, dim: int = DIM, projection: int = 16, special: int = 0
) -> MaskedPrediction:
    torch.manual_seed(0)
    config = ObjectiveConfig(
        projection_dim=projection, temperature=TAU, feature_penalty=10.0, special_classes=special
    )
    return MaskedPrediction(dim, clusters, config)


def make_batch(clusters: tuple[int, ...] = (50,), *, dim: int = DIM) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    hidden = torch.randn(3, 20, dim)
    labels = torch.stack([torch.randint(c, (3, 20)) for c in clusters], -1)
    return hidden, labels, torch.rand(3, 20) < 0.5


def predict(head: MaskedPrediction, hidden: Tensor, labels: Tensor, masked: Tensor) -> MaskedLoss:
    found: MaskedLoss = head(hidden, labels, frames_to_predict(labels, masked))
    return found


def stacked_loss(head: MaskedPrediction, hidden: Tensor, labels: Tensor, masked: Tensor) -> Tensor:
    """The released form: the positive beside all classes, its double among them at -inf."""
    x = head.projection(hidden[masked])  # (N, P)
    targets = labels[masked][:, 0]
    candidates = torch.cat(
        [head.classes[targets][None], head.classes[:, None].expand(-1, *x.shape)]
    )
    logits = torch.cosine_similarity(x[None], candidates, dim=-1) / TAU  # (1 + C, N)
    double = torch.arange(len(head.classes))[:, None] == targets
    logits = torch.cat([logits[:1], logits[1:].masked_fill(double, -torch.inf)]).T
    first = torch.zeros(len(x), dtype=torch.int64)
    return torch.nn.functional.cross_entropy(logits, first, reduction="sum")


def test_loss_matches_the_stacked_form() -> None:
    head, batch = make_head(), make_batch()
    ours, theirs = predict(head, *batch), stacked_loss(head, *batch)
    torch.testing.assert_close(ours.loss / ours.frames, theirs / ours.frames, rtol=0, atol=1e-6)


def test_gradients_match_the_stacked_form() -> None:
    head, (hidden, labels, masked) = make_head(), make_batch()
    hidden.requires_grad_()
    inputs = [hidden, *head.parameters()]
    count = int(masked.sum())
    ours = torch.autograd.grad(predict(head, hidden, labels, masked).loss / count, inputs)
    theirs = torch.autograd.grad(stacked_loss(head, hidden, labels, masked) / count, inputs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_initial_loss_is_near_that_of_chance() -> None:
    head = make_head((500,), dim=768, projection=256, special=4)
    hidden, labels, masked = make_batch((500,), dim=768)
    out = predict(head, hidden, labels, masked)
    assert abs(float(out.loss.detach() / out.frames) - math.log(504)) < 0.3


def test_code_vectors_start_uniform_between_zero_and_one() -> None:
    classes = make_head((500,), projection=256).classes.detach()
    assert 0 <= float(classes.min()) < 0.01
    assert 0.99 < float(classes.max()) < 1
    torch.testing.assert_close(classes.mean(), torch.tensor(0.5), rtol=0, atol=0.01)


def test_special_classes_shift_labels() -> None:
    shifted, plain = make_head((50,), special=4), make_head((54,))
    plain.load_state_dict(shifted.state_dict())
    hidden, labels, masked = make_batch()
    torch.testing.assert_close(
        predict(shifted, hidden, labels, masked), predict(plain, hidden, labels + 4, masked)
    )


def test_visible_frames_do_not_count() -> None:
    head, (hidden, labels, masked) = make_head(), make_batch()
    changed = torch.where(masked[..., None], hidden, torch.randn_like(hidden))
    torch.testing.assert_close(
        predict(head, hidden, labels, masked), predict(head, changed, labels, masked)
    )


def test_frames_without_a_label_do_not_count() -> None:
    head, (hidden, labels, masked) = make_head(), make_batch()
    labels[:, 15:] = -1
    shorter = masked.clone()
    shorter[:, 15:] = False
    torch.testing.assert_close(
        predict(head, hidden, labels, masked), predict(head, hidden, labels.clamp(min=0), shorter)
    )


def test_no_hidden_frame_gives_zero_with_a_gradient() -> None:
    head, (hidden, labels, masked) = make_head(), make_batch()
    out = predict(head, hidden, labels, torch.zeros_like(masked))
    out.loss.backward()
    assert (float(out.loss.detach()), int(out.frames)) == (0.0, 0)
    assert float(head.classes.grad.abs().sum()) == 0.0


def test_two_label_sets_add_their_losses() -> None:
    both = make_head((50, 30))
    hidden, labels, masked = make_batch((50, 30))
    total = torch.zeros(())
    for i, (clusters, rows) in enumerate([(50, slice(0, 50)), (30, slice(50, 80))]):
        one = make_head((clusters,))
        part = slice(16 * i, 16 * i + 16)
        one.load_state_dict(
            {
                "projection.weight": both.projection.weight[part],
                "projection.bias": both.projection.bias[part],
                "classes": both.classes[rows],
            }
        )
        total = total + predict(one, hidden, labels[..., i : i + 1], masked).loss
    torch.testing.assert_close(predict(both, hidden, labels, masked).loss, total)


def test_correct_counts_frames_whose_nearest_code_is_the_label() -> None:
    head = make_head((3,), dim=3, projection=3)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(3))
        head.projection.bias.zero_()
        head.classes.copy_(torch.eye(3))
    hidden = torch.eye(3)[[0, 1, 2, 2]][None]
    labels = torch.tensor([0, 1, 2, 0])[None, :, None]
    out = predict(head, hidden, labels, torch.ones(1, 4, dtype=torch.bool))
    assert (int(out.correct), int(out.frames)) == (3, 4)


def test_perfect_frames_have_the_loss_of_orthogonal_codes() -> None:
    head = make_head((504,), dim=504, projection=504)
    with torch.no_grad():
        head.projection.weight.copy_(torch.eye(504))
        head.projection.bias.zero_()
        head.classes.copy_(torch.eye(504))
    labels = torch.arange(504)[None, :, None]
    out = predict(head, torch.eye(504)[None], labels, torch.ones(1, 504, dtype=torch.bool))
    wanted = torch.tensor(math.log1p(503 * math.exp(-1 / TAU)))  # 0.0003 nats
    torch.testing.assert_close(out.loss / out.frames, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("dim", "projection", "parameters"),
    [(768, 256, [196_864, 129_024]), (1024, 768, [787_200, 387_072])],
)
def test_head_has_the_released_parameter_counts(
    dim: int, projection: int, parameters: list[int]
) -> None:
    head = make_head((500,), dim=dim, projection=projection, special=4)
    counts = [sum(p.numel() for p in head.projection.parameters()), head.classes.numel()]
    assert counts == parameters


def test_half_batches_over_the_total_count_are_one_batch() -> None:
    head, (hidden, labels, masked) = make_head(), make_batch()
    masked[0], masked[1:, ::4] = True, False  # unequal: the halves hide 20 and fewer frames
    whole = predict(head, hidden, labels, masked)
    wanted = torch.autograd.grad(whole.loss / whole.frames, list(head.parameters()))
    parts = [predict(head, hidden[p], labels[p], masked[p]) for p in (slice(0, 1), slice(1, 3))]
    assert int(parts[0].frames) != int(parts[1].frames)
    grads = [torch.autograd.grad(p.loss, list(head.parameters())) for p in parts]
    count = parts[0].frames + parts[1].frames
    summed = tuple((a + b) / count for a, b in zip(*grads, strict=True))
    torch.testing.assert_close(summed, wanted, rtol=1e-5, atol=1e-6)


def test_feature_penalty_is_the_mean_square_in_float32() -> None:
    features = torch.tensor([[[3.0, 4.0], [0.0, 300.0]]], dtype=torch.float16)
    torch.testing.assert_close(feature_penalty(features), torch.tensor((9 + 16 + 90_000) / 4))
