# SPDX-License-Identifier: Apache-2.0
"""The learning rate of a fine-tuning: rise, hold, fall."""

from dataclasses import dataclass

from wavlm_lightning.fields import Checked, number


@dataclass(frozen=True, kw_only=True)
class TriStage(Checked):
    """Linear rise to the peak, the peak, exponential fall (fairseq 3d262bb, tri_stage).

    Args:
        rise: share of the updates.
        hold: share of the updates; the rest is the fall.
        first: share of the peak that it begins with.
        last: share of the peak that it ends with.
    """

    rise: float = number(0, 1)
    hold: float = number(0, 1)
    first: float = number(0, 1)
    last: float = number(0, 1, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rise + self.hold > 1:
            raise ValueError(
                f"optim.schedule.rise={self.rise:g} and optim.schedule.hold={self.hold:g} are "
                "more than all updates together"
            )

    def __call__(self, update: int, total: int) -> float:
        """Share of the peak rate after `update` of `total` updates.

        >>> stages = TriStage(rise=0.1, hold=0.4, first=0.01, last=0.05)
        >>> [round(stages(n, 100), 4) for n in (0, 5, 10, 50, 75, 100)]
        [0.01, 0.505, 1.0, 1.0, 0.2236, 0.05]
        """
        done = update / total
        if done < self.rise:
            return self.first + (1 - self.first) * done / self.rise
        if done <= self.rise + self.hold:
            return 1.0
        fall = 1 - self.rise - self.hold
        return float(self.last ** (min(done - self.rise - self.hold, fall) / fall))
