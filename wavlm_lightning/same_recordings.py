# SPDX-License-Identifier: Apache-2.0
"""Recordings that stand in two lists: under one name, under two, or as two copies."""

import os
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

from wavlm_lightning.hashing import file_sha256

MOST_HASHED = 5_000  # files in both lists, of which contents are compared


class Span(NamedTuple):
    """A stretch of a recording."""

    path: Path
    start: int  # first sample
    stop: int  # the one after the last


def shared(first: Sequence[Span], second: Sequence[Span]) -> list[int]:
    """Places in `first` of stretches that share samples with one in `second`.

    Two names are one recording if they are links to one file; in lists of at most 5,000 files, also
    if their contents are equal.
    """
    paths = {span.path for span in (*first, *second)}
    files = {path: _file(path) for path in paths}
    if len(paths) <= MOST_HASHED:
        files = _by_content(files)
    spans: dict[Hashable, list[Span]] = defaultdict(list)
    for span in second:
        spans[files[span.path]].append(span)
    return [
        place
        for place, span in enumerate(first)
        if any(
            span.start < other.stop and other.start < span.stop for other in spans[files[span.path]]
        )
    ]


def _file(path: Path) -> Hashable:
    """Which file a name means; a missing one is itself."""
    try:
        about = os.stat(path)
    except OSError:
        return path
    return about.st_dev, about.st_ino


def _by_content(files: dict[Path, Hashable]) -> dict[Path, Hashable]:
    """The same, with copies as one file; files of different sizes are not read."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    one_each = {file: path for path, file in files.items()}
    for path in one_each.values():
        if path.is_file():
            sizes[path.stat().st_size].append(path)
    contents: dict[Hashable, Hashable] = {}
    for alike in sizes.values():
        if len(alike) > 1:
            contents |= {files[path]: file_sha256(path) for path in alike}
    return {path: contents.get(file, file) for path, file in files.items()}
