# SPDX-License-Identifier: Apache-2.0
"""A task from Python is the task from the command line, and its errors are raised."""

import sys
from pathlib import Path
from typing import Any

import pytest

from wavlm_lightning import evaluate
from wavlm_lightning.config import ConfigError
from wavlm_lightning.downstream import load_task
from wavlm_lightning.files import read_json
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.recipes.superb.__main__ import main as superb

FROM_RUN = ("metrics", "counts")


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, Any]:
    """A run of seconds, in places of its own."""
    return {
        "protocol": "mini",
        "optim.total_updates": 6,
        "run.validate_updates": 2,
        "run.checkpoint_updates": 1,
        "run.dir": str(tmp_path / "runs"),
        "run.results": str(tmp_path / "results"),
        "cache.dir": str(tmp_path / "cache"),
        "cache.keep": "always",
        "data.num_workers": 0,
        "wandb.mode": "disabled",
    }


def test_a_result_is_that_of_the_command_line(
    overrides: dict[str, Any], mini_cache: Path, tmp_path: Path
) -> None:
    corpus = superb_corpus(load_task("ks").corpus, mini_cache, tiny=True)
    found = evaluate("ks", "fbank", corpus=corpus, overrides=overrides)
    other = overrides | {
        "run.dir": str(tmp_path / "others"),
        f"paths.{load_task('ks').corpus}": str(corpus),
    }
    assert superb(["ks", "fbank", *(f"--{k}={v}" for k, v in other.items())]) == 0
    wanted = read_json(tmp_path / "others" / "fbank" / "ks" / "latest" / "result.json")
    assert found["task"] == "ks"
    assert found["metrics"]
    for key in FROM_RUN:
        assert found[key] == wanted[key]


def test_a_result_is_that_of_its_own_run_whatever_else_ends_there(
    overrides: dict[str, Any], mini_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = superb_corpus(load_task("ks").corpus, mini_cache, tiny=True)
    first = evaluate("ks", "fbank", corpus=corpus, overrides=overrides)
    # Another run of the same name ends last, and `latest` stays with it.
    for name, module in list(sys.modules.items()):
        if name.startswith("wavlm_lightning.recipes.") and hasattr(module, "point_to"):
            monkeypatch.setattr(module, "point_to", lambda path: None)
    found = evaluate("ks", "fbank", corpus=corpus, overrides=overrides | {"optim.lr": 0.02})
    assert found["config"]["optim.lr"] == 0.02 != first["config"]["optim.lr"]
    assert found["run"] != first["run"]


def test_a_folder_with_a_manifest_is_a_corpus(overrides: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "manifest.tsv").write_text("path\tsplit\tspeaker\n")
    with pytest.raises(ValueError, match="manifest"):
        evaluate("sid", "fbank", corpus=tmp_path / "own", overrides=overrides)


def test_an_error_is_raised_as_it_is(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        evaluate("ks", "fbank", overrides=overrides | {"optim.lr": -1.0})
    with pytest.raises(ValueError, match="no task nonsense"):
        evaluate("nonsense", "fbank")
    assert not Path(overrides["run.dir"]).exists()


def test_values_keep_their_kinds(overrides: dict[str, Any], mini_cache: Path) -> None:
    corpus = superb_corpus(load_task("ks").corpus, mini_cache, tiny=True)
    more = {"featurizer.normalize": True, "optim.betas": [0.8, 0.99], "data.manifest": None}
    config = evaluate("ks", "fbank", corpus=corpus, overrides=overrides | more)["config"]
    assert {key: config[key] for key in more} == more


def test_figures_of_the_caller_keep_their_backend(
    overrides: dict[str, Any], mini_cache: Path
) -> None:
    import matplotlib as mpl

    before = mpl.get_backend()
    mpl.use("svg")  # stands in for a notebook's
    try:
        corpus = superb_corpus(load_task("ks").corpus, mini_cache, tiny=True)
        evaluate("ks", "fbank", corpus=corpus, overrides=overrides)
        assert mpl.get_backend() == "svg"
    finally:
        mpl.use(before)
