# SPDX-License-Identifier: Apache-2.0
"""What every corpus is to a task: recordings with what is known of them, whatever the layout.

A layout is one class: it finds the files of a corpus and says what each one holds. Tasks ask for
fields (a text, a speaker, a label) and never look at a layout, so a corpus of one's own serves
every task whose fields it has.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from wavlm_lightning.downstream.corpora.lengths import Lengths, audio_lengths, usable

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Recording:
    """One recording, or one stretch of it.

    Args:
        id: Name in predictions; two of a split never share one.
        path: Audio file.
        split: train, dev or test.
        speaker: Who speaks.
        text: What is said.
        label: Its class.
        extra: Whatever else a task asks for.
        start: First sample at 16 kHz.
        stop: The sample after the last; None for the end of the file, until it is measured.
        origin: Where the corpus says this, for errors.
    """

    id: str
    path: Path
    split: str = ""
    speaker: str = ""
    text: str = ""
    label: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None
    origin: str = ""

    @property
    def where(self) -> str:
        """Where it comes from, for errors."""
        return self.origin or str(self.path)

    @property
    def num_samples(self) -> int:
        """Length at 16 kHz of a measured recording."""
        assert self.stop is not None, f"{self.id} has not been measured"
        return self.stop - self.start


class Trial(NamedTuple):
    """Two recordings by their ids: of one speaker or not."""

    same: bool
    enrol: str
    test: str


class Corpus(ABC):
    """A folder in some layout.

    Args:
        root: The folder.
    """

    key: ClassVar[str] = "data.manifest"  # of the configuration, that names the folder
    classes: Sequence[str] = ()  # published list of labels, in its order; () for those of train
    hint: str = ""  # what follows in an error about a field that no recording has

    def __init__(self, root: Path):
        self.root = root

    def __str__(self) -> str:
        return f"{self.key}={self.root}"

    @abstractmethod
    def recordings(self) -> Sequence[Recording]:
        """All recordings of all splits, in an order that never changes.

        Raises:
            FileNotFoundError: if a part of the corpus is missing.
            ValueError: for a file of another form.
        """

    def trials(self) -> list[Trial] | None:
        """Published trials of test; None where any two recordings may be compared."""
        return None


def having(corpus: Corpus, needs: Sequence[str]) -> Sequence[Recording]:
    """All recordings of a corpus, each of which has these fields.

    Raises:
        FileNotFoundError: if a part of the corpus is missing.
        ValueError: naming the field and the recording that lacks it.
    """
    found = corpus.recordings()
    for name in needs:
        lacking = [r for r in found if not _has(r, name)]
        if lacking and len(lacking) == len(found):
            raise ValueError(
                f"{corpus}: none of {len(found)} recordings has {_article(name)}{corpus.hint}"
            )
        if lacking:
            raise ValueError(f"{lacking[0].where}: {name} is empty")
    return found


def read(
    corpus: Corpus, *, needs: Sequence[str] = (), lengths: Lengths = audio_lengths
) -> list[Recording]:
    """Measured recordings of a corpus, in its order, without those that are left out.

    Args:
        corpus: Where they are.
        needs: Fields that no recording may lack.
        lengths: Measures files.

    Raises:
        AudioError: for recordings that cannot be used.
        FileNotFoundError, ValueError: as `having`.
    """
    return measured(having(corpus, needs), lengths)


def measured(found: Sequence[Recording], lengths: Lengths) -> list[Recording]:
    """Recordings with the ends of their files, without those that are left out.

    Raises:
        AudioError: for recordings that cannot be used.
    """
    # Many stretches may lie in one file.
    files = list(dict.fromkeys(r.path for r in found))
    length_of = dict(zip(files, lengths(files), strict=True))
    return [
        # Files may be shorter than their stretches say: recordings end with them.
        replace(r, stop=length if r.stop is None else min(r.stop, length))
        for r, length in usable(found, [length_of[r.path] for r in found])
    ]


def _has(recording: Recording, name: str) -> bool:
    value = getattr(recording, name)
    return bool(value.strip() if isinstance(value, str) else value)


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def by_split(
    recordings: Sequence[Recording], splits: Sequence[str], corpus: Corpus
) -> dict[str, list[Recording]]:
    """Recordings of each split, in their order.

    Raises:
        ValueError: naming a split without any.
    """
    found = {split: [r for r in recordings if r.split == split] for split in splits}
    for split, own in found.items():
        if not own:
            raise ValueError(f"{corpus}: no recording is of the split {split}")
    return found
