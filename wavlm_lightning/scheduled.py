# SPDX-License-Identifier: Apache-2.0
"""An optimizer and its learning rate's course, in the form that Lightning takes."""

from typing import Any, Protocol

import torch

from wavlm_lightning.schedule import Schedule


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
