# SPDX-License-Identifier: Apache-2.0
"""The learning rate at the points that matter."""

import itertools

import pytest

from wavlm_lightning.training import Schedule

LINEAR = Schedule(name="linear")


@pytest.mark.parametrize(
    ("update", "share"),
    [(16_000, 0.5), (32_000, 1.0), (216_000, 0.5), (400_000, 0.0), (400_001, 0.0)],
)
def test_base_schedule_has_the_published_corners(update: int, share: float) -> None:
    assert LINEAR.factor(update, warmup=32_000, total=400_000) == pytest.approx(share)


@pytest.mark.parametrize("name", ["constant", "linear", "inverse_sqrt"])
def test_first_update_does_not_use_a_rate_of_zero(name: str) -> None:
    schedule = Schedule(name=name)
    rates = [schedule.factor(n, warmup=10, total=100) for n in (0, 1, 2)]
    assert rates == pytest.approx([0.1, 0.1, 0.2])


def test_last_update_does_not_use_a_rate_of_zero() -> None:
    assert LINEAR.factor(99, warmup=10, total=100) == pytest.approx(1 / 90)


def test_no_warmup_starts_near_the_peak() -> None:
    assert LINEAR.factor(0, warmup=0, total=100) == pytest.approx(0.99)


def test_inverse_square_root_meets_the_peak_and_is_half_of_it_four_times_later() -> None:
    schedule = Schedule(name="inverse_sqrt")
    rates = [schedule.factor(n, warmup=4000, total=10**6) for n in (4000, 16_000, 64_000)]
    assert rates == [1.0, 0.5, 0.25]
    assert schedule.factor(1, warmup=0, total=100) == 1.0


def test_tri_stage_rises_holds_and_falls_to_the_end() -> None:
    schedule = Schedule(name="tri_stage")
    rates = [schedule.factor(n, warmup=0, total=80_000) for n in range(0, 80_001, 100)]
    peak = rates.index(1.0)
    assert peak == 80
    assert rates[peak:401] == [1.0] * (401 - peak)
    assert all(a > b for a, b in itertools.pairwise(rates[401:]))
    assert rates[-1] == pytest.approx(0.05)


def test_tri_stage_without_a_fall_holds_to_the_end() -> None:
    schedule = Schedule(name="tri_stage", rise=0.2, hold=0.8, first=0.0)
    rates = [schedule.factor(n, warmup=0, total=10) for n in (0, 1, 2, 10)]
    assert rates == [0.0, 0.5, 1.0, 1.0]
