# SPDX-License-Identifier: Apache-2.0
"""CTC emissions to words with a lexicon and a KenLM language model, by torchaudio's decoder."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wavlm_lightning.downstream.text.symbols import SPECIAL, WORD_END, Characters
from wavlm_lightning.fields import Checked, number, whole
from wavlm_lightning.files import read_text, write_text
from wavlm_lightning.shipped import extras


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(Checked):
    """The decoder's settings.

    Args:
        beam_size: hypotheses that are kept.
        beam_threshold: worse ones than the best by this are dropped.
        weight: of the language model.
        word_score: added for each word.
        silence_score: added for each word end.
        file: KenLM's, ARPA or binary; None for greedy decoding alone.
        words: a file with one word a line, first column; they are spelled by their letters.
    """

    beam_size: int = whole(1, 10**6)
    beam_threshold: float = number(0, 10**6, above=True)
    weight: float = number(-1000, 1000)
    word_score: float = number(-1000, 1000)
    silence_score: float = number(-1000, 1000)
    file: str | None = None
    words: str | None = None


class LexiconDecoder:
    """Emissions (F, U) of one utterance -> its words."""

    def __init__(self, config: LanguageModelConfig, characters: Characters, cache: Path):
        for key, name in (("file", config.file), ("words", config.words)):
            if not name or not Path(name).is_file():
                raise FileNotFoundError(f"task.lm.{key}={name}: no such file")
        self.config, self.characters, self.cache = config, characters, cache
        self._decoder: Any = None

    def _build(self) -> Any:
        try:
            import flashlight.lib.text  # noqa: F401
            from torchaudio.models.decoder import ctc_decoder
        except ImportError as error:
            raise ModuleNotFoundError(
                f"task.lm.file needs flashlight-text: {extras('lm')}"
            ) from error
        try:
            return self._decoder_of(ctc_decoder)
        except RuntimeError as error:  # KenLM's: a file of another form
            reason = " ".join(str(error).split())
            raise ValueError(f"task.lm.file={self.config.file} cannot be read: {reason}") from error

    def _decoder_of(self, ctc_decoder: Any) -> Any:
        return ctc_decoder(
            lexicon=str(self._lexicon()),
            tokens=self.characters.symbols,
            lm=self.config.file,
            nbest=1,
            beam_size=self.config.beam_size,
            beam_threshold=self.config.beam_threshold,
            lm_weight=self.config.weight,
            word_score=self.config.word_score,
            sil_score=self.config.silence_score,
            blank_token=SPECIAL[0],
            sil_token=WORD_END,
            unk_word=SPECIAL[3],
        )

    def _lexicon(self) -> Path:
        """`word w o r d |`, one a line."""
        known = set(self.characters.symbols)
        words = {line.split()[0].upper() for line in _lines(Path(str(self.config.words)))}
        spelled = [f"{w} {' '.join(w)} {WORD_END}\n" for w in sorted(words) if set(w) <= known]
        self.cache.mkdir(parents=True, exist_ok=True)
        text = "".join(spelled)
        path = self.cache / f"lexicon-{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
        write_text(path, text)
        return path

    def __call__(self, emissions: NDArray[np.float16]) -> str:
        if self._decoder is None:
            self._decoder = self._build()
        best = self._decoder(torch.from_numpy(emissions.astype(np.float32))[None])[0]
        return " ".join(best[0].words) if best else ""


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip()]
