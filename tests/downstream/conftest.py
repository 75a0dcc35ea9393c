# SPDX-License-Identifier: Apache-2.0
"""Tiny corpora in the official layouts, a tiny upstream, and tasks on them."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.features.frames import ConvolutionFraming
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Sources, Task
from wavlm_lightning.downstream.upstreams.wavlm import WavLMUpstream
from wavlm_lightning.recipes.mini import NAMES, superb_corpus

TASKS = ("asr", "asv", "er", "ic", "ks", "pr", "sd", "sf", "sid", "ss")
FRAMING = ConvolutionFraming()
CONFIGS = Path(__file__).parent.parent.parent / "configs" / "superb"


@pytest.fixture(scope="session")
def corpora(mini_cache: Path) -> dict[str, str | None]:
    """Corpus name -> folder of a few synthetic utterances."""
    return {name: str(superb_corpus(name, mini_cache, tiny=True)) for name in NAMES}


@pytest.fixture
def frozen(tiny: WavLMConfig) -> Frozen:
    """A WavLM with random weights, with dropout that training would show."""
    torch.manual_seed(1)
    return Frozen(WavLMUpstream(WavLM(dataclasses.replace(tiny, dropout=0.3, layer_drop=0.5))))


def small_config(name: str) -> Any:
    """The `task` section of the mini protocol with narrow heads."""
    about = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    values = about["task"]
    mini = about.get("mini", {})
    values |= {k.removeprefix("task."): v for k, v in mini.items() if "task." in k}
    narrow = {"projection": 16, "hidden": 16, "width": 32, "held_out_speakers": 3}
    values |= {k: v for k, v in narrow.items() if k in values}
    kind: Any = load_task(name).Config
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            values[field.name] = field.type(**values[field.name])  # type: ignore[operator]
    return kind(**values)


@pytest.fixture
def make_task(corpora: dict[str, str | None], tmp_path: Path) -> Callable[..., Task[Any]]:
    """Any task on its tiny corpus; of ER the first fold."""

    def make(name: str, **kwargs: Any) -> Task[Any]:
        kind = load_task(name)
        sources = Sources("official", corpora, cache=tmp_path)
        variant = (kind.variants(sources) or [None])[0]
        config = dataclasses.replace(small_config(name), **kwargs)
        return kind(config, sources, framing=FRAMING, seed=0, variant=variant)

    return make
