# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb1: `{dev,test}/wav/<speaker>/<video>/<segment>.wav` and the list of trials.

Layout: Nagrani, Chung, Zisserman 2017; both archives may also be unpacked into one `wav` folder.
"""

from collections.abc import Sequence
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording, Trial
from wavlm_lightning.files import read_text

# The trials of the corpus's first release, 37,720; s3prl calls the same list voxceleb1_test_v2.txt.
TRIALS = ("veri_test.txt", "voxceleb1_test_v2.txt")

# Of identification: each line a code and a path; s3prl has the same list by the second name.
SPLITS = ("iden_split.txt", "veri_test_class.txt")
CODES = {"1": "train", "2": "dev", "3": "test"}


class Verification(Corpus):
    """Train and test of speaker verification, with the published trials.

    `extra` has the `session`, which is the video: trials between recordings of one would be easy.
    """

    key = "paths.voxceleb1"

    def recordings(self) -> list[Recording]:
        """Every recording of a speaker who is not in the trials, then those of the trials.

        Raises:
            FileNotFoundError: if the list of trials, or recordings that it names, are missing.
            ValueError: for a line of another form.
        """
        known = segments(self.root)
        wanted = sorted({name for t in trials(self.root) for name in (t.enrol, t.test)})
        if missing := [name for name in wanted if name not in known]:
            raise FileNotFoundError(
                f"{self}: {len(missing)} of {len(wanted)} recordings of the trials are missing, "
                f"such as {missing[0]}"
            )
        tested = {speaker_of(name) for name in wanted}
        train = [name for name in known if speaker_of(name) not in tested]
        return [
            _recording(name, known[name], split)
            for split, names in (("train", train), ("test", wanted))
            for name in names
        ]

    def trials(self) -> list[Trial]:
        """The published trials.

        Raises:
            FileNotFoundError: if their list is missing.
            ValueError: for a line of another form.
        """
        return trials(self.root)


class Identification(Corpus):
    """Train, dev and test of speaker identification, which have all speakers in common."""

    key = "paths.voxceleb1"

    def recordings(self) -> list[Recording]:
        """Recordings in the order of the list, split by split.

        Raises:
            FileNotFoundError: if the list or recordings that it names are missing.
            ValueError: for a line of another form.
        """
        table = _first(self.root, SPLITS, "the identification split")
        known = segments(self.root)
        found: dict[str, list[Recording]] = {split: [] for split in CODES.values()}
        gone = []
        for number, line in enumerate(read_text(table).splitlines(), 1):
            code, _, name = line.strip().partition(" ")
            if code not in CODES or not name:
                raise ValueError(f"{table}, line {number}: must be `1|2|3 path` (got {line!r})")
            if name not in known:
                gone.append(name)
            else:
                found[CODES[code]].append(_recording(name, known[name], CODES[code]))
        if gone:
            raise FileNotFoundError(
                f"{self}: {len(gone)} recordings of {table.name} are missing, such as {gone[0]}"
            )
        return [r for own in found.values() for r in own]


def speaker_of(name: str) -> str:
    """Speaker of a recording as trials name it.

    >>> speaker_of("id10001/1zcIwhmdeo4/00001.wav")
    'id10001'
    """
    return name.split("/")[0]


def _recording(name: str, path: Path, split: str) -> Recording:
    session = name.rpartition("/")[0]
    return Recording(name, path, split, speaker=speaker_of(name), extra={"session": session})


def segments(root: Path) -> dict[str, Path]:
    """Every recording by its name, speaker/video/segment.wav.

    Raises:
        FileNotFoundError: if there is none.
    """
    folders = [f for f in (root / "dev" / "wav", root / "test" / "wav", root / "wav") if f.is_dir()]
    found = {}
    for folder in folders:
        for path in sorted(folder.glob("*/*/[!.]*.wav")):
            found[path.relative_to(folder).as_posix()] = path
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
            raise ValueError(f"{table}, line {number}: must be `0|1 path path` (got {line!r})")
        found.append(Trial(words[0] == "1", words[1], words[2]))
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
