# SPDX-License-Identifier: Apache-2.0
"""Lengths of many files, from their headers or by reading them, several at a time."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wavlm_lightning.audio import AudioError, audio_length
from wavlm_lightning.files import read_json, write_text

THREADS = 8


def audio_lengths(paths: Sequence[Path]) -> list[int]:
    """Samples at 16 kHz of each file.

    Raises:
        AudioError: with the first files that cannot be used, and how many there are.
    """
    return _measure(paths, audio_length)


def cached_lengths(paths: Sequence[Path], measure: Callable[[Path], int], cache: Path) -> list[int]:
    """What `measure` says of each file, kept in `cache` by path, size and time of change."""
    known = _known(cache)
    keys = [f"{path}\t{(s := path.stat()).st_size}\t{s.st_mtime_ns}" for path in paths]
    missing = [path for path, key in zip(paths, keys, strict=True) if key not in known]
    if missing:
        found = dict(zip(missing, _measure(missing, measure), strict=True))
        known |= {k: found[p] for p, k in zip(paths, keys, strict=True) if p in found}
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_text(cache, json.dumps(known))
    return [known[key] for key in keys]


def _known(cache: Path) -> dict[str, int]:
    """What is kept; nothing if it cannot be read, as it can be measured again."""
    try:
        content = read_json(cache)
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _measure(paths: Sequence[Path], measure: Callable[[Path], int]) -> list[int]:
    bad: list[str] = []

    def one(path: Path) -> int:
        try:
            return measure(path)
        except AudioError as error:
            bad.append(str(error))
            return 0

    with ThreadPoolExecutor(THREADS) as pool:
        lengths = list(pool.map(one, paths))
    if bad:
        more = f" (and {len(bad) - 3} more such files)" if len(bad) > 3 else ""
        raise AudioError("; ".join(sorted(bad)[:3]) + more)
    return lengths
