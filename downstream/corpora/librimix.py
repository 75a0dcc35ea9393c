# SPDX-License-Identifier: Apache-2.0
"""Libri2Mix: `wav16k/{min,max}/{train-100,dev,test}/{mix_clean,mix_both,s1,s2}/<id>.wav`, RTTM.

Layout: Cosentino et al. 2020 (LibriMix); diarization references as the fork that SUPERB uses writes
them, in Kaldi's style: `data/{train,dev,test}/rttm`.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from downstream.corpora.lengths import Lengths, audio_lengths, usable
from downstream.metrics.der import Turn
from wavlm_lightning.files import read_text
from wavlm_lightning.names import safe_field

FOLDERS = {"train": "train-100", "dev": "dev", "test": "test"}
NUM_SOURCES = 2


@dataclass(frozen=True)
class Mixture:
    """One recording of two speakers."""

    id: str
    path: Path
    num_samples: int
    sources: tuple[Path, ...]  # the speakers alone, where they are wanted


def mixtures(
    root: Path,
    split: str,
    *,
    mode: str,
    kind: str,
    sources: bool,
    lengths: Lengths = audio_lengths,
) -> list[Mixture]:
    """All of a split, sorted by id.

    Args:
        root: of Libri2Mix.
        split: train, dev or test.
        mode: min or max: as long as the shorter speaker, or as the longer.
        kind: mix_clean or mix_both: without noise, or with.
        sources: whether the speakers alone are wanted too.
        lengths: of recordings.

    Raises:
        FileNotFoundError: naming what is missing.
    """
    folder = root / "wav16k" / mode / FOLDERS[split]
    paths = sorted((folder / kind).glob("[!.]*.wav"))
    if not paths:
        have = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "nothing"
        raise FileNotFoundError(
            f"paths.librimix={root}: no mixtures at wav16k/{mode}/{FOLDERS[split]}/{kind}/*.wav; "
            f"it holds {have}"
        )
    alone = [
        tuple(folder / f"s{n + 1}" / p.name for n in range(NUM_SOURCES if sources else 0))
        for p in paths
    ]
    if gone := [p for both in alone for p in both if not p.is_file()]:
        raise FileNotFoundError(
            f"paths.librimix={root}: {len(gone)} sources are missing, such as "
            f"{gone[0].relative_to(root)}"
        )
    return [
        Mixture(p.stem, p, length, both)
        for (p, both), length in usable(list(zip(paths, alone, strict=True)), lengths(paths))
    ]


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
