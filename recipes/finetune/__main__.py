# SPDX-License-Identifier: Apache-2.0
"""Fine-tune an encoder for a task: train, choose on dev, test.

python -m recipes.finetune ctc --config=configs/finetune/ctc_100h.yaml --init=CKPT [--key=value ...]
"""

import sys
from pathlib import Path
from typing import Any

from recipes.finetune.settings import TASKS, init_of, read_finetune_settings
from recipes.run.mini_model import is_missing
from recipes.run.processes import Processes
from recipes.run.program import run_program
from recipes.superb.sources import sources_of, tell_unusable
from wavlm_lightning.config import ConfigError
from wavlm_lightning.model.config import WavLMConfig


class Finetuning:
    """One task, encoder and head together."""

    program = "recipes.finetune"

    def __init__(self, argv: list[str]):
        if not argv or argv[0].startswith("--"):
            raise ConfigError(f"a task is wanted: {', '.join(TASKS)}")
        name, words = argv[0], argv[1:]
        # Keys are read with the shape that the mini model will have, if it is not there yet.
        start = WavLMConfig.mini() if is_missing(init_of(name, words)) else None
        self.settings = read_finetune_settings(name, words, start=start)

    @property
    def name(self) -> str:
        """Of the configuration."""
        return self.settings.run.name

    @property
    def starts_from(self) -> str | None:
        """The encoder."""
        return str(self.settings.source)

    def check(self) -> None:
        """Nothing more: reading the configuration has looked at it all."""

    def check_recordings(self) -> None:
        """Build the task."""
        self._task(Processes(0, 1, 1))

    def _task(self, processes: Processes) -> Any:
        settings, kind = self.settings, TASKS[self.settings.name]
        where = sources_of(
            settings.kind,
            settings.paths,
            settings.data,
            corpus=kind.corpus,
            processes=processes,
        )
        with processes.first_before_others():  # what it reads of recordings, they are told
            task = kind(settings.task, where, seed=settings.seed)
        if processes.first:
            tell_unusable(where)
        return task

    def prepare(self, processes: Processes) -> None:
        """Find the recordings."""
        self.task = self._task(processes)

    def run(self, folder: Path, processes: Processes, *, started: float) -> None:
        """Train and test, and write the result."""
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from recipes.finetune.training import run

        run(self.settings, self.task, folder, processes, started=started)


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return run_program(Finetuning, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
