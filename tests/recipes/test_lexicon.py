# SPDX-License-Identifier: Apache-2.0
"""`make lexicon`: words that no lexicon has are spelled, and PR then finds all."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora import lexicon
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.recipes.mini.pronounce import pronounced
from wavlm_lightning.recipes.superb.lexicon import main

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
NAME = "librispeech-lexicon.txt"


@pytest.fixture
def root(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LibriSpeech that may be changed."""
    made = superb_corpus("librispeech", tmp_path_factory.mktemp("corpora"), tiny=True)
    return Path(shutil.copytree(made, tmp_path / "LibriSpeech"))


def test_words_have_stress_and_do_not_depend_on_workers() -> None:
    words = ["WORLD", "university", "don't", *(f"{w}S" for w in ("CAT", "DOG", "BOOK"))]
    one, failed = pronounced(words, num_workers=1)
    assert one == pronounced(words, num_workers=2)[0]
    assert one["WORLD"] == ["W", "ER1", "L", "D"]
    assert one["university"][-3:] == ["S", "IH0", "T", "IY0"][1:]
    assert one["don't"] == ["D", "OW1", "N", "T"]
    assert not failed


def test_what_cannot_be_said_is_counted_and_left_out() -> None:
    found, failed = pronounced(["CAT", "--"], num_workers=1)
    assert list(found) == ["CAT"]
    assert failed == {"--": "eSpeak said nothing"}


def test_only_words_of_no_other_lexicon_are_spelled(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = lexicon.read([root / NAME])
    lines = (root / NAME).read_text().splitlines(keepends=True)
    (root / NAME).write_text("".join(lines[3:]))
    assert main([f"--root={root}"]) == 0
    assert lexicon.read([root / "lexicon-g2p.txt"]) == dict(list(whole.items())[:3])
    out = capsys.readouterr().out
    assert f"{len(whole)} different words, {len(whole) - 3} of them in {NAME}" in out
    assert "spelled by eSpeak NG: 3" in out


def test_all_are_spelled_without_a_lexicon(root: Path, tmp_path: Path) -> None:
    whole = lexicon.read([root / NAME])
    (root / NAME).unlink()
    assert main([f"--root={root}", f"--out={tmp_path / 'own.txt'}"]) == 0
    assert lexicon.read([tmp_path / "own.txt"]) == whole
    assert not (root / "lexicon-g2p.txt").exists()


def test_a_folder_without_splits_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--root={tmp_path / 'nowhere'}"]) == 1
    assert "no transcripts at train-clean-100/" in capsys.readouterr().err
