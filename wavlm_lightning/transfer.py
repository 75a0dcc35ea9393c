# SPDX-License-Identifier: Apache-2.0
"""Batches on their way to a device."""

from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

BatchT = TypeVar("BatchT", bound=NamedTuple)
# Read by Python to size and to count things: on a device, each reading would wait for all its work.
ON_THE_HOST = ("lengths",)


def to_device(batch: BatchT, device: torch.device) -> BatchT:
    """The batch with its tensors on the device, but for those that the host reads."""
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name, value in batch._asdict().items()
        if isinstance(value, Tensor) and name not in ON_THE_HOST
    }
    return batch._replace(**moved)
