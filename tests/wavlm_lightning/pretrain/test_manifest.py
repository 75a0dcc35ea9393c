# SPDX-License-Identifier: Apache-2.0
"""Manifests: written and read back, filtered, refused, fingerprinted."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavlm_lightning.pretrain.manifest import (
    Entry,
    Manifest,
    Strings,
    drop_short,
    read_manifest,
    write_manifest,
)

FILES = [Entry("a/1.flac", 40_000), Entry("b/ünï code.wav", 31_999), Entry("c.ogg", 32_000)]
PARTS = [Entry("a.flac", 100, 0), Entry("a.flac", 250, 4_000)]


def entries(manifest: Manifest) -> list[Entry]:
    return [manifest[i] for i in range(len(manifest))]


@pytest.mark.parametrize("listed", [FILES, PARTS])
def test_manifest_is_read_back_as_written(tmp_path: Path, listed: list[Entry]) -> None:
    write_manifest(Manifest(tmp_path, listed), tmp_path / "lists" / "train.tsv")
    back = read_manifest(tmp_path / "lists" / "train.tsv")
    assert (back.root, entries(back)) == (tmp_path, listed)


def test_whole_files_are_written_in_fairseqs_two_columns(tmp_path: Path) -> None:
    write_manifest(Manifest(tmp_path, FILES), tmp_path / "train.tsv")
    root, *lines = (tmp_path / "train.tsv").read_text(encoding="utf-8").splitlines()
    assert root == str(tmp_path)
    assert lines == ["a/1.flac\t40000", "b/ünï code.wav\t31999", "c.ogg\t32000"]


def test_fairseq_manifest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("/corpora/LibriSpeech\ndev/1.flac\t100\ndev/2.flac\t200\n")
    manifest = read_manifest(path)
    assert manifest.path(1) == Path("/corpora/LibriSpeech/dev/2.flac")
    np.testing.assert_array_equal(manifest.num_samples, [100, 200])


@pytest.mark.parametrize(
    "line", ["a.wav", "a.wav\tlong", "a.wav\t-3", "a.wav\t1.5", "a.wav\t1\t2\t3", "", "a.wav 100"]
)
def test_bad_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(f"/root\ngood.wav\t100\n{line}\nlast.wav\t100\n")
    with pytest.raises(ValueError, match=r"train\.tsv: line 3 must be a path"):
        read_manifest(path)


@pytest.mark.parametrize("text", ["", "a.wav\t100\nb.wav\t100\n"])
def test_manifest_without_a_root_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match="line 1 must be the root folder"):
        read_manifest(path)


def test_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no manifest at .*train\.tsv"):
        read_manifest(tmp_path / "train.tsv")


def test_part_of_a_file_is_read(tmp_path: Path) -> None:
    ramp = np.arange(1_000) / 2_000
    soundfile.write(str(tmp_path / "a.wav"), ramp, 16_000, subtype="FLOAT")
    manifest = Manifest(tmp_path, [Entry("a.wav", 500, 300)])
    wanted = torch.from_numpy(ramp[310:330]).float()
    torch.testing.assert_close(manifest.read(0, 10, 30), wanted)
    torch.testing.assert_close(manifest.read(0), torch.from_numpy(ramp[300:800]).float())


def test_part_is_named_with_its_start() -> None:
    assert [e.name for e in PARTS] == ["a.flac", "a.flac@4000"]


def test_short_utterances_are_dropped_and_counted(tmp_path: Path) -> None:
    filtered = drop_short(Manifest(tmp_path, FILES), 32_000)
    assert entries(filtered.manifest) == [FILES[0], FILES[2]]
    np.testing.assert_array_equal(filtered.kept, [0, 2])
    assert (filtered.too_short, filtered.too_short_seconds) == (1, pytest.approx(1.9999375))


def test_report_says_how_many_were_dropped(tmp_path: Path) -> None:
    report = drop_short(Manifest(tmp_path, FILES), 32_000).report("train")
    assert report == "train: 2 utterances, 0.00 h; 1 dropped as too short (2 s)"


@pytest.mark.parametrize("listed", [FILES, []])
def test_nothing_left_is_refused(tmp_path: Path, listed: list[Entry]) -> None:
    with pytest.raises(ValueError, match=rf"none of {len(listed)} .* lower data\.min_samples"):
        drop_short(Manifest(tmp_path, listed), 50_000)


def test_fingerprint_ignores_the_root() -> None:
    here, there = Manifest(Path("/a"), FILES), Manifest(Path("/b"), FILES)
    assert here.fingerprint() == there.fingerprint()


@pytest.mark.parametrize(
    "listed",
    [
        FILES[::-1],
        FILES[:2],
        [Entry("other", 40_000), *FILES[1:]],
        [Entry("a/1.flac", 40_001), *FILES[1:]],
        [Entry("a/1.flac", 40_000, 1), *FILES[1:]],
    ],
)
def test_fingerprint_knows_order_paths_lengths_and_starts(listed: list[Entry]) -> None:
    whole, other = Manifest(Path("/a"), FILES), Manifest(Path("/a"), listed)
    assert whole.fingerprint() != other.fingerprint()


def test_hours_are_those_of_all_utterances(tmp_path: Path) -> None:
    assert Manifest(tmp_path, [Entry("a", 16_000 * 1_800)] * 3).hours == pytest.approx(1.5)


def test_strings_are_kept_as_they_are() -> None:
    strings = ["", "a", "ünï", "", "b\tc"]
    assert list(Strings(strings)) == strings
