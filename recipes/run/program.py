# SPDX-License-Identifier: Apache-2.0
"""From the command line to the folder of a run: what every program that trains does first."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.recipes.run.devices import set_tf32
from wavlm_lightning.recipes.run.exit_status import end_with_reader, exit_status
from wavlm_lightning.recipes.run.explain import HELP, PRINT, help_text
from wavlm_lightning.recipes.run.folder import running
from wavlm_lightning.recipes.run.logger_checks import check_loggers
from wavlm_lightning.recipes.run.mini_model import is_missing, train_mini
from wavlm_lightning.recipes.run.processes import Processes, join, start_all, wanted_devices
from wavlm_lightning.recipes.run.sections import TrainerSection, WandbSection


class RunOptions(Protocol):
    """Section `run` of any program."""

    @property
    def dir(self) -> str:
        """Folder of all runs."""

    @property
    def resume(self) -> bool:
        """Whether an unfinished run with the same configuration is continued."""


class RunSettings(Protocol):
    """What a configuration says of a run, whatever is trained."""

    @property
    def values(self) -> dict[str, Any]:
        """All keys, plain and nested."""

    @property
    def run(self) -> RunOptions:
        """Where a run writes."""

    @property
    def trainer(self) -> TrainerSection:
        """Devices and precision."""

    @property
    def wandb(self) -> WandbSection:
        """Weights & Biases."""

    @property
    def tensorboard(self) -> bool:
        """Whether TensorBoard gets the figures too."""


class Job(Protocol):
    """One program's work, with its configuration read.

    Its methods are called in the order in which they stand here; what can be found wrong without
    training is raised as early as it is known.
    """

    program: str  # module that further processes run

    @property
    def settings(self) -> RunSettings:
        """The configuration."""

    @property
    def name(self) -> str:
        """Folder of its runs, below `run.dir`."""

    @property
    def starts_from(self) -> str | None:
        """A checkpoint that it needs."""

    def config(self) -> str:
        """What it would take, a key a line."""

    def check(self) -> None:
        """Find what is wrong with keys, files and folders; costs nothing."""

    def check_recordings(self) -> None:
        """Read the recordings as the run will, before a model is trained for it."""

    def prepare(self, processes: Processes) -> None:
        """Load what the run needs; `settings` have hashes of what was loaded from here on."""

    def run(self, folder: Path, processes: Processes, *, started: float) -> None:
        """Train and evaluate in `folder`, or go on there.

        Args:
            folder: Of the run.
            processes: All of them call this.
            started: `time.perf_counter` at the start of the program.
        """


def run_program(
    read: Callable[[list[str]], Job],
    argv: list[str],
    *,
    about: str,
    keys: Callable[[list[str]], tuple[Parser, Stack]],
) -> int:
    """Run a job, in as many processes as its configuration says, or show what it would take.

    Args:
        read: Makes the job from the arguments of the command line.
        argv: These arguments; with `--help` keys are explained, with `--print_config` shown.
        about: Docstring of the program.
        keys: Gives the keys of the program, and what the arguments say of them.

    Returns:
        The exit status: 0 done, 1 an error that the last line explains, 143 stopped.
    """
    if HELP in argv:
        arguments = [word for word in argv if word != HELP]
        return exit_status(lambda: _show(_help(about, keys, arguments)))
    if PRINT in argv:
        arguments = [word for word in argv if word != PRINT]
        return exit_status(lambda: _show(read(arguments).config()))
    return exit_status(lambda: run_job(read, argv).status)


def _help(
    about: str, keys: Callable[[list[str]], tuple[Parser, Stack]], arguments: list[str]
) -> str:
    """What the program does; its keys too, where the arguments say enough to know them."""
    try:
        return help_text(about, *keys(arguments))
    except ConfigError as error:
        return f"{about.strip()}\n\n{error}"


def _show(text: str) -> int:
    end_with_reader()
    print(text)
    return 0


class Ended(NamedTuple):
    """How a job ended, and where."""

    status: int
    folder: Path | None  # of the run; None if other processes did it


def run_job(read: Callable[[list[str]], Job], argv: list[str]) -> Ended:
    """The same without a shell around it: errors are raised.

    Args:
        read: Makes the job from the arguments of the command line.
        argv: These arguments.
    """
    started = time.perf_counter()
    job = read(argv)
    job.check()
    settings = job.settings
    check_loggers(settings.wandb, tensorboard=settings.tensorboard)
    # The mini model is made on first use, in minutes: what is wrong with the recordings is said
    # before.
    if is_missing(job.starts_from):
        job.check_recordings()
        train_mini()
        job = read(argv)
    count = wanted_devices(settings.trainer)
    set_tf32(settings.trainer)  # before anything is computed
    # In the process that starts others this returns their status; in each of those, None.
    status = start_all(job.program, argv, count=count)
    if status is not None:
        return Ended(status, None)
    processes = join()
    job.prepare(processes)
    parent, resume = Path(settings.run.dir) / job.name, settings.run.resume
    with running(parent, job.settings.values, resume=resume, processes=processes) as folder:
        job.run(folder, processes, started=started)
    processes.leave()
    return Ended(0, folder)
