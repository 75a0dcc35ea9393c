# SPDX-License-Identifier: Apache-2.0
"""The mini corpus: an hour and a half of synthetic English in LibriSpeech's layout, and noise.

eSpeak NG speaks it in half a minute on two cores, so that everything here runs on a machine
that has no corpus: 64 voices of men, women and children, transcripts, exact times of words and
phones. It is a stand-in to try things on; scores on it say nothing about real speech.
"""

from pathlib import Path

from recipes.mini.build import MiniCorpus, Progress, Sizes, cached

__all__ = ["MiniCorpus", "mini_corpus"]


def mini_corpus(
    cache: Path, *, num_workers: int = 2, progress: Progress | None = None
) -> MiniCorpus:
    """The mini corpus in the folder `cache`, made on the first call.

    The bytes do not depend on `num_workers`. `progress` is called with the utterances done and all,
    from other threads, one at a time. Needs espeakng-loader (`.[mini]`) on the first call only.
    """
    return cached(cache, Sizes(), num_workers=num_workers, progress=progress)
