# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech: `<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt` beside FLAC files.

Layout: Panayotov et al. 2015, README.TXT of openslr.org/12.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.files import read_text

# Of SUPERB's PR and ASR.
SPLITS = {"train": ["train-clean-100"], "dev": ["dev-clean"], "test": ["test-clean"]}


class LibriSpeech(Corpus):
    """Recordings with text, speaker and, in `extra`, the `set` that they are of.

    Args:
        root: Holds the sets.
        sets: Names of sets such as train-clean-100, by split.
    """

    key = "paths.librispeech"

    def __init__(self, root: Path, sets: Mapping[str, Sequence[str]] = SPLITS):
        super().__init__(root)
        self.sets = sets

    def recordings(self) -> list[Recording]:
        """All sets of all splits, each sorted by id.

        Raises:
            FileNotFoundError: if a set, or recordings that transcripts name, are missing.
            ValueError: for a transcript without words.
        """
        return [r for split, names in self.sets.items() for n in names for r in self.of(n, split)]

    def of(self, name: str, split: str) -> list[Recording]:
        """All of one set, sorted by id; errors as of `recordings`."""
        return utterances(self.root, name, split=split, named=name)


def utterances(
    root: Path, folder: str, *, split: str, named: str, key: str = "librispeech"
) -> list[Recording]:
    """All of a folder of speakers, sorted by id.

    Args:
        root: Holds the folder.
        folder: Such as train-clean-100.
        split: What it is used as.
        named: The set that it is of.
        key: Of `paths` that says where the root is, for errors.

    Raises:
        FileNotFoundError: if the folder, or recordings that transcripts name, are missing.
        ValueError: for a transcript without words.
    """
    found = transcripts(root, folder, key=key)
    if gone := [path for path in found if not path.is_file()]:
        raise FileNotFoundError(
            f"paths.{key}={root}: {folder} is incomplete, {len(gone)} of {len(found)} "
            f"recordings are missing, such as {gone[0].name}"
        )
    return [
        Recording(
            path.stem,
            path,
            split,
            speaker=path.stem.split("-")[0],
            text=text,
            extra={"set": named},
        )
        for path, text in found.items()
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
