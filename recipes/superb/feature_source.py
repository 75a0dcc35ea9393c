# SPDX-License-Identifier: Apache-2.0
"""How heads come by an upstream's features: means over time, layers that are kept, or anew."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from wavlm_lightning.downstream.adapt.pooled import MeansOverTime
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.cache import FeatureCache, open_cache
from wavlm_lightning.downstream.features.featurizer import FeaturizerConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.features.upstream import fingerprint
from wavlm_lightning.recipes.run.devices import device_of, tf32_of
from wavlm_lightning.recipes.superb.feature_costs import Choice
from wavlm_lightning.recipes.superb.settings import TaskSettings

COMPUTED, KEPT, POOLED = "computed at each use", "all layers kept", "means over time kept"


class FeatureSource(NamedTuple):
    """The way that is taken."""

    about: str  # one of the three, and why, for logs and results
    featurizer: FeaturizerConfig  # what is left for the heads to do
    cache: FeatureCache | None = None
    means: MeansOverTime | None = None  # what is kept there in place of all layers

    def close(self) -> None:
        """Let others make room of what is kept."""
        if self.cache is not None:
            self.cache.close()
            if self.cache.damaged:
                print(f"features of {self.cache.damaged} damaged files were computed again")

    def first_pass(self, data: TaskData) -> list[str]:
        """A line if features are still to be computed: that takes longer than what comes after."""
        if self.cache is None:
            return []
        keys = [data.task.key(e, training=split == "train") for split, e in data.to_keep()]
        missing = sum(not self.cache.files.path(str(key)).exists() for key in keys)
        if not missing:
            return []
        return [f"first pass over the upstream: features of {missing} of {len(keys)} utterances"]

    @property
    def counts(self) -> dict[str, float]:
        """Counts for the result."""
        return {"damaged_features": 0 if self.cache is None else self.cache.damaged}


Decide = Callable[[FeatureCache], Choice]


def feature_source(
    settings: TaskSettings, upstream: Frozen, data: TaskData, *, decide: Decide | None = None
) -> FeatureSource:
    """The cheapest way that fits `cache.gb` and gives the task what it would get anyway.

    Recordings whose features are kept are not read by `data` any more.

    Args:
        settings: Of the run.
        upstream: Whose features.
        data: What they are of.
        decide: Says whether features of all layers are kept in a cache that has room for them;
            None: they are.
    """
    keeps = settings.cache.gb > 0 and upstream.grouped  # none that depend on the batch
    examples = data.to_keep()
    everything = len(examples) == sum(len(split) for split in data.splits.values())
    width = upstream.num_layers * upstream.dim
    about = fingerprint(
        settings.upstream,
        settings.values["upstream"]["sha256"],
        device_of(settings.trainer),
    )
    if (tf32 := tf32_of(settings.trainer)) is not None:
        about += f" tf32 {tf32}"
    source = FeatureSource(f"{COMPUTED}: {_no_cache(settings, upstream)}", settings.featurizer)
    tell = print if data.rank == 0 else _silent
    exact = settings.featurizer.lengths == "exact"  # the other count depends on the batch
    if keeps and examples and exact and data.task.pools and settings.cache.pooled:
        means = MeansOverTime(upstream, settings.featurizer)
        cache = open_cache(
            settings.cache,
            f"{about} mean, normalised {settings.featurizer.normalize}",
            num_values=len(examples) * width,
            dtype=torch.float32,
            load=data.waveform,
            tell=tell,
        )
        if cache is not None:
            why = "the head knows frames by their mean over time alone"
            if not everything:
                why += "; drawn crops are computed at each use"
            source = FeatureSource(f"{POOLED}: {why}", means.left_to_do, cache, means)
            if everything:
                data.pool()
    if keeps and examples and source.cache is None:
        frames = sum(example.num_samples for _, example in examples) / upstream.stride
        cache = open_cache(
            settings.cache, about, num_values=frames * width, load=data.waveform, tell=tell
        )
        always = settings.cache.keep == "always"
        choice = Choice(True, "cache.keep=always" if always else "layers are read one by one")
        if cache is not None and decide is not None and not always:
            choice = decide(cache)
        if cache is not None and choice.keep:
            source = FeatureSource(f"{KEPT}: {choice.why}", settings.featurizer, cache)
        elif cache is not None:
            cache.close()
            source = FeatureSource(f"{COMPUTED}: {choice.why}", settings.featurizer)
    data.use_kept(None if source.cache is None else source.cache.files)
    return source


def _no_cache(settings: TaskSettings, upstream: Frozen) -> str:
    """Why nothing is kept, where nothing is."""
    if settings.cache.gb == 0:
        return "cache.gb=0"
    if not upstream.grouped:
        return "features depend on the batch"
    return f"they do not fit cache.gb={settings.cache.gb:g} or the disk, or are of drawn crops"


def _silent(_: str) -> None:
    """The first process tells it."""
