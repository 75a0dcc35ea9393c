# SPDX-License-Identifier: Apache-2.0
"""Fluent Speech Commands: `data/{train,valid,test}_data.csv`, `wavs/speakers/<speaker>/<id>.wav`.

Layout: Lugosch et al. 2019, release of fluent.ai.
"""

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.tables import read_csv

SPLITS = {"train": "train", "dev": "valid", "test": "test"}
SLOTS = ("action", "object", "location")


class FluentCommands(Corpus):
    """Commands; `extra` has the value of each slot as `classes`."""

    key = "paths.fluent_commands"
    classes = SLOTS

    def recordings(self) -> list[Recording]:
        """Train, dev and test, each in the order of its table.

        Raises:
            FileNotFoundError: if a table or recordings are missing.
            ValueError: naming a column that is missing.
        """
        return [r for split in SPLITS for r in self.of(split)]

    def of(self, split: str) -> list[Recording]:
        """Those of one split; errors as of `recordings`."""
        table = self.root / "data" / f"{SPLITS[split]}_data.csv"
        if not table.is_file():
            raise FileNotFoundError(f"{self}: there is no data/{table.name} in it")
        lines = [values for _, values in read_csv(table, columns=("path", *SLOTS))]
        paths = [self.root / line["path"] for line in lines]
        if gone := [path for path in paths if not path.is_file()]:
            raise FileNotFoundError(
                f"{self}: {len(gone)} of {len(paths)} recordings of {table.name} are missing, such "
                f"as {gone[0].relative_to(self.root)}"
            )
        return [
            Recording(
                line["path"], path, split, extra={"classes": {slot: line[slot] for slot in SLOTS}}
            )
            for line, path in zip(lines, paths, strict=True)
        ]
