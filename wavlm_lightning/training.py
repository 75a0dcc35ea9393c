# SPDX-License-Identifier: Apache-2.0
"""What all trainings share: the course of the learning rate, parameters that rest, losses."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from wavlm_lightning.fields import Checked, number


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite; the message says in which update, for which utterances."""


@dataclass(frozen=True, kw_only=True)
class Schedule(Checked):
    """One of four courses, the same for pre-training, for heads and for fine-tuning.

    Args:
        name: constant; linear: warm-up, then a straight fall to zero (fairseq 3d262bb, polynomial
            decay of power 1); inverse_sqrt: warm-up, then the inverse square root of the update
            (Vaswani et al. 2017); tri_stage: a straight rise, the peak, an exponential fall
            (fairseq 3d262bb). The first three rise from zero over `optim.warmup_updates`.
        rise: Share of the updates over which tri_stage rises.
        hold: Share of the updates for which tri_stage stays at the peak; the rest is the fall.
        first: Share of the peak that tri_stage begins with.
        last: Share of the peak that tri_stage ends with.
    """

    name: Literal["constant", "linear", "inverse_sqrt", "tri_stage"] = "constant"
    rise: float = number(0, 1, default=0.1)
    hold: float = number(0, 1, default=0.4)
    first: float = number(0, 1, default=0.01)
    last: float = number(0, 1, above=True, default=0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rise + self.hold > 1:
            raise ValueError(
                f"optim.schedule.rise={self.rise:g} and optim.schedule.hold={self.hold:g} are "
                "more than all updates together"
            )

    def factor(self, update: int, *, warmup: int, total: int) -> float:
        """Share of the peak for the update after `update` of `total` updates.

        A warm-up does not begin at zero: the first update takes the second's rate.

        Args:
            update: Updates that are done.
            warmup: Updates of the rise, for all but tri_stage.
            total: Updates of the training.

        >>> def shares(name, *updates):
        ...     schedule = Schedule(name=name)
        ...     return [round(schedule.factor(n, warmup=10, total=110), 3) for n in updates]
        >>> shares("linear", 0, 1, 5, 10, 60, 110)
        [0.1, 0.1, 0.5, 1.0, 0.5, 0.0]
        >>> shares("inverse_sqrt", 0, 5, 10, 40, 90)
        [0.1, 0.5, 1.0, 0.5, 0.333]
        >>> shares("constant", 0, 5, 10, 110)
        [0.1, 0.5, 1.0, 1.0]
        """
        if self.name == "tri_stage":
            return self._tri_stage(update / total)
        update = max(update, 1)
        if update < warmup:
            return update / warmup
        if self.name == "linear":
            return max(0.0, (total - update) / max(total - warmup, 1))
        if self.name == "inverse_sqrt":
            return (max(warmup, 1) / update) ** 0.5
        return 1.0

    def _tri_stage(self, done: float) -> float:
        """Factor of the peak rate by the share of updates that is done.

        >>> schedule = Schedule(name="tri_stage")
        >>> [round(schedule._tri_stage(n / 100), 4) for n in (0, 5, 10, 50, 75, 100)]
        [0.01, 0.505, 1.0, 1.0, 0.2236, 0.05]
        """
        if done < self.rise:
            return self.first + (1 - self.first) * done / self.rise
        if done <= self.rise + self.hold:
            return 1.0
        fall = 1 - self.rise - self.hold
        return float(self.last ** (min(done - self.rise - self.hold, fall) / fall))


class Paced(Protocol):
    """What any section `optim` says of the course."""

    @property
    def schedule(self) -> Schedule:
        """Its form."""

    @property
    def warmup_updates(self) -> int:
        """Updates of the rise."""

    @property
    def total_updates(self) -> int:
        """Updates of the training."""


def scheduled(optimizer: torch.optim.Optimizer, optim: Paced) -> dict[str, Any]:
    """What `configure_optimizers` returns: every group of the optimizer follows one course."""

    def factor(update: int) -> float:
        return optim.schedule.factor(update, warmup=optim.warmup_updates, total=optim.total_updates)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def zero_loss(parameters: Iterable[Tensor]) -> Tensor:
    """Zero, with a zero gradient for every parameter, whatever these hold.

    Distributed training waits for a gradient of each.

    >>> weights = torch.full((3,), float("nan"), requires_grad=True)
    >>> zero_loss([weights]).backward()
    >>> weights.grad
    tensor([0., 0., 0.])
    """
    return torch.stack([p.flatten()[:0].sum() for p in parameters]).sum()
