# SPDX-License-Identifier: Apache-2.0
"""The mini LibriSpeech and its noise: sizes, and everything from the plan to the cache."""

from dataclasses import dataclass
from pathlib import Path

from wavlm_lightning.recipes.mini import librispeech, noise
from wavlm_lightning.recipes.mini.speech import by_voice, speak_all
from wavlm_lightning.recipes.mini.store import Digests, Facts, Progress, Recipe, folder_name, stored

VERSION = 2  # raise it with any change that moves a byte of the corpus
EXPECTED_SHA256 = {  # of the whole corpus, by version of espeakng-loader, on Linux x86_64
    "0.2.4": "5880983b4fb71648384244da588560e95dfd34f829e0ae4ba0d7cd2184efeacf",
}
_SPEAKERS_PER_SHARD = 4
_BYTES_PER_UTTERANCE = 400_000  # about 200 kB are used


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Speakers by split, utterances a speaker, noise clips a kind."""

    train_speakers: int = 48
    dev_speakers: int = 8
    test_speakers: int = 8
    train_utterances: int = 10
    eval_utterances: int = 5
    train_clips: int = 5
    dev_clips: int = 1

    @property
    def num_utterances(self) -> int:
        """Utterances of all splits together."""
        trained = self.train_speakers * self.train_utterances
        return trained + (self.dev_speakers + self.test_speakers) * self.eval_utterances


TINY = Sizes(
    train_speakers=4,
    dev_speakers=3,
    test_speakers=3,
    train_utterances=3,
    eval_utterances=2,
    train_clips=2,
    dev_clips=1,
)


@dataclass(frozen=True)
class MiniCorpus:
    """Where the corpus lies and what is in it; `utterances` and `hours` are of speech, by split."""

    root: Path
    librispeech: Path
    noise: Path
    utterances: dict[str, int]
    hours: dict[str, float]
    sha256: str


def cached(
    cache: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None = None
) -> MiniCorpus:
    """The corpus of these sizes in `cache`, made if it is not there."""

    def fill(folder: Path) -> tuple[Facts, Digests]:
        return _fill(folder, sizes, num_workers=num_workers, progress=progress)

    recipe = Recipe(
        title="mini corpus",
        folder=folder_name(f"v{VERSION}", sizes, Sizes()),
        num_bytes=sizes.num_utterances * _BYTES_PER_UTTERANCE,
        fill=fill,
        expected_sha256=EXPECTED_SHA256 if sizes == Sizes() else {},
    )
    root, facts = stored(cache, recipe)
    return MiniCorpus(
        root=root,
        librispeech=root / "LibriSpeech",
        noise=root / "noise",
        utterances=facts["utterances"],
        hours=facts["hours"],
        sha256=facts["sha256"],
    )


def plan(sizes: Sizes) -> list[librispeech.Utterance]:
    """Every utterance, by split and speaker; speaker numbers are disjoint between splits."""
    splits = (
        ("train-clean-100", 1001, sizes.train_speakers, sizes.train_utterances),
        ("dev-clean", 2001, sizes.dev_speakers, sizes.eval_utterances),
        ("test-clean", 3001, sizes.test_speakers, sizes.eval_utterances),
    )
    return [
        utterance
        for split, first, speakers, count in splits
        for utterance in librispeech.plan(split, first=first, speakers=speakers, utterances=count)
    ]


def _fill(
    folder: Path, sizes: Sizes, *, num_workers: int, progress: Progress | None
) -> tuple[Facts, Digests]:
    """Write the whole corpus into `folder`."""
    utterances = plan(sizes)
    spoken = speak_all(
        folder,
        utterances,
        shards=by_voice([each.speech for each in utterances], voices=_SPEAKERS_PER_SHARD),
        split=lambda utterance: utterance.split,
        num_workers=num_workers,
        progress=progress,
    )
    librispeech.write(folder, utterances, [said for _, said in spoken.said])
    librispeech.write_lexicon(folder, utterances, num_workers=num_workers)
    digests, noise_hours = noise.write(folder, train=sizes.train_clips, dev=sizes.dev_clips)
    facts = spoken.facts(
        VERSION,
        noise_clips=len(noise.KINDS) * (sizes.train_clips + sizes.dev_clips),
        noise_hours={split: round(value, 4) for split, value in noise_hours.items()},
    )
    return facts, spoken.digests | digests
