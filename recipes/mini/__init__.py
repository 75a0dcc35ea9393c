# SPDX-License-Identifier: Apache-2.0
"""Mini corpora: an hour or so of synthetic English each, in the layouts of the real ones.

eSpeak NG speaks them in half a minute on two cores, so that everything here runs on a machine
that has no corpus. `mini_corpus` is a LibriSpeech with 64 voices of men, women and children,
transcripts, exact times of words and phones, and noise; `superb_corpus` gives it and those of
SUPERB's speaker verification, emotion, diarization and separation, keyword spotting, intents,
slots and spoken queries. They are stand-ins to try things on; scores on them say nothing about
real speech.
"""

from pathlib import Path

from wavlm_lightning.recipes.mini.build import MiniCorpus, Sizes, cached
from wavlm_lightning.recipes.mini.store import Progress
from wavlm_lightning.recipes.mini.superb import NAMES, superb_corpus

__all__ = ["NAMES", "MiniCorpus", "mini_corpus", "superb_corpus"]


def mini_corpus(
    cache: Path, *, num_workers: int = 2, progress: Progress | None = None
) -> MiniCorpus:
    """The mini LibriSpeech and noise in the folder `cache`, made on the first call.

    The bytes do not depend on `num_workers`. `progress` is called with the utterances done and all,
    from other threads, one at a time. Needs espeakng-loader (`.[mini]`) on the first call only.
    """
    return cached(cache, Sizes(), num_workers=num_workers, progress=progress)
