# SPDX-License-Identifier: Apache-2.0
"""Rubbish in: one line that says what, where and what to do, before training starts."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import write_speech
from wavlm_lightning.recipes.pretrain.__main__ import main

pytestmark = pytest.mark.bad_input
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A small folder of good recordings that a test may spoil."""
    root = tmp_path / "speech"
    for i in range(6):
        write_speech(root / "train" / f"{i}.wav", 2.2, seed=i)
    write_speech(root / "dev" / "0.wav", 2.2, seed=9)
    return root


def write(samples: np.ndarray) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, samples.astype(np.float32), 16_000, subtype="FLOAT")


SPOILED = {
    "empty file": lambda path: path.write_bytes(b""),
    "not readable as audio": lambda path: path.write_text("no sound at all"),
    "empty, 0 samples": write(np.zeros(0)),
    "silent, all 40000 samples": write(np.zeros(40_000)),
    "NaN or infinite": write(np.full(40_000, np.nan)),
}


def refuse(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command ends with."""
    capsys.readouterr()
    assert main(words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("reason", SPOILED)
def test_unusable_recording_is_named_with_its_reason(
    reason: str, words: list[str], speech: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SPOILED[reason](speech / "train" / "bad.wav")
    line = refuse([*words, f"--data.root={speech}"], capsys)
    assert "1 of 8 files cannot be used" in line
    assert "bad.wav" in line
    assert reason in line
    assert "bad_files=drop" in line


def test_dropped_recordings_are_counted_in_the_result(
    words: list[str], speech: Path, tmp_path: Path
) -> None:
    (speech / "train" / "bad.wav").write_bytes(b"")
    write_speech(speech / "train" / "short.wav", 0.5, seed=3)
    assert (
        main(
            [
                *words,
                f"--data.root={speech}",
                "--data.bad_files=drop",
                "--iterations=[]",
                "--labels.features=mfcc",
            ]
        )
        == 0
    )
    folder = tmp_path / "runs" / "tiny" / "latest"
    counts = json.loads((folder / "result.json").read_text())["counts"]
    assert counts["unusable_files"] == 1
    assert counts["train_too_short"] == 1
    assert counts["train_utterances"] == 6
    assert "bad.wav" in (folder / "manifests" / "unusable.tsv").read_text()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        (["--optim.lrr=1"], "optim.lrr is not a configuration key; the nearest one is optim.lr"),
        (["--optim.lr=fast"], "optim.lr must be a number (got fast)"),
        (["--data.root=nowhere"], "nowhere is not a folder"),
        (["--data.min_samples=480000"], "data.min_samples=480000 is above data.max_samples=48000"),
        (["--data.min_samples=110000", "--data.max_samples=110000"], "lower data.min_samples"),
        (["--data.seconds_per_batch=1"], "less than one utterance"),
        (["--data.audio_seconds_per_update=9000"], "lower data.audio_seconds_per_update"),
        (["--labels.folders=[nowhere]"], "no labels or teacher at nowhere"),
        (["--labels.teacher=nowhere.ckpt"], "no labels or teacher at nowhere.ckpt"),
        (["--labels.num_clusters=100000"], "(got 100000). Lower it"),
        (["--labels.layer=9"], "labels.layer=9: the teacher has layers 1 to 2"),
        (["--data.noise=null"], "mixing.noise_prob=0.3 needs noise"),
        (["--iterations=[]"], "labels.features=hidden needs a teacher"),
        (["--model.num_heads=5"], "model.dim=32 is not a multiple of model.num_heads=5"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_setting_is_refused_in_one_line(
    changes: list[str], wanted: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert wanted in refuse([*words, *changes], capsys)


def test_label_count_that_does_not_fit_names_the_utterance(
    words: list[str], mfcc_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offsets = np.load(mfcc_labels / "train.offsets.npy")
    offsets[3:] -= 30
    np.save(mfcc_labels / "train.offsets.npy", offsets)
    line = refuse([*words, f"--labels.folders=[{mfcc_labels}]"], capsys)
    assert "train/02.wav has" in line
    assert "run make labels again" in line


def test_missing_label_file_is_named(
    words: list[str], mfcc_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (mfcc_labels / "dev.labels.npy").unlink()
    line = refuse([*words, f"--labels.folders=[{mfcc_labels}]"], capsys)
    assert "dev.labels.npy is missing" in line


def test_labels_of_two_quantizers_are_refused(
    words: list[str], mfcc_labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mfcc_labels / "labels.json"
    about = json.loads(path.read_text())
    about["splits"]["dev"]["quantizer_sha256"] = "0" * 64
    path.write_text(json.dumps(about))
    line = refuse([*words, f"--labels.folders=[{mfcc_labels}]"], capsys)
    assert "different codebooks" in line


@pytest.mark.slow
def test_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(
    words: list[str], mfcc_labels: Path, tmp_path: Path
) -> None:
    words = [*words, f"--labels.folders=[{mfcc_labels}]", "--model.ffn_dim=4096"]

    def no_large_files() -> None:  # a checkpoint of this model has about 6 MB
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [sys.executable, "-m", "wavlm_lightning.recipes.pretrain", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=no_large_files,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    checkpoints = tmp_path / "runs" / "tiny" / "latest" / "checkpoints"
    assert not list(checkpoints.glob("*.ckpt"))


def test_labels_of_other_settings_are_not_taken_for_new_ones(
    mfcc_labels: Path, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from wavlm_lightning.recipes.pretrain.labels import main as label

    words = [f"--root={recordings / 'speech'}", f"--out={mfcc_labels}", "--features=mfcc"]
    capsys.readouterr()
    assert label([*words, "--num_clusters=7"]) == 1
    assert "write to another folder, or remove this one" in capsys.readouterr().err


def test_teacher_without_the_layer_is_refused_before_it_is_trained(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refuse([*words, "--labels.layer=3"], capsys)
    assert "labels.layer=3: the teacher has layers 1 to 2" in line
    assert not (tmp_path / "runs").exists()
