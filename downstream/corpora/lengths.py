# SPDX-License-Identifier: Apache-2.0
"""Lengths of many files, from their headers or by reading them, several at a time.

Parsers of corpora are given a function for it, which also says what a file that cannot be used
does: end in an error, or count as of no length, and be left out.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from wavlm_lightning.audio import AudioError, audio_length, check_audio
from wavlm_lightning.files import read_json, write_text

THREADS = 8
# Lengths, or what is wrong with a file: of those that were decoded whole, and by their headers.
CHECKED, BELIEVED = "checked.json", "headers.json"
Lengths = Callable[[Sequence[Path]], list[int]]  # samples at 16 kHz; 0: it is left out
T = TypeVar("T")


def audio_lengths(paths: Sequence[Path]) -> list[int]:
    """Samples at 16 kHz of each file, from its header.

    Raises:
        AudioError: with the first files that cannot be used, and how many there are.
    """
    return Reader()(paths)


def usable(items: Sequence[T], lengths: Sequence[int]) -> Iterator[tuple[T, int]]:
    """Items and the lengths of their recordings, without those that are left out."""
    return ((item, n) for item, n in zip(items, lengths, strict=True) if n > 0)


@dataclass
class Reader:
    """Looks at recordings before they are used.

    Args:
        check: "full" decodes every file once and remembers it; "header" reads headers; "none" reads
            the headers of files that it does not remember.
        bad_files: An unusable file ends in an error, or is left out and counted.
        cache: Folder to remember in what was decoded.
        progress: Called with files done and all, when they are decoded.

    Attributes:
        unusable: Path -> reason, of what was left out.
    """

    check: Literal["full", "header", "none"] = "header"
    bad_files: Literal["error", "drop"] = "error"
    cache: Path | None = None
    progress: Callable[[int, int], None] | None = None
    unusable: dict[Path, str] = field(default_factory=dict)

    def __call__(self, paths: Sequence[Path]) -> list[int]:
        """Samples at 16 kHz of each file, 0 for one that is left out.

        Raises:
            AudioError: with the first files that cannot be used, and how many there are.
        """
        if self.check == "full":
            return self.remembered(paths, check_audio, CHECKED)
        if self.check == "none":
            return self.remembered(paths, audio_length, BELIEVED)
        return self._counted(paths, _measured(paths, audio_length))

    def remembered(
        self, paths: Sequence[Path], measure: Callable[[Path], int], name: str
    ) -> list[int]:
        """The same by some measure, kept in a file of this name for the next time.

        Raises:
            AudioError: with the first files that cannot be used, and how many there are.
        """
        cache = None if self.cache is None else self.cache / name
        return self._counted(paths, _remembered(paths, measure, cache, self.progress))

    def _counted(self, paths: Sequence[Path], found: list[int | str]) -> list[int]:
        bad = {p: n for p, n in zip(paths, found, strict=True) if isinstance(n, str)}
        if bad and self.bad_files == "error":
            raise _refusal(bad)
        self.unusable |= bad
        return [0 if isinstance(n, str) else n for n in found]


def _refusal(bad: dict[Path, str]) -> AudioError:
    reasons = sorted(bad.values())
    more = f" (and {len(bad) - 3} more such files)" if len(bad) > 3 else ""
    return AudioError(
        "; ".join(reasons[:3])
        + f"{more}. Mend or remove them, or say data.bad_files=drop to leave them out"
    )


def _remembered(
    paths: Sequence[Path],
    measure: Callable[[Path], int],
    cache: Path | None,
    progress: Callable[[int, int], None] | None,
) -> list[int | str]:
    """Lengths or reasons of files that are decoded once, as long as they stay as they are."""
    known: dict[str, int | str] = {} if cache is None else _known(cache)
    keys = [_key(path) for path in paths]
    missing = [path for path, key in zip(paths, keys, strict=True) if key not in known]
    found = dict(zip(missing, _measured(missing, measure, progress), strict=True))
    known |= {key: found[path] for path, key in zip(paths, keys, strict=True) if path in found}
    if cache is not None and missing:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(known))
    return [known[key] for key in keys]


def _key(path: Path) -> str:
    """A file as it is now; a missing one has no size."""
    try:
        about = path.stat()
    except OSError:
        return str(path)
    return f"{path}\t{about.st_size}\t{about.st_mtime_ns}"


def _known(cache: Path) -> dict[str, Any]:
    """What is kept; nothing if it cannot be read, as it can be measured again."""
    try:
        content = read_json(cache)
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _measured(
    paths: Sequence[Path],
    measure: Callable[[Path], int],
    progress: Callable[[int, int], None] | None = None,
) -> list[int | str]:
    """Length of each file, or the reason why it has none."""

    def one(path: Path) -> int | str:
        try:
            return measure(path)
        except AudioError as error:
            return str(error)

    found: list[int | str] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for length in pool.map(one, paths):
            found.append(length)
            if progress is not None:
                progress(len(found), len(paths))
    return found
