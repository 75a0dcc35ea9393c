# SPDX-License-Identifier: Apache-2.0
"""One process or many: who I am, waiting for the others, and starting them.

All ways to many processes lead through torchrun, which sets RANK and WORLD_SIZE: a person's own
call, a cluster's, or ours when `trainer.devices` says more than one.
"""

import os
import sys
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among `world`."""

    rank: int
    world: int

    @property
    def first(self) -> bool:
        """True in the one process that writes and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier()

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def join() -> Processes:
    """Join the other processes of a torchrun; alone without one."""
    if "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return Processes(0, 1)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size())


def wanted_devices(devices: int | str) -> int:
    """Processes on this machine for `trainer.devices`: a number, or "auto" for all GPUs."""
    if devices == "auto":
        return max(torch.cuda.device_count(), 1)
    return int(devices)


def start_others(module: str, argv: list[str], *, devices: int | str) -> None:
    """Replace this process by a torchrun of `devices` processes, if more than one is wanted."""
    count = wanted_devices(devices)
    if count == 1 or "RANK" in os.environ:
        return
    run = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *run, "-m", module, *argv])
