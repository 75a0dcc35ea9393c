# SPDX-License-Identifier: Apache-2.0
"""One process or many: who I am, waiting for the others, and starting them.

All ways to many processes lead through torchrun's variables RANK and WORLD_SIZE: a user's own
call, a cluster's, or our start of torchrun's launcher when `trainer.devices` says more than one.
"""

import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.run.devices import device_of
from wavlm_lightning.recipes.run.sections import TrainerSection
from wavlm_lightning.recipes.run.signals import STOPPED

T = TypeVar("T")
# The first process alone reads recordings and fits the codebook while the others wait.
PATIENCE = timedelta(days=7)
STARTED_BY = "WAVLM_STARTED_BY"  # environment: the process of ours that a process belongs to
LOOK_SECONDS = 0.5  # from one look at that process to the next
GRACE_SECONDS = 300.0  # for saving, once it is gone


@dataclass(frozen=True)
class Processes:
    """This process among `world`, of which `local` are on this machine."""

    rank: int
    world: int
    local: int

    @property
    def first(self) -> bool:
        """True in the one process that writes and prints."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            dist.barrier()

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process alone, then all others: what it keeps on disk they find there."""
        if not self.first:
            self.barrier()
        yield
        if self.first:
            self.barrier()

    def from_first(self, value: T) -> T:
        """The value that the first process has."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def leave(self) -> None:
        """Part from the others, all at once.

        Threads of a group that is still open when Python ends abort the process now and then.
        """
        if self.world > 1 and dist.is_initialized():
            dist.barrier()
            dist.destroy_process_group()

    def from_all(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found


def join() -> Processes:
    """Join the other processes of a torchrun; alone without one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return Processes(0, 1, 1)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]))


def wanted_devices(trainer: TrainerSection) -> int:
    """Processes on this machine for `trainer.devices`: a number; "auto" or -1 for all GPUs.

    Raises:
        ConfigError: for anything else.
    """
    devices = trainer.devices
    if str(devices) in ("auto", "-1"):
        return 1 if device_of(trainer) == "cpu" else max(torch.cuda.device_count(), 1)
    if not str(devices).isdecimal() or int(str(devices)) < 1:
        raise ConfigError(
            f"trainer.devices must be a number of processes or auto (got {devices}); choose among "
            "GPUs with CUDA_VISIBLE_DEVICES"
        )
    return int(str(devices))


def start_all(module: str, argv: list[str], *, count: int) -> int | None:
    """Run a module in `count` processes and return its exit status; None if this is one of them.

    What goes wrong is said by the processes themselves; torchrun's own report would bury it.
    """
    if count == 1 or "RANK" in os.environ:
        return None
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    _silence("torch.distributed.elastic")
    os.environ[STARTED_BY] = str(os.getpid())
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    sys.stdout.flush()
    try:
        elastic_launch(config, sys.executable)("-m", module, *argv)
    except ChildFailedError as failed:
        return _told_failure(failed.failures)
    except SignalException:
        return STOPPED
    finally:
        del os.environ[STARTED_BY]
    return 0


def _silence(name: str) -> None:
    """Loggers of this name and below: each of torch's has a level of its own."""
    for own in (name, *logging.root.manager.loggerDict):
        if own.startswith(name):
            logging.getLogger(own).setLevel(logging.CRITICAL)


def _told_failure(failures: dict[int, Any]) -> int:
    """Exit status of a launch that failed; a process that was killed has said nothing itself."""
    codes = {rank: int(failure.exitcode) for rank, failure in failures.items()}
    killed = {rank: code for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM}
    for rank, code in killed.items():
        name = signal.Signals(-code).name
        why = ", as systems do when memory is short" if code == -signal.SIGKILL else ""
        print(
            f"error: process {rank} was killed ({name}{why}); the same command goes on from the "
            "last checkpoint",
            file=sys.stderr,
            flush=True,
        )
    return 1 if killed else next(iter(codes.values()))


def end_with_starter() -> None:
    """End with the process of ours that started this one, if one did: nobody else would know of it.

    It gets SIGTERM, upon which a training saves; if that cannot be (it may wait for another process
    that is gone too), it is killed after some minutes.
    """
    starter = os.environ.pop(STARTED_BY, None)
    if starter is None:
        return

    def watch() -> None:
        while os.getppid() == int(starter):
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
