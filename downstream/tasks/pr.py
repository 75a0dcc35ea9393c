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
from pathlib import Path
from typing import Any

from torch import nn

from downstream.corpora import lexicon, librispeech, manifest
from downstream.corpora.lengths import Lengths
from downstream.heads.linear import ProjectedLinear
from downstream.metrics.text import word_error_rate
from downstream.symbols import SymbolTask
from downstream.task import Example, TaskConfig
from downstream.text import Tokens
from wavlm_lightning.fields import whole

WORD_BREAK = "|"  # between words of a manifest's phones; no target holds any


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
        self._lexicon: lexicon.Lexicon = {}
        super().__init__(*args, **kwargs)
        beyond: set[str] = set()
        if self.sources.manifest is not None:  # another language may have other phones
            beyond = {p for e in self._splits["train"] for p in e.target.split()}
        self.phones = Tokens([*lexicon.PHONES, *sorted(beyond - set(lexicon.PHONES))])

    def read(self, split: str) -> list[Example]:
        """Of LibriSpeech with a lexicon, or of a manifest with phones in `extra`."""
        if self.sources.manifest is not None:
            return _of_manifest(self.sources.manifest, split, self.sources.lengths)
        root = self.sources.folder("librispeech")
        utterances = librispeech.utterances(
            root, librispeech.SPLITS[split], lengths=self.sources.lengths
        )
        self._check({word for u in utterances for word in u.text.split()}, root)
        return [
            Example(u.id, str(u.path), 0, u.num_samples, self._pronounced(u.text))
            for u in utterances
        ]

    def _check(self, words: set[str], root: Path) -> None:
        """Read the lexicons, once, and refuse words that they do not have."""
        files = [root / name for name in self.config.lexicons]
        if not self._lexicon:
            self._lexicon = lexicon.read([file for file in files if file.is_file()])
        if missing := lexicon.without(words, self._lexicon):
            where = ", ".join(f"{f}{'' if f.is_file() else ' (not there)'}" for f in files)
            raise ValueError(
                f"{len(missing)} words of the transcripts, such as {missing[0]}, are in no lexicon "
                f"of task.lexicons: {where}. librispeech-lexicon.txt of openslr.org/11 goes into "
                "paths.librispeech; make lexicon root=DIR spells what is left"
            )

    def _pronounced(self, text: str) -> str:
        return " ".join(phone for word in text.split() for phone in self._lexicon[word])

    def encode(self, text: str) -> list[int]:
        """Phones and the end."""
        return self.phones.encode(text.split())

    def decode(self, numbers: Sequence[int]) -> str:
        """Phones parted by blanks."""
        return " ".join(self.phones.decode(numbers))

    def head(self, dim: int, stride: int) -> nn.Module:
        """One logit a phone and frame."""
        return ProjectedLinear(dim, hidden=self.config.hidden, num_symbols=len(self.phones))

    def score(self, split: str, predictions: Mapping[str, Any]) -> dict[str, float]:
        """Percent of phones."""
        references = [p["reference"] for p in predictions.values()]
        hypotheses = [p["hypothesis"] for p in predictions.values()]
        return {"per": word_error_rate(references, hypotheses)}


def _of_manifest(folder: Path, split: str, lengths: Lengths) -> list[Example]:
    rows = manifest.rows_of(manifest.read(folder, needs=("extra",), lengths=lengths), split, folder)
    if wrong := [r.id for r in rows if not isinstance(r.extra.get("phones"), str)]:
        raise ValueError(
            f"{folder / manifest.NAME}: column extra of {wrong[0]} has no "
            '{"phones": "HH AH0 L OW1 | ..."}'
        )
    return [
        Example(
            r.id,
            str(r.path),
            0,
            r.num_samples,
            " ".join(p for p in r.extra["phones"].split() if p != WORD_BREAK),
        )
        for r in rows
    ]
