# SPDX-License-Identifier: Apache-2.0
"""Folders that a task can use and must not pass over in silence: counted, told, scored right."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning.recipes.report.__main__ import main as table

from .test_bad_task_input import good_rows, write_rows
from .test_superb import SMALL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A manifest folder of a second each, every recording another sound."""
    from tests.conftest import write_speech

    root = tmp_path / "mine"
    for i in range(12):
        write_speech(root / f"{i}.wav", 1.0, seed=i)
    write_rows(root, good_rows())
    return root


def run(task: str, folder: Path, words: list[str], *more: str) -> dict[str, Any]:
    """The result of a task on a folder."""
    small = [f"--{key}={value}" for key, value in SMALL[task].items()]
    argv = [task, "random", *words, *small, f"--data.manifest={folder}", *more]
    assert superb.main(argv) == 0
    results = next(Path(w.partition("=")[2]) for w in words if w.startswith("--run.results="))
    found: dict[str, Any] = json.loads((results / "random" / f"{task}.mine.json").read_text())
    return found


def with_texts(folder: Path, texts: dict[str, str]) -> None:
    """Another text for each split."""
    rows = good_rows()
    for row in rows:
        row["text"] = texts[row["split"]]
    write_rows(folder, rows)


def test_composed_and_decomposed_letters_are_one(
    folder: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    apart = unicodedata.normalize("NFD", "schöner Gruß")
    assert apart != "schöner Gruß"
    with_texts(folder, {"train": "schöner Gruß", "dev": apart, "test": apart})
    got = run("asr", folder, probe_words)
    assert got["counts"]["dev_unknown_symbols"] == got["counts"]["test_unknown_symbols"] == 0
    assert "are not in train" not in capsys.readouterr().out
    lines = next(Path(got["run"]).rglob("test.reference.trn")).read_text().splitlines()
    assert {line.rpartition(" (")[0] for line in lines} == {"SCHÖNER GRUSS"}


def test_symbols_that_only_dev_and_test_have_are_counted_and_told(
    folder: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with_texts(folder, {"train": "a day", "dev": "a däy", "test": "ß ñ day"})
    got = run("asr", folder, probe_words)
    assert got["counts"]["dev_unknown_symbols"] == 3  # one each of three
    assert got["counts"]["test_unknown_symbols"] == 3  # ß becomes SS
    said = capsys.readouterr().out
    assert "warning: 3 symbols of dev are not in train, and count as errors, such as in u6" in said


def test_where_no_text_has_a_space_characters_count(
    folder: Path, probe_words: list[str], scores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_texts(folder, {"train": "今天天气", "dev": "天气", "test": "今天"})
    got = run("asr", folder, probe_words)
    assert (got["headline"], got["selected_on"]) == ("test/cer", "dev/cer")
    assert got["best"][""]["value"] == got["metrics"]["dev/cer"]
    assert got["trivial"]["test/cer"] == 100.0
    assert "no text holds a space: the character error rate counts" in capsys.readouterr().out
    assert table([f"--results={scores}"]) == 0
    text = (scores / "table.md").read_text()
    assert "asr: cer (%) ↓" in text
    assert f"cer {got['metrics']['test/cer']:.2f}" in text


@pytest.mark.parametrize("task", ["er", "sid", "asr"])
def test_unusable_recordings_are_left_out_and_counted_if_that_is_wanted(
    folder: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str], task: str
) -> None:
    if task == "asr":
        with_texts(folder, dict.fromkeys(("train", "dev", "test"), "a day"))
    soundfile.write(folder / "0.wav", np.zeros(16_000), 16_000)  # train
    (folder / "9.wav").write_bytes(b"")  # test
    got = run(task, folder, probe_words, "--data.bad_files=drop")
    assert got["counts"]["unusable_recordings"] == 2
    if task == "asr":
        assert got["counts"]["train_utterances"] == 5
        assert got["counts"]["test_utterances"] == 2
    said = capsys.readouterr()
    assert "0.wav: silent" in said.out + said.err
    assert "9.wav: empty file" in said.out + said.err


def test_a_training_recording_that_is_tested_too_is_told(
    folder: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    os.unlink(folder / "9.wav")
    os.link(folder / "0.wav", folder / "9.wav")  # one file by two names
    got = run("ks", folder, probe_words)
    assert got["counts"]["train_utterances_also_in_test"] == 1
    assert got["counts"]["train_utterances_also_in_dev"] == 0
    said = capsys.readouterr().out
    assert "warning: 1 train utterances also in test: scores are too good" in said


def test_classes_that_only_test_has_are_told(
    folder: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = good_rows()
    rows[-1]["label"] = "bored"
    write_rows(folder, rows)
    run("ks", folder, probe_words)
    said = capsys.readouterr().out
    assert "warning: 1 utterances of test have a class that train lacks, such as bored" in said


def test_folds_of_speakers_with_odd_names_stay_in_the_folder_of_the_run(
    folder: Path, probe_words: list[str], tmp_path: Path
) -> None:
    rows, names = good_rows(), ["../../out", "a/b", "my call 3"]
    for i, row in enumerate(rows):
        row["speaker"] = names[i % 3]
    write_rows(folder, rows)
    before = {p for p in tmp_path.rglob("*") if "runs" not in p.parts}
    got = run("er", folder, probe_words)
    assert {k.partition("accuracy.")[2] for k in got["metrics"] if "test/accuracy." in k} == {
        f"speaker{name}" for name in names
    }
    new = {p for p in tmp_path.rglob("*") if "runs" not in p.parts} - before
    kept = ("results", "cache")
    assert all(any(part in p.parts for part in kept) for p in new)
    assert len(list(Path(got["run"]).glob("speaker*/checkpoints/best.ckpt"))) == 3


def test_without_a_look_at_recordings_only_new_ones_are_read(
    folder: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run("ks", folder, probe_words, "--data.check=none")
    assert first["counts"]["unusable_recordings"] == 0
    capsys.readouterr()
    again = run("ks", folder, probe_words, "--data.check=none", "--seed=1")
    assert again["counts"]["train_utterances"] == 6
