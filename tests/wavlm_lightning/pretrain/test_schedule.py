# SPDX-License-Identifier: Apache-2.0
"""The learning rate at the points that matter."""

import pytest

from wavlm_lightning.pretrain.schedule import rate_for_update, warmup_linear


@pytest.mark.parametrize(
    ("update", "share"),
    [(0, 0.0), (16_000, 0.5), (32_000, 1.0), (216_000, 0.5), (400_000, 0.0), (400_001, 0.0)],
)
def test_base_schedule_has_the_published_corners(update: int, share: float) -> None:
    assert warmup_linear(update, warmup=32_000, total=400_000) == pytest.approx(share)


def test_first_update_does_not_use_a_rate_of_zero() -> None:
    assert rate_for_update(0, warmup=10, total=100) == pytest.approx(0.1)


def test_last_update_does_not_use_a_rate_of_zero() -> None:
    assert rate_for_update(99, warmup=10, total=100) == pytest.approx(1 / 90)


def test_every_later_update_uses_the_schedule() -> None:
    rates = [rate_for_update(n, warmup=10, total=100) for n in range(1, 100)]
    assert rates == [warmup_linear(n, warmup=10, total=100) for n in range(1, 100)]


def test_no_warmup_starts_near_the_peak() -> None:
    assert rate_for_update(0, warmup=0, total=100) == pytest.approx(0.99)
