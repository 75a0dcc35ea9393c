# SPDX-License-Identifier: Apache-2.0
"""Files for SUPERB's leaderboard: their names and lines, and the archive."""

import io
import re
import zipfile
from pathlib import Path

import h5py
import pytest

import wavlm_lightning.recipes.superb.__main__ as superb
from wavlm_lightning.recipes.report import submission

from .test_superb import result, small

LINES = {  # task -> file and what each line of it is
    "asr": ("asr_public/predict.ark", r"\d+-\d+-\d+ [A-Z' ]*"),
    "asv": ("sv_public/predict.txt", r"id\d+-[\w-]{11}-\d{5}_id\d+-[\w-]{11}-\d{5} -?\d\.\d{6}"),
    "er": ("er_fold1_public/predict.txt", r"Ses01\w+ (neu|hap|ang|sad)"),
    "ic": ("ic_public/predict.csv", r"[\w-]+,[\w ]+,[\w ]+,[\w ]+"),
    "ks": ("ks_public/predict.txt", r"\w+-[\w]+\.wav \w+"),
    "pr": ("pr_public/predict.ark", r"\d+-\d+-\d+ [A-Z0-2 ]*"),
    "sf": ("sf_public/predict.ark", r"\w+-snips-test-\d+ .*"),
    "sid": ("sid_public/predict.txt", r"id\d+-[\w-]{11}-\d{5} id\d{5}"),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, paths: list[str]) -> Path:
    """Every task of the leaderboard on its tiny corpus, on filter banks."""
    folder = tmp_path_factory.mktemp("submission")
    words = [
        *paths,
        "--protocol=mini",
        "--optim.total_updates=1",
        "--run.validate_updates=1",
        "--run.checkpoint_updates=1",
        f"--run.dir={folder / 'runs'}",
        f"--run.results={folder / 'results'}",
        "--cache.gb=0",
        "--data.num_workers=0",
        "--data.batch_size=4",
    ]
    for task in [*LINES, "sd"]:
        assert superb.main([task, "fbank", *words, *small(task)]) == 0
    assert superb.main(["qbe", "fbank", *words]) == 0
    return folder


@pytest.fixture(scope="module")
def archive(results: Path) -> zipfile.ZipFile:
    out = results / "out.zip"
    argv = ["fbank", f"--results={results / 'results'}", f"--out={out}"]
    assert submission.main(argv) == 0
    return zipfile.ZipFile(io.BytesIO(out.read_bytes()))


@pytest.mark.parametrize("task", LINES)
def test_lines_are_as_the_leaderboard_reads_them(
    archive: zipfile.ZipFile, results: Path, task: str
) -> None:
    name, pattern = LINES[task]
    lines = archive.read(f"predict/{name}").decode().splitlines()
    assert all(re.fullmatch(pattern, line) for line in lines), lines[:3]
    if task not in ("asv", "er"):
        assert len(lines) == result(results, task)["counts"]["test_utterances"]


def test_every_fold_of_emotions_is_there(archive: zipfile.ZipFile) -> None:
    names = set(archive.namelist())
    assert {f"predict/er_fold{i}_public/predict.txt" for i in range(1, 6)} <= names


def test_diarization_is_probabilities_in_hdf5(archive: zipfile.ZipFile, results: Path) -> None:
    names = [n for n in archive.namelist() if n.startswith("predict/sd_public/scoring/predictions")]
    assert len(names) == result(results, "sd")["counts"]["test_utterances"]
    with h5py.File(io.BytesIO(archive.read(names[0]))) as file:
        values = file["T_hat"][:]
    assert values.shape[1] == 2
    assert 0 <= values.min() <= values.max() <= 1
    assert archive.read("predict/sd_public/frame_shift") == b"160\n"


def test_detections_are_those_of_test(archive: zipfile.ZipFile) -> None:
    text = archive.read("predict/qbe_public/benchmark.stdlist.xml").decode()
    assert 'termid="quesst14_eval_' in text
    assert "quesst14_dev_" not in text


def test_the_same_results_are_the_same_bytes(results: Path) -> None:
    outs = [results / f"{i}.zip" for i in range(2)]
    for out in outs:
        argv = ["fbank", f"--results={results / 'results'}", f"--out={out}"]
        assert submission.main(argv) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_an_upstream_without_official_results_is_named(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submission.main(["nobody", f"--results={results / 'results'}"]) == 1
    assert "no results of nobody with seed 0 on official corpora" in capsys.readouterr().err
