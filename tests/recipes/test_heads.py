# SPDX-License-Identifier: Apache-2.0
"""Heads side by side: each ends as it does alone, and the best learning rate is chosen."""

from pathlib import Path
from typing import Any

import pytest
import torch

import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.superb.heads import SWEEP, Head, HeadsSection, best_rate, heads_of

from .test_superb import KilledError, result, run, small


def weights(path: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


@pytest.mark.slow
@pytest.mark.parametrize("task", ["asr", "asv", "er", "sd"])
def test_each_ends_as_it_does_alone(probe_words: list[str], tmp_path: Path, task: str) -> None:
    argv = [
        task,
        "random",
        *probe_words,
        *small(task),
        "--data.batches_per_update=2",
    ]
    together = [*argv, "--heads.lr=[1e-3, 1e-2]", "--heads.seed=[0, 1]"]
    assert superb.main([*together, f"--run.dir={tmp_path / 'together'}"]) == 0
    stems = {0: task, 1: f"{task}.seed1"}
    got = {seed: result(tmp_path, stem, "random") for seed, stem in stems.items()}
    chosen = got[0]["config"]["optim.lr"]
    assert set(got[0]["heads"]) == {f"lr{lr}-seed{s}" for lr in ("0.001", "0.01") for s in (0, 1)}
    for lr in (1e-3, 1e-2):
        for seed in (0, 1):
            alone = [f"--optim.lr={lr}", f"--seed={seed}", "--data.seed=0"]
            folders = [
                f"--run.dir={tmp_path / 'alone'}",
                f"--run.results={tmp_path / 'a/results'}",
            ]
            assert superb.main([*argv, *alone, *folders]) == 0
            one = result(tmp_path / "a", stems[seed], "random")
            line = got[0]["heads"][f"lr{lr:g}-seed{seed}"]
            assert line[one["headline"]] == one["metrics"][one["headline"]]
            if lr == chosen:
                other = got[seed]
                for key in ("metrics", "best", "curves", "layer_weights", "counts", "seed"):
                    assert other[key] == one[key], key
                for variant, (path, _) in one["checkpoints"].items():
                    a, b = weights(path), weights(other["checkpoints"][variant][0])
                    for name in a:
                        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_a_run_that_was_killed_goes_on_with_all_heads(
    probe_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from wavlm_lightning.downstream.adapt.probe import Probe

    argv = ["asr", "fbank", *probe_words, *small("asr"), "--heads.lr=[1e-3, 1e-2]"]
    assert superb.main([*argv, f"--run.dir={tmp_path / 'whole'}"]) == 0
    whole = result(tmp_path, "asr")
    step = Probe.training_step

    def killed(self: Probe, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 3:
            raise KilledError
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Probe, "training_step", killed)
    with pytest.raises(KilledError):
        superb.main(argv)
    monkeypatch.setattr(Probe, "training_step", step)
    assert superb.main(argv) == 0
    again = result(tmp_path, "asr")
    for key in ("metrics", "best", "curves", "heads"):
        assert again[key] == whole[key]


def test_a_head_that_diverges_does_not_stop_the_others(
    probe_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from wavlm_lightning.downstream.adapt.learner import Learner

    loss = Learner.loss

    def diverges(self: Learner, features: Any, batch: Any, update: int, place: int) -> torch.Tensor:
        value = loss(self, features, batch, update, place)
        return value * float("nan") if self.lr == 1.0 and (update, place) == (3, 1) else value

    argv = ["asr", "fbank", *probe_words, *small("asr"), "--data.batches_per_update=2"]
    monkeypatch.setattr(Learner, "loss", diverges)
    assert superb.main([*argv, "--heads.lr=[1.0, 1e-3]"]) == 0
    out = capsys.readouterr().out
    assert "lr1 goes no further, update 4: the loss is nan on " in out
    assert "given up at update 4" in out
    got = result(tmp_path, "asr")
    assert got["heads"]["lr1"] == {"lr": 1.0, "seed": 0.0, "given_up_at_update": 4.0}
    assert got["config"]["optim.lr"] == 1e-3
    monkeypatch.setattr(Learner, "loss", loss)
    alone = [f"--run.results={tmp_path / 'a/results'}", f"--run.dir={tmp_path / 'alone'}"]
    assert superb.main([*argv, "--optim.lr=1e-3", *alone]) == 0
    assert result(tmp_path / "a", "asr")["metrics"] == got["metrics"]


def test_all_heads_that_diverge_are_an_error(
    probe_words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from wavlm_lightning.downstream.adapt.learner import Learner

    monkeypatch.setattr(Learner, "loss", lambda self, *_: self.no_loss() * float("nan"))
    argv = ["asr", "fbank", *probe_words, *small("asr"), "--heads.lr=[1.0, 2.0]"]
    assert superb.main(argv) == 1
    assert "error: update 1: the loss is nan on " in capsys.readouterr().err


@pytest.mark.slow
def test_the_result_says_how_features_came_about(probe_words: list[str], tmp_path: Path) -> None:
    for task, more, about in (
        ("er", [], "means over time kept: the head knows"),
        ("er", ["--cache.pooled=false"], "all layers kept: cache.keep=always"),
        ("er", ["--cache.gb=0"], "computed at each use: cache.gb=0"),
        ("sd", ["--cache.keep=auto"], "all layers kept: a second of audio takes"),
        ("sd", ["--cache.keep=auto"], "all layers kept: they are there already"),
    ):
        assert superb.main([task, "random", *probe_words, *small(task), *more]) == 0
        assert result(tmp_path, task, "random")["features"].startswith(about)


@pytest.mark.slow
def test_means_frames_and_computing_anew_agree(probe_words: list[str], tmp_path: Path) -> None:
    found = []
    for more in ([], ["--cache.gb=0"]):
        argv = ["er", "random", *probe_words, *more, "--upstream.precision=float32"]
        argv += ["--data.batches_per_update=2", "--optim.lr=1e-4"]
        assert superb.main(argv) == 0
        found.append(result(tmp_path, "er", "random"))
    for variant, (path, _) in found[0]["checkpoints"].items():
        a, b = weights(path), weights(found[1]["checkpoints"][variant][0])
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)


def test_heads_are_all_combinations() -> None:
    section = HeadsSection(lr=[1e-3, 0.1], seed=[0, 5])
    assert heads_of(section, lr=1.0, seed=9) == [
        Head("lr0.001-seed0", 1e-3, 0),
        Head("lr0.001-seed5", 1e-3, 5),
        Head("lr0.1-seed0", 0.1, 0),
        Head("lr0.1-seed5", 0.1, 5),
    ]
    assert heads_of(HeadsSection(), lr=1.0, seed=9) == [Head("", 1.0, 9)]
    assert [h.lr for h in heads_of(HeadsSection(lr="sweep"), lr=1.0, seed=9)] == list(SWEEP)


def test_a_list_without_different_values_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"heads\.lr must hold different values"):
        heads_of(HeadsSection(lr=[0.1, 0.1]), lr=1.0, seed=0)
    with pytest.raises(ValueError, match="lr must hold at least one number"):
        HeadsSection(lr=[])


def test_the_rate_with_the_best_mean_is_chosen() -> None:
    heads = heads_of(HeadsSection(lr=[1.0, 2.0, 3.0], seed=[0, 1]), lr=1.0, seed=0)
    values = {"lr1-seed0": [5.0], "lr1-seed1": [7.0], "lr2-seed0": [4.0], "lr2-seed1": [7.0]}
    assert best_rate(heads, values | {"lr3-seed0": [1.0]}, mode="min") == 2.0  # 3 lost a seed
    assert best_rate(heads, values, mode="max") == 1.0
    assert best_rate(heads, {}, mode="max") is None


@pytest.mark.slow
def test_two_processes_train_all_heads_as_one(probe_words: list[str], tmp_path: Path) -> None:
    argv = ["asv", "fbank", *probe_words, *small("asv"), "--data.batches_per_update=2"]
    argv.append("--heads.lr=[1e-3, 1e-2]")
    assert superb.main(argv) == 0
    one = result(tmp_path, "asv")
    done = run(*argv, "--trainer.devices=2", f"--run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    two = result(tmp_path, "asv")
    assert two["config"]["trainer.devices"] == 2
    for name, line in one["heads"].items():
        assert two["heads"][name] == pytest.approx(line, abs=1e-3)


def test_a_head_whose_weights_are_lost_is_given_up_once(
    probe_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from wavlm_lightning.downstream.adapt.learner import Learner

    loss = Learner.loss

    def no_gradient(self: Learner, features: Any, batch: Any, update: int, place: int) -> Any:
        value = loss(self, features, batch, update, place)
        if self.lr == 1.0 and update == 2:  # a finite loss whose gradient is none
            value = value + (0 * next(self.parameters()).sum()).sqrt()
        return value

    monkeypatch.setattr(Learner, "loss", no_gradient)
    argv = ["asr", "fbank", *probe_words, *small("asr"), "--heads.lr=[1.0, 1e-3]"]
    assert superb.main(argv) == 0
    assert capsys.readouterr().out.count("lr1 goes no further, update 4: the loss is nan") == 1
    assert result(tmp_path, "asr")["heads"]["lr1"]["given_up_at_update"] == 4.0
