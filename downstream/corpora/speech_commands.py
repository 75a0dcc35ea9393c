# SPDX-License-Identifier: Apache-2.0
"""Speech Commands v0.01: `<word>/<speaker>_nohash_<n>.wav`, `_background_noise_/*.wav`, a test set.

Layout: Warden 2017, archives speech_commands_v0.01 and speech_commands_test_set_v0.01, each in a
folder of that name. The split of the first into train and dev is that of the corpus's own tools: by
a hash of the speaker, who so is in one of them alone (Warden 2018, section 5.6).
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from wavlm_lightning.downstream.corpora.corpus import SPLITS, Corpus, Recording
from wavlm_lightning.downstream.corpora.lengths import Lengths, audio_lengths, usable
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.seeding import generator

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
CLASSES = (*WORDS, UNKNOWN, SILENCE)
NOISE = "_background_noise_"
TRAIN_FOLDER, TEST_FOLDER = "speech_commands_v0.01", "speech_commands_test_set_v0.01"
MAX_PER_CLASS = 2**27 - 1  # of the corpus's tools: files a class
DEV_PERCENT, UNUSED_PERCENT = 10, 20


class SpeechCommands(Corpus):
    """Spoken words, and pieces of background recordings as silence.

    Args:
        root: Holds the folders of both archives.
        silences: Pieces of a second from each background recording, for train and for dev; the test
            set has silence of its own.
        lengths: Measures background recordings.
    """

    key = "paths.speech_commands"
    classes = CLASSES

    def __init__(self, root: Path, *, silences: int, lengths: Lengths = audio_lengths):
        super().__init__(root)
        self.silences, self.lengths = silences, lengths

    def recordings(self) -> list[Recording]:
        """Train, dev and test, each sorted by id, silence last.

        Raises:
            FileNotFoundError: if a folder is missing or empty.
        """
        clips = {split: self.words(split) for split in SPLITS}
        noise = sorted((self.root / TRAIN_FOLDER / NOISE).glob("[!.]*.wav"))
        if not noise:
            raise FileNotFoundError(f"{self}: no recordings at {TRAIN_FOLDER}/{NOISE}/*.wav")
        for path, length in usable(noise, self.lengths(noise)):
            for split in ("train", "dev"):
                clips[split] += self._silences(split, path, length)
        return [r for split in SPLITS for r in clips[split]]

    def words(self, split: str) -> list[Recording]:
        """Spoken words of one split; the test set has silence too.

        Raises:
            FileNotFoundError: if the folder is missing or empty.
        """
        folder = self.root / (TEST_FOLDER if split == "test" else TRAIN_FOLDER)
        found = [
            Recording(
                path.relative_to(folder).as_posix(), path, split, label=_label(path.parent.name)
            )
            for path in sorted(folder.glob("*/[!.]*.wav"))
            if path.parent.name != NOISE and (split == "test" or part_of(path.name) == split)
        ]
        if not found:
            raise FileNotFoundError(f"{self}: no recordings of {split} at {folder.name}/*/*.wav")
        return found

    def _silences(self, split: str, path: Path, length: int) -> Sequence[Recording]:
        rng = generator(0, f"silence {split}", *path.stem.encode())
        starts = rng.integers(max(1, length - SAMPLE_RATE + 1), size=self.silences)
        return [
            Recording(
                f"{split}/{path.stem}-{i}",
                path,
                split,
                label=SILENCE,
                start=start,
                stop=start + SAMPLE_RATE,
            )
            for i, start in enumerate(starts.tolist())
        ]


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


def _label(folder: str) -> str:
    return folder if folder in CLASSES else UNKNOWN
