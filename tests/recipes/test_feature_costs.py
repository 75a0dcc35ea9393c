# SPDX-License-Identifier: Apache-2.0
"""Kept or computed at each use: the arithmetic, what is measured, and that a run sticks to it."""

import json
from pathlib import Path

import pytest
import torch

import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning.downstream.config import DataConfig
from wavlm_lightning.downstream.data.module import TaskData
from wavlm_lightning.downstream.features.cache import FeatureCache
from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.superb import feature_costs
from wavlm_lightning.recipes.superb.feature_costs import Choice, Costs, choose, measure, uses_of
from wavlm_lightning.recipes.superb.settings import read_probe_settings
from wavlm_lightning.recipes.superb.sources import sources_of

ALONE = Processes(0, 1, 1)


@pytest.fixture
def data(probe_words: list[str]) -> TaskData:
    """Training, dev and test of diarization."""
    from wavlm_lightning.downstream import load_task
    from wavlm_lightning.downstream.upstreams.fbank import Fbank

    settings = read_probe_settings("sd", "fbank", probe_words)
    task = load_task("sd")
    where = sources_of(
        settings.kind, settings.paths, settings.data, corpus=task.corpus, processes=ALONE
    )
    config = DataConfig(batch_size=2, batches_per_update=1, order="random", num_workers=0)
    built = task(settings.task, where, framing=Fbank())
    return TaskData(built, config, total_updates=10, seed=0)


@pytest.mark.parametrize(
    ("costs", "uses", "worth"),
    [
        (Costs(compute=10, keep=11, read=1), 1, True),  # nearly as cheap
        (Costs(compute=10, keep=11, read=5), 1, False),
        (Costs(compute=10, keep=11, read=5), 10, True),
        (Costs(compute=1, keep=2, read=3), 1000, False),
    ],
)
def test_what_is_worth_keeping(costs: Costs, uses: float, worth: bool) -> None:
    assert costs.worth_keeping(uses) is worth


def test_uses_are_epochs_validations_and_tests_by_length(data: TaskData) -> None:
    samples = {s: sum(e.num_samples for e in data.splits[s]) for s in ("train", "dev", "test")}
    epochs = 10 * 2 / len(data.splits["train"])
    wanted = epochs * samples["train"] + 3 * samples["dev"] + 1 * samples["test"]
    found = uses_of(data, validations=3, tests=1)
    assert found == pytest.approx(wanted / sum(samples.values()))


def test_a_few_utterances_are_measured_and_kept(data: TaskData, tmp_path: Path) -> None:
    upstream, _ = load_upstream(UpstreamConfig(kind="random", size="mini"))
    cache = FeatureCache(tmp_path)
    costs = measure(cache, upstream, data, "cpu")
    assert costs is not None
    assert min(costs.compute, costs.keep, costs.read) > 0
    assert len(list(tmp_path.rglob("*.safetensors"))) == feature_costs.SAMPLE + 1
    for split, example in data.to_keep():
        key = str(data.task.key(example, training=split == "train"))
        length = torch.tensor([example.num_samples])
        cache([key], data.waveform(key)[None], length, upstream)
    assert measure(cache, upstream, data, "cpu") is None


def test_a_run_sticks_to_its_choice(tmp_path: Path) -> None:
    slow = Costs(compute=1, keep=2, read=3)
    first = choose(tmp_path, 10, lambda: slow)
    assert first == Choice(keep=False, why=slow.why(10))
    assert choose(tmp_path, 10, lambda: pytest.fail("measured again")) == first


def test_a_run_that_fails_after_the_measurement_leaves_no_folder(
    probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(folder: Path, *_: object, **__: object) -> Path:
        assert (folder / "features.json").is_file()
        raise ValueError("a bad recording")

    monkeypatch.setattr("wavlm_lightning.recipes.run.fit.to_resume", fails)
    assert superb.main(["sd", "fbank", *probe_words, "--cache.keep=auto"]) == 1
    assert not [p for p in (tmp_path / "runs").rglob("*") if p.is_file()]


def test_features_that_are_cheaper_to_compute_are_not_kept(
    probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wavlm_lightning.recipes.superb.training.measure",
        lambda *_: Costs(compute=1, keep=2, read=3),
    )
    argv = ["sd", "fbank", *probe_words, "--cache.keep=auto"]
    assert superb.main(argv) == 0
    (path,) = (tmp_path / "results").rglob("*.json")
    result = json.loads(path.read_text())
    assert result["features"].startswith("computed at each use: a second of audio takes 1e+03 ms")
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
