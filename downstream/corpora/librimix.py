# SPDX-License-Identifier: Apache-2.0
"""Libri2Mix: `wav16k/{min,max}/{train-100,dev,test}/{mix_clean,mix_both,s1,s2}/<id>.wav`, RTTM.

Layout: Cosentino et al. 2020 (LibriMix); diarization references as the fork that SUPERB uses writes
them, in Kaldi's style: `data/{train,dev,test}/rttm`.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.downstream.metrics.der import Turn
from wavlm_lightning.files import read_text
from wavlm_lightning.names import safe_field

FOLDERS = {"train": "train-100", "dev": "dev", "test": "test"}
NUM_SOURCES = 2


class LibriMix(Corpus):
    """Mixtures; `extra` has what is asked for: `turns` of speakers, or `sources`, each alone.

    Args:
        root: Of Libri2Mix.
        mode: min or max: as long as the shorter speaker, or as the longer.
        kind: mix_clean or mix_both: without noise, or with.
        has: turns or sources.
    """

    key = "paths.librimix"

    def __init__(self, root: Path, *, mode: str, kind: str, has: Literal["turns", "sources"]):
        super().__init__(root)
        self.mode, self.kind, self.has = mode, kind, has

    def recordings(self) -> list[Recording]:
        """Train, dev and test, each sorted by id.

        Raises:
            FileNotFoundError: naming what is missing.
            ValueError: if turns lack a mixture.
        """
        return [r for split in FOLDERS for r in self.of(split)]

    def of(self, split: str) -> list[Recording]:
        """Those of one split; errors as of `recordings`."""
        folder = self.root / "wav16k" / self.mode / FOLDERS[split]
        paths = sorted((folder / self.kind).glob("[!.]*.wav"))
        if not paths:
            have = ", ".join(sorted(p.name for p in self.root.iterdir() if p.is_dir()))
            raise FileNotFoundError(
                f"{self}: no mixtures at wav16k/{self.mode}/{FOLDERS[split]}/{self.kind}/*.wav; it "
                f"holds {have or 'nothing'}"
            )
        values: Sequence[Any]
        if self.has == "turns":
            values = self._turns(split, paths)
        else:
            values = self._sources(folder, paths)
        return [
            Recording(path.stem, path, split, extra={self.has: value})
            for path, value in zip(paths, values, strict=True)
        ]

    def _turns(self, split: str, paths: list[Path]) -> list[list[Turn]]:
        turns = reference_turns(self.root, split)
        if missing := [path.stem for path in paths if path.stem not in turns]:
            raise ValueError(
                f"{self}: data/{split}/rttm lacks {len(missing)} of {len(paths)} mixtures, such as "
                f"{missing[0]}"
            )
        return [turns[path.stem] for path in paths]

    def _sources(self, folder: Path, paths: list[Path]) -> list[list[Path]]:
        found = [[folder / f"s{n + 1}" / p.name for n in range(NUM_SOURCES)] for p in paths]
        if gone := [p for alone in found for p in alone if not p.is_file()]:
            raise FileNotFoundError(
                f"{self}: {len(gone)} sources are missing, such as {gone[0].relative_to(self.root)}"
            )
        return found


def reference_turns(root: Path, split: str) -> dict[str, list[Turn]]:
    """Who speaks when, by mixture.

    Raises:
        FileNotFoundError: if the split's RTTM is missing.
    """
    path = root / "data" / split / "rttm"
    if not path.is_file():
        raise FileNotFoundError(f"paths.librimix={root}: no diarization references at {path}")
    return read_rttm(path)


def read_rttm(path: Path) -> dict[str, list[Turn]]:
    """Turns by recording of a file in NIST's RTTM.

    Raises:
        ValueError: naming a line of another form.
    """
    found: dict[str, list[Turn]] = defaultdict(list)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words or words[0] != "SPEAKER":
            continue
        try:
            name, start, duration, speaker = words[1], float(words[3]), float(words[4]), words[7]
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{path}, line {number}: not a SPEAKER line of RTTM: {line}"
            ) from error
        found[name].append(Turn(speaker, start, start + duration))
    return dict(found)


def turns_in(recording: Recording) -> list[Turn]:
    """Turns of a recording, from its `extra`: lists of speaker, start and stop in seconds.

    Raises:
        ValueError: for anything else.
    """
    try:
        turns = [Turn(str(s), float(a), float(b)) for s, a, b in recording.extra["turns"]]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{recording.where}: turns in extra of {recording.id} must be a "
            'list of [speaker, start, stop] in seconds, such as [["a", 0.0, 1.5]]'
        ) from error
    return turns


def rttm(name: str, turns: list[Turn]) -> str:
    """Lines of NIST's RTTM; blanks in names become percent codes, as the format has no quotes.

    >>> rttm("a", [Turn("0", 1.0, 1.5)])
    'SPEAKER a 1 1.000 0.500 <NA> <NA> 0 <NA> <NA>\\n'
    """
    return "".join(
        f"SPEAKER {safe_field(name)} 1 {t.start:.3f} {t.stop - t.start:.3f} <NA> <NA> "
        f"{safe_field(t.speaker)} <NA> <NA>\n"
        for t in turns
    )
