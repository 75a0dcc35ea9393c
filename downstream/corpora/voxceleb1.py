# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb1: `{dev,test}/wav/<speaker>/<video>/<segment>.wav` and the list of trials.

Layout: Nagrani, Chung, Zisserman 2017; both archives may also be unpacked into one `wav` folder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wavlm_lightning.files import read_text

# The trials of the corpus's first release, 37,720; s3prl calls the same list voxceleb1_test_v2.txt.
TRIALS = ("veri_test.txt", "voxceleb1_test_v2.txt")

# Of identification: each line a code and a path; s3prl has the same list by the second name.
SPLITS = ("iden_split.txt", "veri_test_class.txt")
CODES = {"1": "train", "2": "dev", "3": "test"}


@dataclass(frozen=True)
class Segment:
    """One recording of a speaker."""

    id: str  # speaker/video/segment.wav, as trials name it
    path: Path

    @property
    def speaker(self) -> str:
        return self.id.split("/")[0]

    @property
    def video(self) -> str:
        return "/".join(self.id.split("/")[:2])


class Trial(NamedTuple):
    """Two recordings: of one speaker or not."""

    same: bool
    enrol: str
    test: str


def segments(root: Path) -> dict[str, Segment]:
    """Every recording by its id.

    Raises:
        FileNotFoundError: if there is none.
    """
    folders = [f for f in (root / "dev" / "wav", root / "test" / "wav", root / "wav") if f.is_dir()]
    found = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*/[!.]*.wav")):
            name = path.relative_to(folder).as_posix()
            found[name] = Segment(name, path)
    if not found:
        raise FileNotFoundError(
            f"paths.voxceleb1={root}: no recordings at dev/wav/*/*/*.wav, test/wav/*/*/*.wav or "
            f"wav/*/*/*.wav; it holds {_inside(root)}"
        )
    return found


def trials(root: Path) -> list[Trial]:
    """The verification trials of the test speakers.

    Raises:
        FileNotFoundError: if their list is missing.
        ValueError: for a line of another form.
    """
    table = _first(root, TRIALS, "trials")
    found = []
    for number, line in enumerate(read_text(table).splitlines(), 1):
        words = line.split()
        if len(words) != 3 or words[0] not in ("0", "1"):
            raise ValueError(f"{table}, line {number}: wants `0|1 path path`, got {line!r}")
        found.append(Trial(words[0] == "1", words[1], words[2]))
    return found


def identification(root: Path) -> dict[str, list[Segment]]:
    """The official split of identification: recordings of train, dev and test by split.

    Raises:
        FileNotFoundError: if the list or recordings that it names are missing.
        ValueError: for a line of another form.
    """
    table = _first(root, SPLITS, "the identification split")
    known = segments(root)
    found: dict[str, list[Segment]] = {"train": [], "dev": [], "test": []}
    gone = []
    for number, line in enumerate(read_text(table).splitlines(), 1):
        code, _, name = line.strip().partition(" ")
        if code not in CODES or not name:
            raise ValueError(f"{table}, line {number}: wants `1|2|3 path`, got {line!r}")
        if name not in known:
            gone.append(name)
        else:
            found[CODES[code]].append(known[name])
    if gone:
        raise FileNotFoundError(
            f"paths.voxceleb1={root}: {len(gone)} recordings of {table.name} are missing, such "
            f"as {gone[0]}"
        )
    return found


def _first(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of some lists that is there."""
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(
        f"paths.voxceleb1={root}: no list of {what}, {' or '.join(names)}; it holds {_inside(root)}"
    )


def joined(name: str) -> str:
    """A recording as SUPERB's leaderboard calls it.

    >>> joined("id10001/1zcIwhmdeo4/00001.wav")
    'id10001-1zcIwhmdeo4-00001'
    """
    return name.removesuffix(".wav").replace("/", "-")


def _inside(root: Path) -> str:
    names = sorted(p.name for p in root.iterdir())
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "") if names else "nothing"
