# SPDX-License-Identifier: Apache-2.0
"""Train WavLM: recordings, labels, one or more iterations, and a table of what came out.

wavlm pretrain --config=configs/pretrain/mini.yaml [--key=value ...]
"""

import sys
from pathlib import Path

from wavlm_lightning.recipes.pretrain.recordings import check_roots
from wavlm_lightning.recipes.pretrain.settings import check_chain, keys_of, read_chain
from wavlm_lightning.recipes.run.explain import config_text
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.program import run_program


class Pretraining:
    """All iterations of a pre-training."""

    program = "wavlm_lightning.recipes.pretrain"
    starts_from = None  # the mini model is what this program makes

    def __init__(self, argv: list[str]):
        *earlier, self.settings = read_chain(argv)
        labels = self.settings.labels
        if labels.folders or labels.teacher or self.settings.init:
            earlier = []  # what they would have made is there
        self.chain = [*earlier, self.settings]

    @property
    def name(self) -> str:
        """Name of the configuration."""
        return self.settings.run.name

    def config(self) -> str:
        """Configuration of the last iteration; those before it are in its key `iterations`."""
        return config_text(self.settings.values, self.settings.sources)

    def check(self) -> None:
        """Look at labels, teachers and folders of every iteration."""
        check_chain(self.chain)
        for number, stage in enumerate(self.chain, start=1):
            last = stage is self.settings
            check_roots(stage, of="" if last else f"iterations, item {number}: ")

    def check_recordings(self) -> None:
        """Nothing more: they are listed when the run begins."""

    def prepare(self, processes: Processes) -> None:
        """Nothing: a run makes or finds what it needs in its folder."""

    def run(self, folder: Path, processes: Processes, *, started: float) -> None:
        """Train all iterations, write the result and the table."""
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from wavlm_lightning.recipes.pretrain.chain import run

        run(self.chain, folder, processes=processes, started=started)


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return run_program(Pretraining, argv, about=__doc__ or "", keys=keys_of)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
