# SPDX-License-Identifier: Apache-2.0
"""Phoneme recognition: which phones are said?

Corpus     LibriSpeech: train-clean-100, dev-clean, test-clean, phones from a lexicon
Head       two linear layers a frame, to 74 symbols
Loss       CTC
Score      phone error rate, greedy, stress counts; lower is better
Source     SUPERB (Yang et al. 2021), task PR; values in configs/superb/pr.yaml
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from wavlm_lightning.downstream.corpora import lexicon
from wavlm_lightning.downstream.corpora.corpus import Corpus, Recording
from wavlm_lightning.downstream.corpora.librispeech import LibriSpeech
from wavlm_lightning.downstream.families.symbols import SymbolTask
from wavlm_lightning.downstream.heads.linear import ProjectedLinear
from wavlm_lightning.downstream.metrics.text import word_error_rate
from wavlm_lightning.downstream.task import TaskConfig
from wavlm_lightning.downstream.text.symbols import Tokens
from wavlm_lightning.fields import whole

WORD_BREAK = "|"  # between words; no target holds any


@dataclass(frozen=True, kw_only=True)
class Config(TaskConfig):
    """Section `task`.

    Args:
        hidden: width between the two linear layers.
        lexicons: files of pronunciations, in paths.librispeech where they are relative. A word's
            first pronunciation in the first file that has it counts; files may be missing as long
            as every word is found.
    """

    hidden: int = whole(1, 65536)
    lexicons: list[str]


class PR(SymbolTask[Config]):
    """Targets are phones parted by blanks."""

    name, corpus, Config = "pr", "librispeech", Config
    monitor, mode, headline = "dev/per", "min", "test/per"
    unknown_number = Tokens.UNKNOWN

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Another language may have other phones than those of the published set.
        train = {p for e in self._splits["train"] for p in e.target.split()}
        self.phones = Tokens([*lexicon.PHONES, *sorted(train.difference(lexicon.PHONES))])

    def vocabulary(self) -> dict[str, Any]:
        """Phones in their order."""
        return {"phones": self.phones.symbols[len(Tokens.SPECIAL) :]}

    def take_vocabulary(self, vocabulary: Mapping[str, Any]) -> None:
        """Take them."""
        self.phones = Tokens(vocabulary["phones"])

    def official(self) -> Corpus:
        """LibriSpeech with lexicons."""
        root = self.sources.folder("librispeech")
        files = [root / name for name in self.config.lexicons]
        return lexicon.Pronounced(LibriSpeech(root), files)

    def text(self, recording: Recording) -> str:
        """Phones of `extra`, without breaks between words.

        Raises:
            ValueError: naming a recording without them.
        """
        phones = recording.extra.get("phones")
        if not isinstance(phones, str):
            raise ValueError(
                f"{recording.where}: column extra of {recording.id} has no "
                '{"phones": "HH AH0 L OW1 | ..."}'
            )
        return " ".join(p for p in phones.split() if p != WORD_BREAK)

    def encode(self, text: str) -> list[int]:
        """Phones and the end."""
        return self.phones.encode(text.split())

    def decode(self, numbers: Sequence[int]) -> str:
        """Phones parted by blanks."""
        return " ".join(self.phones.decode(numbers))

    def head(self, dim: int) -> nn.Module:
        """One logit a phone and frame."""
        return ProjectedLinear(dim, hidden=self.config.hidden, num_symbols=len(self.phones))

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of phones."""
        references = [p["reference"] for p in predictions.values()]
        hypotheses = [p["hypothesis"] for p in predictions.values()]
        return {"per": word_error_rate(references, hypotheses)}
