# SPDX-License-Identifier: Apache-2.0
"""Tab-separated tables with a header: the one reader of all manifests."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from wavlm_lightning.files import read_text


class Line(NamedTuple):
    """One row of a table."""

    number: int  # in the file, from 1
    values: dict[str, str]  # by column


def read_table(path: Path, *, columns: Sequence[str] = ()) -> list[Line]:
    """The rows below the header; empty lines are passed over.

    Args:
        path: A file in UTF-8, fields separated by one tab, without quotes.
        columns: That must be there.

    Raises:
        FileNotFoundError: naming the file.
        ValueError: naming the file, the line and what is wrong with it.
    """
    # Not splitlines: it splits at characters that a text may hold.
    lines = (line.removesuffix("\r") for line in read_text(path).split("\n"))
    rows = enumerate((line.split("\t") for line in lines), start=1)
    return _rows(path, ((n, fields) for n, fields in rows if fields != [""]), columns)


def read_csv(path: Path, *, columns: Sequence[str] = ()) -> list[Line]:
    """The same of a table with commas, and quotes where a field holds one.

    Raises:
        FileNotFoundError, ValueError: as `read_table`.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""))
    try:
        return _rows(path, ((reader.line_num, row) for row in reader if row), columns)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error


def _rows(path: Path, lines: Iterable[tuple[int, list[str]]], columns: Sequence[str]) -> list[Line]:
    numbered = iter(lines)
    header = next(numbered, (1, []))[1]
    if missing := [name for name in columns if name not in header]:
        raise ValueError(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(header) or 'none'}"
        )
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: column {twice[0]} is there twice")
    rows = []
    for number, fields in numbered:
        if len(fields) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields, the header has {len(header)}"
            )
        rows.append(Line(number, dict(zip(header, fields, strict=True))))
    return rows


def composed(text: str) -> str:
    """A text with each letter and its accents as one character where there is one (NFC).

    The same word may be written in two ways, and would be two words.

    >>> composed("u" + "\\u0308") == "\\u00fc"
    True
    """
    return unicodedata.normalize("NFC", text)


def spoken_text(text: str) -> str:
    """A transcript as tasks compare it: composed, upper case, words parted by one space.

    >>> spoken_text(" it  is\\ta ")
    'IT IS A'
    """
    return composed(" ".join(text.upper().split()))
