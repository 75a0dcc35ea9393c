# SPDX-License-Identifier: Apache-2.0
"""`make superb` end to end on tiny corpora: results, resume, processes, errors."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning.downstream.metrics.eer import equal_error_rate
from wavlm_lightning.recipes.superb import evaluation, layer_search, sources
from wavlm_lightning.recipes.superb.checkpoints import evenly_kept
from wavlm_lightning.recipes.superb.heads import SWEEP, between
from wavlm_lightning.recipes.superb.settings import read_probe_settings

ROOT = Path(__file__).parent.parent.parent
TASKS = ("asr", "asv", "er", "ic", "ks", "pr", "sd", "sf", "sid", "ss")
SMALL = {
    "asr": {"task.projection": 16, "task.hidden": 16},
    "asv": {"task.width": 16, "task.held_out_speakers": 3, "task.best_of": 2},
    "er": {},
    "ic": {},
    "ks": {"task.silences": 1},
    "pr": {},
    "sd": {"task.hidden": 16},
    "sf": {"task.projection": 16, "task.hidden": 16},
    "sid": {},
    "ss": {"task.hidden": 16, "task.num_layers": 1, "task.keep": 1},
}


class KilledError(Exception):
    """Stands for a kill: nothing of ours catches it."""


def small(task: str) -> list[str]:
    return [f"--{k}={v}" for k, v in SMALL[task].items()]


def result(folder: Path, task: str, upstream: str = "fbank") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results" / upstream / f"{task}.json").read_text())
    return found


@pytest.mark.parametrize("task", TASKS)
def test_a_task_ends_with_a_result_that_can_be_doubted(
    probe_words: list[str], tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert superb.main([task, "random", *probe_words, *small(task)]) == 0, capsys.readouterr().err
    got = result(tmp_path, task, "random")
    assert got["task"] == task
    assert got["headline"] in got["metrics"]
    assert got["selected_on"] in got["metrics"]
    assert got["kind"] == "official"
    assert abs(sum(got["layer_weights"]) - 1) < 1e-4
    assert got["counts"]["test_utterances"] > 0
    assert got["headline"] in got["trivial"]
    assert got["trivial_answer"] in (said := capsys.readouterr().out)
    assert "learning nothing" in said
    assert len(got["checkpoint_sha256"]) == 64
    assert got["config"]["optim.total_updates"] == 6
    run = Path(got["run"])
    state = torch.load(got["checkpoint"], weights_only=True)["state_dict"]
    assert {k.split(".")[0] for k in state} == {"featurizer", "head"}
    predictions = [p for p in run.rglob("predictions/*") if p.stat().st_size > 0]
    assert predictions
    assert list(run.rglob("layer_weights.png"))
    if task == "ss":
        assert sum(p.suffix == ".wav" for p in predictions) == 3
    if task == "er":
        assert {k.rpartition(".")[2] for k in got["metrics"] if "fold" in k} == {
            f"fold{i}" for i in range(1, 6)
        }


@pytest.mark.parametrize("task", ["asv", "asr"])
def test_a_run_that_was_killed_goes_on_to_the_same_result(
    probe_words: list[str], tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavlm_lightning.downstream.adapt.probe import Probe

    argv = [task, "fbank", *probe_words, *small(task), "--data.batches_per_update=2"]
    assert superb.main([*argv, f"--run.dir={tmp_path / 'whole'}"]) == 0
    whole = result(tmp_path, task)
    step = Probe.training_step

    def killed(self: Probe, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == stop and batch_idx % 2 == 1:
            raise KilledError
        return step(self, batch, batch_idx)

    for stop in (3, 4):  # within an update, before and after a validation
        monkeypatch.setattr(Probe, "training_step", killed)
        with pytest.raises(KilledError):
            superb.main([*argv, f"--run.dir={tmp_path / str(stop)}"])
        monkeypatch.setattr(Probe, "training_step", step)
        assert superb.main([*argv, f"--run.dir={tmp_path / str(stop)}"]) == 0
        again = result(tmp_path, task)
        assert again["metrics"] == whole["metrics"]
        assert again["best"] == whole["best"]
        a, b = (
            torch.load(r["checkpoint"], weights_only=True)["state_dict"] for r in (whole, again)
        )
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_a_run_that_was_killed_while_it_judged_goes_on_to_the_same_result(
    probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["asv", "fbank", *probe_words, *small("asv")]
    assert superb.main([*argv, f"--run.dir={tmp_path / 'whole'}"]) == 0
    whole = result(tmp_path, "asv")
    judge, calls = evaluation._test, []

    def killed(*rest: Any) -> dict[str, float]:
        calls.append(rest)
        if len(calls) == 2:  # one of the kept checkpoints is scored, the others are not
            raise KilledError
        return judge(*rest)

    monkeypatch.setattr(evaluation, "_test", killed)
    with pytest.raises(KilledError):
        superb.main(argv)
    assert superb.main(argv) == 0
    again = result(tmp_path, "asv")
    assert len(calls) == 2 + 3  # all of the judging again, nothing of it twice
    for key in ("metrics", "best", "curves", "layer_weights"):
        assert again[key] == whole[key]


def test_a_mini_result_does_not_take_an_official_ones_place(
    probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["er", "fbank", *probe_words]
    assert superb.main(argv) == 0
    official = result(tmp_path, "er")
    root = next(w for w in probe_words if w.startswith("--paths.iemocap=")).partition("=")[2]
    monkeypatch.setattr(sources, "superb_corpus", lambda *_, **__: root)
    assert superb.main([*argv, "--paths.iemocap=mini"]) == 0
    assert result(tmp_path, "er") == official
    assert result(tmp_path, "er.mini")["kind"] == "mini"


def test_what_was_left_out_stands_in_the_result(
    probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert superb.main(["asv", "fbank", *probe_words, *small("asv"), "--task.min_seconds=4"]) == 0
    short = result(tmp_path, "asv")["counts"]["train_too_short"]
    assert short > 0
    assert f"train_too_short {short:.0f}" in capsys.readouterr().out


@pytest.mark.slow
def test_features_that_depend_on_the_batch_are_not_kept(
    probe_words: list[str], tmp_path: Path
) -> None:
    argv = ["er", "random", *probe_words, "--upstream.size=mini"]
    assert superb.main([*argv, "--upstream.masked_group_norm=false"]) == 0
    assert not (tmp_path / "cache").exists()
    assert superb.main(argv) == 0
    assert (tmp_path / "cache").exists()


def test_a_finished_fold_is_not_trained_again(
    probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wavlm_lightning.downstream.tasks.er import ER

    trained: list[str | None] = []
    loss = ER.loss

    def counted(self: ER, *rest: Any) -> torch.Tensor:
        if len(trained) == 9:  # in the second of five folds
            trained.append(self.variant)
            raise KilledError
        trained.append(self.variant)
        return loss(self, *rest)

    monkeypatch.setattr(ER, "loss", counted)
    with pytest.raises(KilledError):
        superb.main(["er", "fbank", *probe_words])
    assert superb.main(["er", "fbank", *probe_words]) == 0
    assert trained.count("fold1") == 6


def test_asv_that_trains_on_all_speakers_reports_the_best_on_test_alone(
    probe_words: list[str], tmp_path: Path
) -> None:
    argv = ["asv", "random", *probe_words, *small("asv"), "--task.best_of=3"]
    assert superb.main([*argv, "--task.held_out_speakers=0"]) == 0
    got = result(tmp_path, "asv", "random")
    assert got["headline"] == "test/eer_best_of_3_test"
    assert got["selected_on"] == "test/eer"
    assert "test/eer" not in got["metrics"]
    best = got["metrics"]["test/eer_best_of_3_test"]
    assert got["best"][""]["value"] == best
    # The checkpoint that is named has that score, and so have the predictions.
    kept = evenly_kept(Path(got["run"]), int(got["best"][""]["update"]))
    weights = torch.load(kept, weights_only=True)["state_dict"]
    for name, tensor in torch.load(got["checkpoint"], weights_only=True)["state_dict"].items():
        torch.testing.assert_close(tensor, weights[f"learners.0.{name}"], rtol=0, atol=0)
    (scores,) = Path(got["run"]).rglob("test.scores.txt")
    rows = [line.split() for line in scores.read_text().splitlines()]
    same, cosines = [row[0] == "1" for row in rows], [float(row[3]) for row in rows]
    assert equal_error_rate(cosines, same) == pytest.approx(best, abs=0.5)


def test_filter_banks_are_cut_to_as_many_frames_as_the_others() -> None:
    words = ["--paths.librimix=.", "--protocol=published"]
    assert read_probe_settings("sd", "fbank", words).task.chunk_seconds == 20.0
    assert read_probe_settings("sd", "random", words).task.chunk_seconds == 40.0
    said = [*words, "--task.chunk_seconds=7"]
    assert read_probe_settings("sd", "fbank", said).task.chunk_seconds == 7.0


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wavlm_lightning.recipes.superb", *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_two_processes_score_as_one(probe_words: list[str], tmp_path: Path) -> None:
    argv = ["asv", "fbank", *probe_words, *small("asv"), "--data.batches_per_update=2"]
    assert superb.main(argv) == 0
    one = result(tmp_path, "asv")
    done = run(*argv, "--trainer.devices=2", f"--run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    two = result(tmp_path, "asv")
    assert two["config"]["trainer.devices"] == 2
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-3)
    a, b = (torch.load(r["checkpoint"], weights_only=True)["state_dict"] for r in (one, two))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_all_goes_on_after_a_failed_task_and_says_so(
    probe_words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(superb, "task_names", lambda: ["ks", "er"])
    monkeypatch.chdir(ROOT)
    (tmp_path / "empty").mkdir()
    words = [*probe_words, f"--paths.speech_commands={tmp_path / 'empty'}"]
    assert superb.main(["all", "fbank", *words]) == 1
    out, err = capfd.readouterr()
    assert "1 of 2 tasks done on fbank" in out
    assert "ks: failed with status 1" in err
    assert str(tmp_path / "empty") in err
    assert "test/accuracy" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["asx", "fbank"], "no task asx; there are asr, asv, ctc, er, ic, ks, pr, qbe, sd, sf"),
        (
            ["asv"],
            "the first two arguments must be a task and an upstream; tasks: asr, asv, er, ic",
        ),
        (["ctc", "fbank"], "ctc trains its encoder: make finetune TASK=ctc"),
        (["asv", "nobody"], "no upstream nobody: it is neither a file, a folder, a hub id"),
        (["asv", "fbank", "--optim.lrr=1"], "optim.lrr is not a configuration key; the nearest"),
        (["asv", "fbank", "--paths.voxceleb1=/nowhere"], "paths.voxceleb1=/nowhere: no such"),
        (["asv", "fbank", "--paths.voxceleb1=null"], "paths.voxceleb1 is not set: say paths."),
        (["er", "fbank", "--paths.iemocap={tmp}"], "no annotations at Session1/dialog/Emo"),
        (["sd", "fbank", "--paths.librimix={tmp}"], "no mixtures at wav16k/max/train-100/mix_b"),
        (["asr", "fbank", "--data.manifest={tmp}"], "there is no manifest.tsv in it"),
        (["er", "wavlm_base"], "the hub id microsoft/wavlm-base is not on this machine: the same"),
        (["er", "nobody/wavlm-x"], "the hub id nobody/wavlm-x is not on this machine: the same"),
        (
            ["er", "nobody/hubert-x"],
            "at nobody/hubert-x: the same command with upstream.download=t",
        ),
        (["er", "no/such.ckpt"], "no upstream no/such.ckpt: it is neither a file, a folder, a hub"),
        (["er", "fbank", "--featurizer.layer=3"], "featurizer.layer=3: the upstream has layers"),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    argv: list[str],
    message: str,
    probe_words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = [word.replace("{tmp}", str(tmp_path)) for word in argv]
    assert superb.main([*own[:2], *probe_words, *own[2:]] if len(own) > 1 else own) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith("error: ")
    assert message in error[0]


REAL = [
    *[("asr", "so762_mini"), ("asv", "libri_mini"), ("er", "emodb_mini"), ("ic", "s2i_mini")],
    *[("ks", "wake_mini"), ("ks", "fsdd_mini"), ("pr", "so762_mini"), ("sd", "libri_mini")],
    *[("sid", "so762_mini"), ("sid", "libri_mini"), ("ss", "libri_mini")],
]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("task", "folder"), REAL)
def test_a_manifest_folder_of_real_speech_runs(
    probe_words: list[str], tmp_path: Path, real_speech: Path, task: str, folder: str
) -> None:
    argv = [
        *probe_words,
        *small(task),
        f"--data.manifest={real_speech / folder}",
        "--cache.gb=0",
    ]
    argv += (
        ["--optim.total_updates=2", "--task.best_of=1"]
        if task == "asv"
        else ["--optim.total_updates=2"]
    )
    assert superb.main([task, "fbank", *argv]) == 0
    got = result(tmp_path, f"{task}.{folder}")
    assert got["kind"] == "manifest"
    assert got["corpus"] == folder


@pytest.mark.data
def test_digits_are_looked_for_in_strings_of_real_speech(
    probe_words: list[str], tmp_path: Path, real_speech: Path
) -> None:
    argv = [
        *probe_words,
        f"--data.manifest={real_speech / 'so762_mini'}",
        f"--task.queries={real_speech / 'fsdd_mini'}",
        "--task.documents=digits",
    ]
    assert superb.main(["qbe", "fbank", *argv]) == 0
    got = result(tmp_path, "qbe.so762_mini")
    assert 0 <= got["metrics"]["test/mtwv"] <= 1
    assert got["counts"]["dev_queries_in_no_document"] == 0


def test_a_rate_that_is_known_is_told_where_another_one_is_used(
    probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["sid", "fbank", *probe_words, "--upstream.name=hubert_base"]
    assert superb.main(argv) == 0
    assert "published scores of this upstream are known to need LR=0.1" in capsys.readouterr().out
    assert superb.main([*argv, "--optim.lr=0.1"]) == 0
    assert "known to want" not in capsys.readouterr().out


def test_every_layer_is_scored_where_nothing_is_trained(
    probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["qbe", "random", *probe_words, "--heads.lr=[1e-3,1e-4]", "--heads.seed=[0,1]"]
    assert superb.main(argv) == 0, capsys.readouterr().err
    got = result(tmp_path, "qbe", "random")
    on_dev = dict(got["curves"][""]["dev/mtwv"])
    assert list(on_dev) == [0, 1, 2, 3, 4]
    layer = got["metrics"]["layer"]
    assert got["metrics"]["dev/mtwv"] == on_dev[layer] == max(on_dev.values())
    assert got["metrics"]["test/mtwv"] == dict(got["curves"][""]["test/mtwv"])[layer]
    assert got["layer_weights"] == [float(i == layer) for i in range(5)]
    assert got["checkpoint"] == ""
    assert result(tmp_path, "qbe.seed1", "random")["metrics"] == got["metrics"]
    lists = list(Path(got["run"]).rglob("predictions/*/benchmark.stdlist.xml"))
    assert {path.parent.name for path in lists} == {"dev", "test"}


def test_layers_that_do_not_fit_in_memory_together_are_scored_in_turns(
    probe_words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert superb.main(["qbe", "random", *probe_words]) == 0
    whole = result(tmp_path, "qbe", "random")
    monkeypatch.setattr(layer_search, "MOST_BYTES", 1)
    words = ["--cache.gb=0", f"--run.dir={tmp_path / 'turns'}"]
    assert superb.main(["qbe", "random", *probe_words, *words]) == 0
    turns = result(tmp_path, "qbe", "random")
    assert turns["metrics"] == pytest.approx(whole["metrics"], abs=0.02)
    assert len(turns["curves"][""]["dev/mtwv"]) == 5


@pytest.mark.slow
def test_two_processes_search_as_one(probe_words: list[str], tmp_path: Path) -> None:
    assert superb.main(["qbe", "fbank", *probe_words]) == 0
    one = result(tmp_path, "qbe")
    done = run("qbe", "fbank", *probe_words, "--trainer.devices=2", f"--run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert result(tmp_path, "qbe")["metrics"] == one["metrics"]


@pytest.mark.slow
def test_a_sweep_is_refined_around_the_best_rate(
    probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["er", "random", *probe_words, "--heads.lr=sweep"]
    assert superb.main(argv) == 0, capsys.readouterr().err
    heads = result(tmp_path, "er", "random")["heads"]
    rates = {head["lr"]: head["dev/accuracy"] for head in heads.values()}
    first = [rate for rate in rates if rate in SWEEP]
    assert len(first) == len(SWEEP)
    best = max(first, key=rates.__getitem__)
    assert sorted(set(rates) - set(first)) == sorted(between(best))
    chosen = result(tmp_path, "er", "random")["config"]["optim.lr"]
    assert rates[chosen] == max(rates.values())
    capsys.readouterr()
    assert superb.main(argv) == 0  # a new run, for that one is finished
    assert f"best on dev: {best:g}; around it: " in capsys.readouterr().out


def test_wandb_offline_keeps_figures_weights_and_examples(
    probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["asr", "random", *probe_words, *small("asr"), "--wandb.mode=offline"]
    assert superb.main(argv) == 0, capsys.readouterr().err
    kept = list((tmp_path / "runs").rglob("wandb/offline-run-*"))
    assert len(kept) == 1
    names = {p.name.split("_")[0] for p in kept[0].rglob("media/**/*") if p.is_file()}
    assert "examples" in names
    assert any(p.suffix == ".wav" for p in kept[0].rglob("media/**/*"))
    assert any(p.suffix == ".png" for p in kept[0].rglob("media/**/*"))


def test_wandb_offline_and_csv_keep_figures_by_layer(
    probe_words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["qbe", "random", *probe_words, "--wandb.mode=offline"]
    assert superb.main(argv) == 0, capsys.readouterr().err
    assert len(list((tmp_path / "runs").rglob("wandb/offline-run-*"))) == 1
    (table,) = (tmp_path / "runs").rglob("metrics.csv")
    header, *lines = table.read_text().splitlines()
    assert {"dev/mtwv", "test/mtwv", "step"} <= set(header.split(","))
    assert len(lines) == 5


def test_threads_of_heads_are_given_back(probe_words: list[str], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    assert superb.main(["asr", "fbank", *probe_words, *small("asr"), "--run.threads=1"]) == 0
    assert torch.get_num_threads() == before
