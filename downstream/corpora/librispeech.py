# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech: `<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt` beside FLAC files.

Layout: Panayotov et al. 2015, README.TXT of openslr.org/12.
"""

from dataclasses import dataclass
from pathlib import Path

from downstream.corpora.lengths import audio_lengths

# Of SUPERB's PR and ASR.
SPLITS = {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it."""

    id: str
    path: Path
    num_samples: int
    text: str

    @property
    def speaker(self) -> str:
        return self.id.split("-")[0]


def utterances(root: Path, split: str, *, key: str = "librispeech") -> list[Utterance]:
    """All of a split such as train-clean-100, sorted by id.

    Args:
        root: holds the split.
        split: a folder of speakers.
        key: of `paths` that says where the root is, for errors.

    Raises:
        FileNotFoundError: if the split, or recordings that transcripts name, are missing.
        ValueError: for a transcript without words.
    """
    folder = root / split
    tables = sorted(folder.glob("*/*/[!.]*.trans.txt"))
    if not tables:
        have = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or "nothing"
        raise FileNotFoundError(
            f"paths.{key}={root}: no transcripts at {split}/*/*/*.trans.txt; it holds {have}"
        )
    found: list[tuple[str, Path, str]] = []
    for table in tables:
        for line in table.read_text(encoding="utf-8").splitlines():
            name, _, text = line.strip().partition(" ")
            if not text:
                raise ValueError(f"{table}: no words for {name or 'an empty line'}")
            found.append((name, table.parent / f"{name}.flac", text))
    found.sort()
    if gone := [path for _, path, _ in found if not path.is_file()]:
        raise FileNotFoundError(
            f"paths.{key}={root}: {split} is incomplete, {len(gone)} of {len(found)} "
            f"recordings are missing, such as {gone[0].name}"
        )
    lengths = audio_lengths([path for _, path, _ in found])
    return [
        Utterance(name, path, length, text)
        for (name, path, text), length in zip(found, lengths, strict=True)
    ]
