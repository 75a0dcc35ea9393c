# SPDX-License-Identifier: Apache-2.0
"""make passes configuration on as the user wrote it."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from wavlm_lightning.recipes.cli import arguments

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def command(*words: str) -> str:
    """The command line that make would run, its set-up left out."""
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.run", "-o", ".venv/.dev", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def passed(*words: str) -> list[str]:
    """What make hands to the command `wavlm`, and what its program takes of that."""
    program, *rest = shlex.split(command(*words).removeprefix("python -m recipes.cli "))
    return [program, *arguments(program, rest)]


def test_lower_case_words_become_configuration() -> None:
    got = passed("pretrain", "optim.lr=1e-3", "data.root=my data")
    assert got[1:] == [
        "--config=configs/pretrain/mini.yaml",
        "--data.root=my data",
        "--optim.lr=1e-3",
    ]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tcmalloc", "ALLOC must be jemalloc or nothing (got tcmalloc)"),
        ("jemalloc", "ALLOC=jemalloc needs that library, which is not here"),
    ],
)
def test_an_allocator_that_is_not_there_is_an_error(name: str, wanted: str, tmp_path: Path) -> None:
    python = tmp_path / "python"  # one that finds no library
    python.write_text("#!/bin/sh\necho\n")
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "-n", "bench", f"ALLOC={name}", f"PYTHON={python}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert wanted in done.stderr


def test_upper_case_words_belong_to_make() -> None:
    got = passed("pretrain", "CONFIG=configs/pretrain/base.yaml", "PYTHON=python3.12")
    assert got == ["pretrain", "--config=configs/pretrain/base.yaml"]


def test_superb_takes_task_upstream_rate_and_words() -> None:
    got = passed("superb", "TASK=asv", "UPSTREAM=fbank", "LR=1e-3", "seed=1")
    assert got == ["superb", "asv", "fbank", "--optim.lr=1e-3", "--seed=1"]
    assert passed("superb") == ["superb", "all", "wavlm_mini"]


def test_finetune_starts_from_the_mini_model_unless_told_otherwise() -> None:
    assert passed("finetune") == ["finetune", "ctc", "wavlm_mini"]
    got = passed("finetune", "TASK=er", "CONFIG=a.yaml", "UPSTREAM=a b.pt", "optim.lr=1")
    assert got == ["finetune", "er", "a b.pt", "--config=a.yaml", "--optim.lr=1"]


def test_config_shows_what_the_other_goal_would_take() -> None:
    got = passed("config", "TASK=asv", "UPSTREAM=fbank", "seed=1")
    assert got == ["config", "asv", "fbank", "--seed=1"]
    shown, nothing = command("config", "finetune", "TASK=er").splitlines()
    assert shown.split() == ["python", "-m", "recipes.cli", "config", "finetune", "'TASK=er'"]
    assert nothing.startswith(":")


def test_sweep_passes_what_was_typed() -> None:
    got = passed("sweep", "TASK=asv", "LOCAL=1", "COUNT=3", "optim.total_updates=5")
    assert got == ["sweep", "asv", "--count=3", "--local", "--", "--optim.total_updates=5"]


def test_words_of_the_environment_reach_the_programs_that_take_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASK", "asv")
    monkeypatch.setenv("OUT", "elsewhere")
    assert passed("superb")[:2] == ["superb", "asv"]
    assert passed("pretrain") == ["pretrain", "--config=configs/pretrain/mini.yaml"]


def test_quotes_in_a_value_do_not_reach_the_shell() -> None:
    assert command("pretrain", "data.root=it's; ls").split(maxsplit=4)[4] == (
        "'data.root=it'\\''s; ls'"
    )
    assert passed("pretrain", "data.root=it's; ls")[2] == "--data.root=it's; ls"


def test_every_target_for_people_is_explained_by_help() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in "setup pretrain superb sweep table labels manifest config test check".split():
        assert f"\n{target} " in "\n" + text.stdout


def test_gpu_check_passes_its_words_on_and_can_run_without_a_gpu() -> None:
    assert command("gpu-check", "seconds=200") == "python -m benchmarks.gpu_check '--seconds=200'"
    dry = command("gpu-check", "DRY=1")
    assert dry == "python -m benchmarks.gpu_check --sizes=base --out=.cache/gpu-check --dry"


def test_bench_passes_its_words_on() -> None:
    got = command("bench", "runs=2", "parts=time,memory")
    assert got == "python -m benchmarks.bench '--parts=time,memory' '--runs=2'"


@pytest.mark.parametrize("word", ["CONFIG=x; touch y", "COUNT=1; touch y", "TASK=$(touch y)"])
def test_values_of_upper_case_words_do_not_reach_the_shell(word: str) -> None:
    for target in ("pretrain", "config", "sweep", "superb"):
        for line in command(target, word).splitlines():
            outside = "".join(line.split("'")[::2])  # what stands between quotes is left out
            assert "touch" not in outside


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("UPSTREM=fbank", "UPSTREM is not a word of this Makefile: the nearest one is UPSTREAM"),
        ("TASKS=asv", "the nearest one is TASK"),
        ("Optim.lr=3", "configuration is in lower case, say optim.lr"),
        ("QQQQQQ=1", "QQQQQQ is not a word of this Makefile: there are PYTHON, EXTRAS"),
    ],
)
def test_a_misspelt_word_of_make_is_an_error(word: str, wanted: str) -> None:
    done = subprocess.run(
        ["make", "-n", "superb", "TASK=asv", word], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert wanted in done.stderr


def test_what_comes_from_the_environment_is_said() -> None:
    done = subprocess.run(
        ["make", "-n", "-o", ".venv/.run", "superb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"UPSTREAM": "fbank"},
    )
    assert "note: UPSTREAM=fbank is taken from the environment" in done.stderr
    assert "'UPSTREAM=fbank'" in done.stdout
