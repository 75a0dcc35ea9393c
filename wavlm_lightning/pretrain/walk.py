# SPDX-License-Identifier: Apache-2.0
"""Recordings below a folder, each once, and what was left out.

Links are followed, to folders too. A folder or a recording that has several names counts under one:
else it would train several times, and might be trained and validated on.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64", ".sph", ".nist", ".voc",
)  # fmt: skip
# Sound in formats that soundfile does not read.
UNREAD = (
    ".m4a", ".aac", ".mp4", ".m4b", ".wma", ".amr", ".3gp", ".webm", ".mka", ".mkv", ".ape", ".wv",
    ".spx", ".ac3", ".dts", ".shn", ".raw", ".pcm",
)  # fmt: skip
LINKS = "further names of recordings and folders"
SPECIAL = "pipes and other special files"
HIDDEN = "hidden files and folders"


@dataclass
class Walk:
    """Finds recordings below a root; what one call has found, the next leaves out.

    Attributes:
        root: What paths start from.
        left_out: How many names, by reason or by ending.
        examples: A name for each.
    """

    root: Path
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    _folders: set[tuple[int, int]] = field(default_factory=set)
    _files: set[tuple[int, int]] = field(default_factory=set)

    def __call__(self, folder: Path) -> Iterator[str]:
        """Paths below the root of the recordings in a folder; those without links first."""
        links: list[Path] = []
        yield from self._below(folder, links)
        while links:
            link = links.pop(0)
            if link.is_dir():
                yield from self._below(link, links)
            elif not link.exists():
                self._leave_out(LINKS, link)
            else:
                yield from self._file(link, os.stat(link))

    def _below(self, folder: Path, links: list[Path]) -> Iterator[str]:
        about = os.stat(folder)
        if (about.st_dev, about.st_ino) in self._folders:
            self._leave_out(LINKS, folder)
            return
        self._folders.add((about.st_dev, about.st_ino))
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            path = folder / entry.name
            if entry.name.startswith("."):
                if path.is_dir() or self._is_sound(path):
                    self._leave_out(HIDDEN, path)
            elif entry.is_symlink():
                if path.is_dir() or self._is_sound(path):
                    links.append(path)
            elif entry.is_dir():
                yield from self._below(path, links)
            elif self._is_sound(path):
                yield from self._file(path, entry.stat())

    def _is_sound(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if suffix in UNREAD:
            self._leave_out(suffix, path)
        return suffix in SUFFIXES

    def _file(self, path: Path, about: os.stat_result) -> Iterator[str]:
        if not path.is_file():
            self._leave_out(SPECIAL, path)
        elif (about.st_dev, about.st_ino) in self._files:
            self._leave_out(LINKS, path)
        else:
            self._files.add((about.st_dev, about.st_ino))
            yield path.relative_to(self.root).as_posix()

    def _leave_out(self, reason: str, path: Path) -> None:
        self.left_out[reason] += 1
        self.examples.setdefault(reason, path.relative_to(self.root).as_posix())

    def report(self) -> str:
        """A line on what was left out, "" if nothing was."""
        parts = []
        for reason, count in sorted(self.left_out.items()):
            what = f"{count} {reason}"
            if reason in UNREAD:
                what = f"{count} {reason} files, which are not read: convert them, to .flac"
            parts.append(f"{what} (such as {self.examples[reason]})")
        return f"left out: {'; '.join(parts)}" if parts else ""
