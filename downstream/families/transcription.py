# SPDX-License-Identifier: Apache-2.0
"""Tasks with a logit for each character and frame: transcripts, and how good they are."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor

from wavlm_lightning.downstream.corpora.corpus import Recording
from wavlm_lightning.downstream.families.symbols import SymbolTask
from wavlm_lightning.downstream.metrics.text import character_error_rate, word_error_rate
from wavlm_lightning.downstream.task import TaskConfig
from wavlm_lightning.downstream.text.decoding import LanguageModelConfig, LexiconDecoder
from wavlm_lightning.downstream.text.symbols import UNKNOWN, WORD_END, Characters, Run, split_runs
from wavlm_lightning.tables import spoken_text

C = TypeVar("C", bound=TaskConfig)


class Transcription(SymbolTask[C]):
    """Predictions, scores and files of transcripts; subclasses name a corpus and train a head.

    Targets are transcripts in upper case, words parted by one space.
    """

    monitor, mode, headline = "dev/wer", "min", "test/wer"
    unknown_number = UNKNOWN
    needs = ("text",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Another language may have other letters than those of the published set.
        self._spell({c for e in self._splits["train"] for c in e.target})
        texts = (e.target for examples in self._splits.values() for e in examples)
        self.spaced = any(" " in text for text in texts)
        if not self.spaced:  # as in Chinese: a text is one word, and any error makes it wrong
            self.monitor, self.headline = "dev/cer", "test/cer"

    def _spell(self, letters: Iterable[str]) -> None:
        """Use these letters beside those of English, and the language model if there is one."""
        self.characters = Characters(letters)
        self.symbols = self.characters.symbols
        self._decoder: LexiconDecoder | None = None
        if self.language_model.file:
            self._decoder = LexiconDecoder(self.language_model, self.characters, self.sources.cache)

    def vocabulary(self) -> dict[str, Any]:
        """Letters, in any order."""
        return {"letters": [s for s in self.symbols if len(s) == 1]}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Take them; without a language model, which predictions are not decoded with."""
        self.characters = Characters(vocabulary["letters"])
        self.symbols = self.characters.symbols
        self._decoder = None

    def words(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Between word ends."""
        return split_runs(runs, self.symbols.index(WORD_END))

    def text(self, recording: Recording) -> str:
        """Text in upper case, words separated by one space."""
        return spoken_text(recording.text)

    @property
    @abstractmethod
    def language_model(self) -> LanguageModelConfig:
        """Language model of the decoder."""

    def warnings(self) -> list[str]:
        """The same, and which figure counts."""
        found = super().warnings()
        if not self.spaced:
            found.append(
                "no text holds a space: the character error rate counts, not that of words"
            )
        return found

    def decode(self, numbers: Sequence[int]) -> str:
        """Words."""
        return self.characters.decode(numbers)

    def beside(self, logits: Tensor) -> dict[str, Any]:
        """Emissions (F, U) where a language model needs them."""
        if self._decoder is None:
            return {}
        return {"emissions": logits.log_softmax(-1).half().cpu().numpy()}

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of words and of characters; on test with the language model too."""
        references = [p["reference"] for p in predictions.values()]
        hypotheses = [p["hypothesis"] for p in predictions.values()]
        scores = {
            "wer": word_error_rate(references, hypotheses),
            "cer": character_error_rate(references, hypotheses),
        }
        emitted = all("emissions" in p for p in predictions.values())
        if split == "test" and self._decoder is not None and emitted:
            for p in predictions.values():
                p["with_lm"] = self._decoder(p["emissions"])
            with_lm = [p["with_lm"] for p in predictions.values()]
            scores["wer_lm"] = word_error_rate(references, with_lm)
        return scores
