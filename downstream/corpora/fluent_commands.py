# SPDX-License-Identifier: Apache-2.0
"""Fluent Speech Commands: `data/{train,valid,test}_data.csv`, `wavs/speakers/<speaker>/<id>.wav`.

Layout: Lugosch et al. 2019, release of fluent.ai.
"""

from dataclasses import dataclass
from pathlib import Path

from downstream.corpora.lengths import Lengths, audio_lengths, usable
from wavlm_lightning.tables import read_csv

SPLITS = {"train": "train", "dev": "valid", "test": "test"}
SLOTS = ("action", "object", "location")


@dataclass(frozen=True)
class Command:
    """One recording and what is meant by it."""

    id: str
    path: Path
    num_samples: int
    slots: dict[str, str]


def commands(root: Path, split: str, *, lengths: Lengths = audio_lengths) -> list[Command]:
    """All of train, dev or test, in the order of the table.

    Raises:
        FileNotFoundError: if the table or recordings are missing.
        ValueError: naming a column that is missing.
    """
    table = root / "data" / f"{SPLITS[split]}_data.csv"
    if not table.is_file():
        raise FileNotFoundError(
            f"paths.fluent_commands={root}: there is no data/{table.name} in it"
        )
    lines = [values for _, values in read_csv(table, columns=("path", *SLOTS))]
    paths = [root / line["path"] for line in lines]
    if gone := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"paths.fluent_commands={root}: {len(gone)} of {len(paths)} recordings of {table.name} "
            f"are missing, such as {gone[0].relative_to(root)}"
        )
    return [
        Command(line["path"], path, length, {slot: line[slot] for slot in SLOTS})
        for (line, path), length in usable(list(zip(lines, paths, strict=True)), lengths(paths))
    ]
