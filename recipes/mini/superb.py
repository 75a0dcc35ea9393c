# SPDX-License-Identifier: Apache-2.0
"""The mini corpora of SUPERB's tasks by name, each in the layout of the corpus it stands for."""

import importlib
from pathlib import Path
from typing import Any

from wavlm_lightning.recipes.mini import build
from wavlm_lightning.recipes.mini.store import Corpus, Progress

# Modules of this room; each is imported when its corpus is asked for.
NAMES = (
    "librispeech",
    "librimix",
    "voxceleb1",
    "iemocap",
    "speech_commands",
    "fluent_commands",
    "audio_snips",
    "quesst14",
)


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
    if name not in NAMES:
        raise ValueError(f"there is no mini corpus {name!r}: choose one of {', '.join(NAMES)}")
    if name == "librispeech":
        sizes = build.TINY if tiny else build.Sizes()
        return build.cached(cache, sizes, num_workers=num_workers, progress=progress).librispeech
    module: Any = importlib.import_module(f"wavlm_lightning.recipes.mini.{name}")
    if name == "librimix":  # made of the mini LibriSpeech
        sizes = module.TINY if tiny else module.Sizes()
        path: Path = module.cached(cache, sizes, num_workers=num_workers, progress=progress)
        return path
    corpus: Corpus[Any] = module.CORPUS
    sizes = corpus.tiny if tiny else corpus.standard
    return corpus.cached(cache, sizes, num_workers=num_workers, progress=progress)
