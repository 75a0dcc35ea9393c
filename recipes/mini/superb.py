# SPDX-License-Identifier: Apache-2.0
"""The mini corpora of SUPERB's tasks by name, each in the layout of the corpus it stands for."""

from pathlib import Path

from recipes.mini import build, iemocap, librimix, voxceleb1
from recipes.mini.speech import Progress

NAMES = ("librispeech", "voxceleb1", "iemocap", "librimix")


def superb_corpus(
    name: str,
    cache: Path,
    *,
    tiny: bool = False,
    num_workers: int = 2,
    progress: Progress | None = None,
) -> Path:
    """Root of the mini corpus `name` (one of NAMES) in the folder `cache`, made on the first call.

    It is laid out as the real one; corpus.json beside the root says what is in it. The bytes do not
    depend on `num_workers`. `tiny`: a few utterances of everything, in seconds, for tests.
    `progress` is called with the utterances done and all, from other threads, one at a time.
    """
    if name == "librispeech":
        sizes = build.TINY if tiny else build.Sizes()
        return build.cached(cache, sizes, num_workers=num_workers, progress=progress).librispeech
    if name == "voxceleb1":
        people = voxceleb1.TINY if tiny else voxceleb1.Sizes()
        return voxceleb1.cached(cache, people, num_workers=num_workers, progress=progress)
    if name == "iemocap":
        dialogs = iemocap.TINY if tiny else iemocap.Sizes()
        return iemocap.cached(cache, dialogs, num_workers=num_workers, progress=progress)
    if name == "librimix":
        mixtures = librimix.TINY if tiny else librimix.Sizes()
        return librimix.cached(cache, mixtures, num_workers=num_workers, progress=progress)
    raise ValueError(f"there is no mini corpus {name!r}: choose one of {', '.join(NAMES)}")
