# SPDX-License-Identifier: Apache-2.0
"""The mini corpora of SUPERB's tasks by name, each in the layout of the corpus it stands for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipes.mini import (
    audio_snips,
    build,
    fluent_commands,
    iemocap,
    librimix,
    quesst14,
    speech_commands,
    voxceleb1,
)
from recipes.mini.store import Corpus, Progress


def _librispeech(cache: Path, sizes: build.Sizes, **keywords: Any) -> Path:
    return build.cached(cache, sizes, **keywords).librispeech


_STORED: dict[str, Corpus[Any]] = {
    "voxceleb1": voxceleb1.CORPUS,
    "iemocap": iemocap.CORPUS,
    "speech_commands": speech_commands.CORPUS,
    "fluent_commands": fluent_commands.CORPUS,
    "audio_snips": audio_snips.CORPUS,
    "quesst14": quesst14.CORPUS,
}
# How to make each, its standard sizes and tiny ones.
_CORPORA: dict[str, tuple[Callable[..., Path], Any, Any]] = {
    "librispeech": (_librispeech, build.Sizes(), build.TINY),
    "librimix": (librimix.cached, librimix.Sizes(), librimix.TINY),
    **{name: (c.cached, c.standard, c.tiny) for name, c in _STORED.items()},
}
NAMES = tuple(_CORPORA)


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
    if name not in _CORPORA:
        raise ValueError(f"there is no mini corpus {name!r}: choose one of {', '.join(NAMES)}")
    cached, standard, small = _CORPORA[name]
    sizes = small if tiny else standard
    return cached(cache, sizes, num_workers=num_workers, progress=progress)
