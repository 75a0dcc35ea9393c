# SPDX-License-Identifier: Apache-2.0
"""Which heads train side by side: learning rates, seeds, and the rate that is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal, NamedTuple

from wavlm_lightning.config import ConfigError
from wavlm_lightning.fields import Checked, number, seed

# SUPERB searches the learning rate alone, on a log scale from 1e-1 to 1e-7 (s3prl, issue 498).
SWEEP = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


@dataclass(frozen=True, kw_only=True)
class HeadsSection(Checked):
    """Heads that train side by side on one pass of the upstream, each as if it were alone.

    Args:
        lr: learning rates in place of optim.lr, or sweep for 1e-1, 1e-2, ... 1e-7 and then, in a
            second training, the two rates halfway from the best one to its neighbours. The one with
            the best figure on dev is chosen.
        seed: of first weights, dropout and masks, in place of seed; order and crops are shared.
    """

    lr: list[float] | Literal["sweep"] | None = number(0, 1000, above=True, default=None)
    seed: list[int] | None = seed(default=None)


class Head(NamedTuple):
    """One of them."""

    name: str  # of its folder and its curves; "" if it is alone
    lr: float
    seed: int


def between(rate: float) -> list[float]:
    """Rates halfway, on a log scale, from one of a sweep to its neighbours in it.

    >>> between(1e-1), between(1e-3)
    ([0.0316], [0.000316, 0.00316])
    """
    ends = min(SWEEP), max(SWEEP)
    found = [float(f"{rate * factor:.3g}") for factor in (10**-0.5, 10**0.5)]
    return [new for new in found if ends[0] < new < ends[1]]


def heads_of(section: HeadsSection, *, lr: float, seed: int) -> list[Head]:
    """All combinations.

    Args:
        section: what is wanted.
        lr: where no list says another.
        seed: likewise.

    Raises:
        ConfigError: for an empty list, or a value that stands in it twice.
    """
    rates = list(SWEEP) if section.lr == "sweep" else section.lr
    for key, values in (("lr", rates), ("seed", section.seed)):
        if values is not None and len(set(values)) < len(values):
            raise ConfigError(f"heads.{key} must hold different values (got {values})")
    heads = []
    for own_lr in [lr] if rates is None else rates:
        for own_seed in [seed] if section.seed is None else section.seed:
            words = [] if rates is None else [f"lr{own_lr:g}"]
            words += [] if section.seed is None else [f"seed{own_seed}"]
            heads.append(Head("-".join(words), own_lr, own_seed))
    return heads


def best_rate(
    heads: Sequence[Head], values: Mapping[str, Sequence[float]], *, mode: str
) -> float | None:
    """The learning rate with the best mean figure; the first of equals, None if none is left.

    Args:
        heads: all of them.
        values: figures on dev by head; a head without any takes its rate out of the choice.
        mode: "min" or "max".
    """
    rates: dict[float, list[float]] = {}
    out = {head.lr for head in heads if not values.get(head.name)}
    for head in heads:
        if head.lr not in out:
            rates.setdefault(head.lr, []).extend(values[head.name])
    if not rates:
        return None
    best_of = min if mode == "min" else max
    return best_of(rates, key=lambda rate: mean(rates[rate]))
