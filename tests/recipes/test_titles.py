# SPDX-License-Identifier: Apache-2.0
"""Every picture of a run says what it is of: it is passed on without its folder."""

from pathlib import Path
from typing import Any

import pytest

from wavlm_lightning.downstream import load_task
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.recipes.run import curves
from wavlm_lightning.recipes.superb import __main__ as superb


def test_pictures_name_task_upstream_and_corpus(
    probe_words: list[str], mini_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, str] = {}

    def remember(figure: Any, path: Path) -> None:
        titles = [axis.get_title() for axis in figure.axes]
        said[path.name] = "; ".join([figure.get_suptitle(), *titles])

    monkeypatch.setattr(curves, "_save", remember)
    superb_corpus(load_task("ks").corpus, mini_cache, tiny=True)
    assert superb.main(["ks", "random", *probe_words]) == 0
    assert set(said) == {"curves.png", "layer_weights.png"}
    for title in said.values():
        assert "ks on random, official" in title
