# SPDX-License-Identifier: Apache-2.0
"""Numbers of a configuration are refused by key, limits and value."""

import math
from dataclasses import dataclass

import pytest

from wavlm_lightning.fields import Checked, check_values, number, whole


@dataclass(frozen=True, kw_only=True)
class Inner(Checked):
    share: float = number(0, 1, below=True)


@dataclass(frozen=True, kw_only=True)
class Outer(Checked):
    lr: float = number(0, 10, above=True)
    betas: tuple[float, float] = number(0, 1, below=True, default=(0.9, 0.99))
    most: int | None = whole(1, default=None)
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"lr": 0.0}, r"optim\.lr must be above 0 and at most 10 \(got 0\.0\)"),
        ({"lr": math.nan}, r"optim\.lr must be"),
        ({"lr": math.inf}, r"optim\.lr must be"),
        ({"lr": 1.0, "betas": (0.9, 1.0)}, r"optim\.betas must be at least 0 and below 1"),
        (
            {"lr": 1.0, "most": 0},
            r"optim\.most must be at least 1 and at most 10{9} \(got 0\)",
        ),
        ({"lr": 1.0, "most": math.inf}, r"optim\.most must be a whole number or null \(got inf\)"),
        ({"lr": 1.0, "inner": {"share": 1.0}}, r"optim\.inner\.share must be"),
    ],
)
def test_a_number_out_of_range_is_named(values: dict[str, object], wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        check_values(Outer, values, "optim")


def test_an_object_made_in_python_checks_itself() -> None:
    with pytest.raises(ValueError, match="lr must be above 0"):
        Outer(lr=-1.0)
    with pytest.raises(ValueError, match="share must be"):
        Inner(share=2.0)
    assert Outer(lr=10.0, most=None, inner=Inner(share=0.0)).lr == 10.0
