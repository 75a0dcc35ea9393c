# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech: `<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt` beside FLAC files.

Layout: Panayotov et al. 2015, README.TXT of openslr.org/12.
"""

from dataclasses import dataclass
from pathlib import Path

from downstream.corpora.lengths import Lengths, audio_lengths, usable
from wavlm_lightning.files import read_text

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


def utterances(
    root: Path, split: str, *, key: str = "librispeech", lengths: Lengths = audio_lengths
) -> list[Utterance]:
    """All of a split such as train-clean-100, sorted by id.

    Args:
        root: holds the split.
        split: a folder of speakers.
        key: of `paths` that says where the root is, for errors.
        lengths: of recordings.

    Raises:
        FileNotFoundError: if the split, or recordings that transcripts name, are missing.
        ValueError: for a transcript without words.
    """
    found = transcripts(root, split, key=key)
    if gone := [path for path in found if not path.is_file()]:
        raise FileNotFoundError(
            f"paths.{key}={root}: {split} is incomplete, {len(gone)} of {len(found)} "
            f"recordings are missing, such as {gone[0].name}"
        )
    return [
        Utterance(path.stem, path, length, text)
        for (path, text), length in usable(list(found.items()), lengths(list(found)))
    ]


def transcripts(root: Path, split: str, *, key: str = "librispeech") -> dict[Path, str]:
    """What is said in each recording of a split, whether it is there or not, sorted by name.

    Raises:
        FileNotFoundError: if the split is missing.
        ValueError: for a transcript without words, or a second one of a recording.
    """
    folder = root / split
    tables = sorted(folder.glob("*/*/[!.]*.trans.txt"))
    if not tables:
        have = "nothing"
        if root.is_dir():
            have = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())) or have
        raise FileNotFoundError(
            f"paths.{key}={root}: no transcripts at {split}/*/*/*.trans.txt; it holds {have}"
        )
    found: dict[Path, str] = {}
    for table in tables:
        for line in read_text(table).splitlines():
            name, _, text = line.strip().partition(" ")
            if not text:
                raise ValueError(f"{table}: no words for {name or 'an empty line'}")
            path = table.parent / f"{name}.flac"
            if path in found:
                raise ValueError(f"{table}: {name} is there twice")
            found[path] = text
    return dict(sorted(found.items(), key=lambda item: item[0].name))
