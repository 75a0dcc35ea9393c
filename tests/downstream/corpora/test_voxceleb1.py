# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb1: a miniature of its layout, its trials, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from wavlm_lightning.downstream.corpora.corpus import Trial
from wavlm_lightning.downstream.corpora.voxceleb1 import (
    Identification,
    Verification,
    segments,
    trials,
)

Record = Callable[..., Path]
DEV = ("id10001/aaaaaaaaaaa/00001.wav", "id10001/bbbbbbbbbbb/00001.wav")
TEST = ("id10270/ccccccccccc/00001.wav", "id10271/ddddddddddd/00004.wav")


@pytest.fixture
def corpus(tmp_path: Path, record: Record) -> Path:
    for part, names in (("dev", DEV), ("test", TEST)):
        for name in names:
            record(f"{part}/wav/{name}")
    (tmp_path / "veri_test.txt").write_text(f"1 {TEST[0]} {TEST[0]}\n0 {TEST[0]} {TEST[1]}\n")
    return tmp_path


def test_segments_of_both_parts_are_found_by_their_ids(corpus: Path) -> None:
    assert list(segments(corpus)) == [*DEV, *TEST]


def test_both_archives_may_lie_in_one_folder(tmp_path: Path, record: Record) -> None:
    for name in (*DEV, *TEST):
        record(f"wav/{name}")
    assert list(segments(tmp_path)) == [*DEV, *TEST]


def test_speaker_and_video_are_folders_of_a_recording(corpus: Path) -> None:
    found = {r.id: r for r in Verification(corpus).recordings()}
    assert found[DEV[1]].speaker == "id10001"
    assert found[DEV[1]].extra == {"session": "id10001/bbbbbbbbbbb"}


def test_verification_trains_on_speakers_who_are_in_no_trial(corpus: Path, record: Record) -> None:
    record("test/wav/id10270/eeeeeeeeeee/00001.wav")  # of a tested speaker, in no trial
    found = Verification(corpus).recordings()
    assert [(r.id, r.split) for r in found] == [
        *[(name, "train") for name in DEV],
        *[(name, "test") for name in TEST],
    ]


def test_recordings_of_trials_that_are_missing_are_named(corpus: Path) -> None:
    (corpus / "test" / "wav" / TEST[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 recordings of the trials .* id10271"):
        Verification(corpus).recordings()


def test_identification_has_the_splits_of_its_list(corpus: Path) -> None:
    lines = [f"3 {DEV[0]}", f"1 {DEV[1]}", f"2 {TEST[0]}"]
    (corpus / "iden_split.txt").write_text("\n".join(lines) + "\n")
    found = Identification(corpus).recordings()
    assert [(r.id, r.split) for r in found] == [
        (DEV[1], "train"),
        (TEST[0], "dev"),
        (DEV[0], "test"),
    ]


def test_paths_are_those_of_the_recordings(corpus: Path) -> None:
    assert segments(corpus)[TEST[1]] == corpus / "test" / "wav" / TEST[1]


def test_trials_are_read_in_their_order(corpus: Path) -> None:
    assert trials(corpus) == [Trial(True, TEST[0], TEST[0]), Trial(False, TEST[0], TEST[1])]


def test_list_of_trials_may_have_the_name_s3prl_gives_it(corpus: Path) -> None:
    (corpus / "veri_test.txt").rename(corpus / "voxceleb1_test_v2.txt")
    assert len(trials(corpus)) == 2


def test_folder_without_recordings_is_named(tmp_path: Path) -> None:
    (tmp_path / "vox1_dev_wav").mkdir()
    with pytest.raises(
        FileNotFoundError,
        match=r"paths\.voxceleb1=.*: no recordings at dev/wav/.*; it holds vox1_dev_wav$",
    ):
        segments(tmp_path)


def test_empty_folder_is_said_to_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        segments(tmp_path)


def test_long_folder_is_listed_in_part(tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"part{i}").mkdir()
    with pytest.raises(FileNotFoundError, match=r"part0, part1, .*part5 \.\.\.$"):
        segments(tmp_path)


def test_missing_list_of_trials_is_named(corpus: Path) -> None:
    (corpus / "veri_test.txt").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"no list of trials, veri_test\.txt or voxceleb1_test_v2\.txt; it holds dev, test$",
    ):
        trials(corpus)


@pytest.mark.parametrize("line", ["1 a/b/c.wav", "2 a/b/c.wav d/e/f.wav", "a/b/c d/e/f 1", ""])
def test_broken_trial_is_named_by_its_line(corpus: Path, line: str) -> None:
    with (corpus / "veri_test.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"veri_test\.txt, line 3: must be `0\|1 path path` \(got"):
        trials(corpus)
