# SPDX-License-Identifier: Apache-2.0
"""Speech Commands v0.01: `<word>/<speaker>_nohash_<n>.wav`, `_background_noise_/*.wav`, a test set.

Layout: Warden 2017, archives speech_commands_v0.01 and speech_commands_test_set_v0.01, each in a
folder of that name. The split of the first into train and dev is that of the corpus's own tools: by
a hash of the speaker, who so is in one of them alone (Warden 2018, section 5.6).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
CLASSES = (*WORDS, UNKNOWN, SILENCE)
NOISE = "_background_noise_"
TRAIN_FOLDER, TEST_FOLDER = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
MAX_PER_CLASS = 2**27 - 1  # of the corpus's tools: files a class
DEV_PERCENT, UNUSED_PERCENT = 10, 20


@dataclass(frozen=True)
class Clip:
    """One recording and its class."""

    id: str
    path: Path
    label: str


def part_of(name: str) -> str:
    """train, dev, or "" for a file in neither, by the speaker in its name.

    >>> part_of("bed/0a7c2a8d_nohash_0.wav") == part_of("cat/0a7c2a8d_nohash_1.wav")
    True
    """
    speaker = re.sub(r"_nohash_.*$", "", Path(name).name)
    number = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percent = number % (MAX_PER_CLASS + 1) * (100.0 / MAX_PER_CLASS)
    if percent < DEV_PERCENT:
        return "dev"
    return "" if percent < UNUSED_PERCENT else "train"


def clips(root: Path, split: str) -> list[Clip]:
    """Spoken words of train, dev or test, sorted by id; the test set has silence too.

    Raises:
        FileNotFoundError: if the folder is missing or empty.
    """
    folder = root / (TEST_FOLDER if split == "test" else TRAIN_FOLDER)
    paths = sorted(folder.glob("*/[!.]*.wav"))
    found = [
        Clip(path.relative_to(folder).as_posix(), path, _label(path.parent.name))
        for path in paths
        if path.parent.name != NOISE and (split == "test" or part_of(path.name) == split)
    ]
    if not found:
        raise FileNotFoundError(
            f"paths.speech_commands={root}: no recordings of {split} at {folder.name}/*/*.wav"
        )
    return found


def background(root: Path) -> list[Path]:
    """Long recordings without speech.

    Raises:
        FileNotFoundError: if there are none.
    """
    found = sorted((root / TRAIN_FOLDER / NOISE).glob("[!.]*.wav"))
    if not found:
        raise FileNotFoundError(
            f"paths.speech_commands={root}: no recordings at {TRAIN_FOLDER}/{NOISE}/*.wav"
        )
    return found


def _label(folder: str) -> str:
    return folder if folder in CLASSES else UNKNOWN
