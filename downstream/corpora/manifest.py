# SPDX-License-Identifier: Apache-2.0
"""Manifest folders: a person's own recordings and a `manifest.tsv` that says what they are.

Tab-separated, one header line, at least the columns `id path split` and those that a task names:
`speaker`, `text`, `label`. `path` is relative to the folder, `split` is train, dev or test, `extra`
is JSON or empty.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from downstream.corpora.lengths import Lengths, audio_lengths, usable
from wavlm_lightning.tables import composed, read_table

NAME = "manifest.tsv"
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Row:
    """One recording."""

    id: str
    path: Path
    num_samples: int
    split: str
    speaker: str
    text: str
    label: str
    extra: dict[str, Any]


def read(folder: Path, *, needs: Sequence[str] = (), lengths: Lengths = audio_lengths) -> list[Row]:
    """All rows, in the order of the file.

    Args:
        folder: holds `manifest.tsv`.
        needs: columns that must be there and, in every row, not empty.
        lengths: of recordings.

    Raises:
        FileNotFoundError: if there is no manifest, or recordings are missing.
        ValueError: naming the line and the column.
    """
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(f"data.manifest={folder}: there is no {NAME} in it")
    rows = read_table(path, columns=("id", "path", "split", *needs))
    if not rows:
        raise ValueError(f"{path} has a header and no row")
    first: dict[str, int] = {}  # line of each id
    for number, line in rows:
        _check(f"{path}, line {number}", line, needs)
        if (other := first.setdefault(line["id"], number)) != number:
            raise ValueError(
                f"{path}, line {number}: id {line['id']} is there twice, see line {other}"
            )
    lines = [values for _, values in rows]
    files = [folder / line["path"] for line in lines]
    if gone := [f for f in files if not f.is_file()]:
        raise FileNotFoundError(f"{path}: {len(gone)} recordings are missing, such as {gone[0]}")
    return [
        Row(
            id=line["id"],
            path=file,
            num_samples=length,
            split=line["split"],
            speaker=composed(line.get("speaker", "")),
            text=composed(line.get("text", "")),
            label=composed(line.get("label", "")),
            extra=json.loads(line["extra"]) if line.get("extra") else {},
        )
        for (line, file), length in usable(list(zip(lines, files, strict=True)), lengths(files))
    ]


def rows_of(rows: Sequence[Row], split: str, folder: Path) -> list[Row]:
    """The rows of a split.

    Raises:
        ValueError: if there are none.
    """
    found = [row for row in rows if row.split == split]
    if not found:
        raise ValueError(f"{folder / NAME}: no row has the split {split}")
    return found


def transcribed(folder: Path, split: str, *, lengths: Lengths = audio_lengths) -> list[Row]:
    """The rows of a split, all with a text."""
    return rows_of(read(folder, needs=("text",), lengths=lengths), split, folder)


def _check(where: str, line: dict[str, Any], needs: Sequence[str]) -> None:
    for column in ("id", "path", "split", *needs):
        if not (line[column] or "").strip():
            raise ValueError(f"{where}: column {column} is empty")
    if line["split"] not in SPLITS:
        raise ValueError(f"{where}: split is {line['split']}, not train, dev or test")
    if line.get("extra"):
        try:
            extra = json.loads(line["extra"])
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: column extra is not JSON: {error}") from error
        if not isinstance(extra, dict):
            raise ValueError(f"{where}: column extra is JSON, but no object: {line['extra']}")
