# SPDX-License-Identifier: Apache-2.0
"""Folders of recordings: each layout from a small tree of it, and what is refused."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from wavlm_lightning.pretrain.corpora import Corpus, ReadOptions, build_corpus, build_noise
from wavlm_lightning.pretrain.manifest import Manifest

Record = Callable[..., Path]
STRICT, LENIENT = ReadOptions(), ReadOptions(bad_files="drop")


def paths(manifest: Manifest) -> list[str]:
    return [manifest[i].path for i in range(len(manifest))]


def spans(manifest: Manifest) -> list[tuple[str, float, float]]:
    """(path, start, stop) of each utterance, in seconds."""
    listed = [manifest[i] for i in range(len(manifest))]
    return [(e.path, e.start / 16_000, (e.start + e.num_samples) / 16_000) for e in listed]


def both(corpus: Corpus) -> list[str]:
    return sorted(paths(corpus.train) + paths(corpus.dev))


# Layouts


@pytest.mark.parametrize("nested", ["", "LibriSpeech/"])
def test_librispeech_is_recognised(tmp_path: Path, record: Record, nested: str) -> None:
    for name in ("train-clean-100/1/2/1-2-0", "train-other-500/3/4/3-4-0", "test-clean/5/6/5-6-0"):
        record(f"{nested}{name}.flac")
    record(f"{nested}dev-clean/7/8/7-8-0.flac")
    record(f"{nested}dev-other/9/10/9-10-0.flac")
    (tmp_path / nested / "train-clean-100/1/2/1-2.trans.txt").write_text("1-2-0 WORDS")
    corpus = build_corpus(tmp_path, STRICT)
    assert corpus.layout == "LibriSpeech"
    assert paths(corpus.train) == [
        f"{nested}train-clean-100/1/2/1-2-0.flac",
        f"{nested}train-other-500/3/4/3-4-0.flac",
    ]
    assert paths(corpus.dev) == [f"{nested}dev-clean/7/8/7-8-0.flac"]
    assert corpus.other_splits == {"dev-other": 1, "test-clean": 1}


def test_librispeech_without_dev_clean_validates_on_dev_other(
    tmp_path: Path, record: Record
) -> None:
    record("train-clean-100/1/2/1-2-0.flac")
    record("dev-other/7/8/7-8-0.flac")
    assert paths(build_corpus(tmp_path, STRICT).dev) == ["dev-other/7/8/7-8-0.flac"]


def test_librilight_is_cut_at_long_silences(tmp_path: Path, record: Record) -> None:
    voiced = [[0.5, 10.0], [11.0, 29.5], [31.0, 50.0]]
    for speaker in ("100", "200"):
        path = record(f"small/{speaker}/a_book/01_part.flac", 16_000 * 55)
        path.with_suffix(".json").write_text(json.dumps({"voice_activity": voiced}))
    corpus = build_corpus(tmp_path, STRICT)
    assert corpus.layout == "Libri-Light"
    path = paths(corpus.train)[0]
    assert spans(corpus.train) == [(path, 0.5, 29.5), (path, 31.0, 50.0)]
    assert len(set(paths(corpus.dev))) == 1


def test_gigaspeech_segments_are_found(tmp_path: Path, record: Record) -> None:
    audios: list[dict[str, Any]] = []
    for name, subset in (("POD1", "{XL}"), ("POD2", "{DEV}"), ("POD3", "{TEST}")):
        path = f"audio/podcast/{name}.ogg"
        record(path, 16_000 * 6)
        segments = [
            {"begin_time": a, "end_time": b, "subsets": [subset]} for a, b in ((0.5, 2), (2, 5.5))
        ]
        audios.append({"path": path, "segments": segments})
    (tmp_path / "GigaSpeech.json").write_text(json.dumps({"audios": audios}))
    corpus = build_corpus(tmp_path, STRICT)
    assert corpus.layout == "GigaSpeech"
    for manifest, name in ((corpus.train, "POD1"), (corpus.dev, "POD2")):
        path = f"audio/podcast/{name}.ogg"
        assert spans(manifest) == [(path, 0.5, 2.0), (path, 2.0, 5.5)]
    assert corpus.other_splits == {"test": 2}


def test_voxpopuli_sessions_are_cut_into_parts_that_cover_them(
    tmp_path: Path, record: Record
) -> None:
    for day in range(2):
        record(f"raw_audios/en/2010/2010010{day}-PLENARY_en.ogg", 16_000 * 70 + 7)
    corpus = build_corpus(tmp_path, STRICT)
    assert corpus.layout == "VoxPopuli"
    for manifest in (corpus.train, corpus.dev):
        entries = [manifest[i] for i in range(len(manifest))]
        assert max(e.num_samples for e in entries) <= 30 * 16_000
        ends = [e.start + e.num_samples for e in entries]
        assert [e.start for e in entries] == [0, *ends[:-1]]
        assert (len(entries), ends[-1]) == (3, 16_000 * 70 + 7)


def test_manifest_folder_keeps_its_splits(tmp_path: Path, record: Record) -> None:
    lines = ["id\tpath\tsplit\ttext"]
    for i, split in enumerate(["train", "dev", "test", "train"]):
        record(f"wavs/{i}.wav")
        lines.append(f'{i}\twavs/{i}.wav\t{split}\ta "quoted word')
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    record("wavs/not listed.wav")
    corpus = build_corpus(tmp_path, STRICT)
    assert corpus.layout == "manifest folder"
    assert paths(corpus.train) == ["wavs/0.wav", "wavs/3.wav"]
    assert (paths(corpus.dev), corpus.other_splits) == (["wavs/1.wav"], {"test": 1})


def test_manifest_folder_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.tsv").write_text("id\tfile\n1\ta.wav\n")
    with pytest.raises(ValueError, match=r"manifest\.tsv: no column path, split; it has id, file"):
        build_corpus(tmp_path, STRICT)


def test_folders_train_and_dev_are_splits(tmp_path: Path, record: Record) -> None:
    for name in ("train/a", "train/deep/b", "dev/c", "test/d"):
        record(f"{name}.wav")
    corpus = build_corpus(tmp_path, STRICT)
    assert paths(corpus.train) == ["train/a.wav", "train/deep/b.wav"]
    assert (paths(corpus.dev), corpus.other_splits) == (["dev/c.wav"], {"test": 1})


@pytest.mark.parametrize("dev", ["dev", "valid"])
def test_fairseq_manifests_keep_their_splits(tmp_path: Path, record: Record, dev: str) -> None:
    for name in ("a", "b", "c"):
        record(f"audio/{name}.wav")
    root = tmp_path / "audio"
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.tsv").write_text(f"{root}\na.wav\t8000\nb.wav\t3000\t5000\n")
    (tmp_path / f"lists/{dev}.tsv").write_text(f"{root}\nc.wav\t8000\n")
    corpus = build_corpus(tmp_path / "lists", STRICT)
    assert corpus.layout == "fairseq manifests"
    assert spans(corpus.train) == [("a.wav", 0.0, 0.5), ("b.wav", 0.3125, 0.5)]
    assert (corpus.train.root, spans(corpus.dev)) == (root, [("c.wav", 0.0, 0.5)])


def test_fairseq_manifests_of_two_roots_are_refused(tmp_path: Path) -> None:
    for name in ("train", "dev"):
        (tmp_path / f"{name}.tsv").write_text(f"/{name}\na.wav\t8000\n")
    with pytest.raises(ValueError, match=r"train\.tsv starts from /train, dev\.tsv from /dev"):
        build_corpus(tmp_path, STRICT)


def test_fairseq_manifest_without_validation_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("/root\na.wav\t8000\n")
    with pytest.raises(FileNotFoundError, match=r"neither dev\.tsv nor valid\.tsv"):
        build_corpus(tmp_path, STRICT)


@pytest.mark.parametrize("nested", ["", "LibriSpeech/"])
def test_librispeech_without_a_dev_set_holds_out_a_share(
    tmp_path: Path, record: Record, nested: str
) -> None:
    for i in range(3):
        record(f"{nested}train-clean-100/1/2/1-2-{i}.flac")
    corpus = build_corpus(tmp_path, STRICT)
    assert (len(corpus.train), len(corpus.dev)) == (2, 1)


def test_share_of_a_plain_folder_is_held_out(tmp_path: Path, record: Record) -> None:
    for i in range(20):
        record(f"{i:02d}.wav")
    corpus = build_corpus(tmp_path, ReadOptions(dev_share=0.15))
    assert (len(corpus.train), len(corpus.dev)) == (17, 3)
    assert both(corpus) == [f"{i:02d}.wav" for i in range(20)]


def test_many_folders_are_held_out_whole(tmp_path: Path, record: Record) -> None:
    for speaker in range(10):
        for i in range(3):
            record(f"{speaker}/{i}.wav")
    corpus = build_corpus(tmp_path, ReadOptions(dev_share=0.2))
    train, dev = ({Path(p).parent for p in paths(m)} for m in (corpus.train, corpus.dev))
    assert (len(train), len(dev), len(train & dev)) == (8, 2, 0)


def test_held_out_share_depends_on_the_seed_alone(tmp_path: Path, record: Record) -> None:
    for i in range(20):
        record(f"{i:02d}.wav")
    chosen = [
        paths(build_corpus(tmp_path, ReadOptions(dev_share=0.2), seed=s).dev) for s in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "WAV"])
def test_format_is_found_by_its_suffix(tmp_path: Path, record: Record, suffix: str) -> None:
    for i in range(2):
        record(f"{i}.{suffix}", 16_000)
    (tmp_path / "notes.txt").write_text("no audio")
    assert both(build_corpus(tmp_path, STRICT)) == [f"0.{suffix}", f"1.{suffix}"]


@pytest.mark.parametrize("check", ["full", "header"])
def test_stereo_at_another_rate_has_its_length_at_16_khz(
    tmp_path: Path, record: Record, check: Any
) -> None:
    for i in range(2):
        record(f"{i}.wav", 22_050, rate=44_100, channels=2)
    corpus = build_corpus(tmp_path, ReadOptions(check=check))
    for manifest in (corpus.train, corpus.dev):
        assert manifest.num_samples.tolist() == [8_000]
        assert manifest.read(0).shape == (8_000,)


# Files that cannot be used


def spoil(path: Path, kind: str) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("this is not audio, whatever its name says")
    elif kind == "no samples":
        soundfile.write(str(path), np.zeros(0, np.float32), 16_000)
    else:
        value = {"NaN": np.nan, "silent": 0.0}[kind]
        waveform = np.full(8_000, value, np.float32)
        soundfile.write(str(path), waveform, 16_000, subtype="FLOAT")


KINDS = {
    "empty": "empty file",
    "text": "not readable as audio",
    "no samples": "empty, 0 samples",
    "NaN": "NaN or infinite samples",
    "silent": "silent, all 8000 samples are the same",
}


@pytest.mark.parametrize(("kind", "reason"), KINDS.items())
def test_unusable_file_is_an_error_with_count_and_reason(
    tmp_path: Path, record: Record, kind: str, reason: str
) -> None:
    for i in range(3):
        record(f"{i}.wav")
    spoil(tmp_path / "1.wav", kind)
    message = rf"1 of 3 files cannot be used: .*1\.wav: {reason}.*data\.bad_files=drop"
    with pytest.raises(ValueError, match=message):
        build_corpus(tmp_path, STRICT)


def test_unusable_files_are_dropped_and_counted(tmp_path: Path, record: Record) -> None:
    for i in range(3):
        record(f"good{i}.wav")
    for kind in KINDS:
        spoil(tmp_path / f"{kind}.wav", kind)
    corpus = build_corpus(tmp_path, ReadOptions(bad_files="drop", dev_share=0.5))
    assert both(corpus) == ["good0.wav", "good1.wav", "good2.wav"]
    assert set(corpus.bad) == {f"{kind}.wav" for kind in KINDS}
    assert all(reason in corpus.bad[f"{kind}.wav"] for kind, reason in KINDS.items())


def test_unusable_file_does_not_take_the_place_of_the_held_out_share(
    tmp_path: Path, record: Record
) -> None:
    for i in range(5):
        record(f"{i}.wav")
    (held_out,) = paths(build_corpus(tmp_path, STRICT).dev)
    spoil(tmp_path / held_out, "empty")
    corpus = build_corpus(tmp_path, LENIENT)
    assert (len(corpus.train), len(corpus.dev)) == (3, 1)


def test_report_says_what_was_left_out(tmp_path: Path, record: Record) -> None:
    for name in ("train/a", "train/b", "dev/c", "test/d"):
        record(f"{name}.wav")
    spoil(tmp_path / "train/b.wav", "empty")
    report = build_corpus(tmp_path, LENIENT).report()
    assert "train 1 utterances" in report
    assert "left out, other splits: test 1" in report
    assert "left out, unusable: 1 files" in report


def test_header_check_does_not_decode(tmp_path: Path, record: Record) -> None:
    for i in range(2):
        record(f"{i}.wav")
        spoil(tmp_path / f"{i}.wav", "silent")
    assert len(both(build_corpus(tmp_path, ReadOptions(check="header")))) == 2


def test_file_that_the_list_names_and_the_folder_lacks_is_an_error(
    tmp_path: Path, record: Record
) -> None:
    record("a.wav")
    (tmp_path / "manifest.tsv").write_text("path\tsplit\na.wav\ttrain\nb.wav\tdev\n")
    with pytest.raises(ValueError, match=r"1 of 2 files .*b\.wav: no such file"):
        build_corpus(tmp_path, STRICT)


def test_progress_counts_every_file(tmp_path: Path, record: Record) -> None:
    for i in range(5):
        record(f"{i}.wav")
    seen: list[tuple[int, int]] = []
    build_corpus(tmp_path, STRICT, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 5) for i in range(1, 6)]


def test_folder_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(ValueError, match=r"no audio found \(folder of audio\); formats: \.wav"):
        build_corpus(tmp_path, STRICT)


def test_missing_folder_is_refused_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder: say data\.root=DIR"):
        build_corpus(tmp_path / "nowhere", STRICT)


def test_single_file_is_refused(tmp_path: Path, record: Record) -> None:
    record("a.wav")
    with pytest.raises(ValueError, match=r"for split dev .* at least two files are wanted"):
        build_corpus(tmp_path, STRICT)


# Noise


def test_noise_without_splits_serves_both(tmp_path: Path, record: Record) -> None:
    record("a.wav")
    record("b.wav")
    noise = build_noise(tmp_path, STRICT)
    assert paths(noise.train) == paths(noise.dev) == ["a.wav", "b.wav"]


def test_noise_with_splits_keeps_them(tmp_path: Path, record: Record) -> None:
    for split in ("train", "dev", "test"):
        record(f"{split}/a.wav")
    noise = build_noise(tmp_path, STRICT)
    assert (paths(noise.train), paths(noise.dev)) == (["train/a.wav"], ["dev/a.wav"])


def test_noise_without_a_usable_clip_is_refused(tmp_path: Path) -> None:
    spoil(tmp_path / "a.wav", "silent")
    with pytest.raises(ValueError, match="no usable noise clip, 1 unusable"):
        build_noise(tmp_path, LENIENT)


def test_every_recording_behind_links_counts_once(tmp_path: Path, record: Record) -> None:
    for speaker in ("a", "b", "c"):
        for i in range(2):
            record(f"speech/{speaker}/{i}.wav", seed=ord(speaker) + i)
    speech = tmp_path / "speech"
    (speech / "favourites").symlink_to("a")
    (speech / "self").symlink_to(".")
    (speech / "b" / "again.wav").symlink_to("../c/0.wav")
    os.link(speech / "c" / "1.wav", speech / "c" / "2.wav")
    (speech / "gone.wav").symlink_to("nowhere.wav")
    record("elsewhere/d.wav", seed=9)
    (speech / "more").symlink_to("../elsewhere")
    corpus = build_corpus(speech, STRICT)
    wanted = [f"{s}/{i}.wav" for s in "abc" for i in range(2)] + ["more/d.wav"]
    assert sorted(paths(corpus.train) + paths(corpus.dev)) == wanted
    assert corpus.left_out == {"further names of recordings and folders": 5}
    assert "left out: 5 further names of recordings and folders (such as" in corpus.report()


def test_splits_of_links_into_a_pool_are_read(tmp_path: Path, record: Record) -> None:
    for i in range(4):
        record(f"pool/{i}.wav", seed=i)
        split = tmp_path / "speech" / ("dev" if i == 3 else "train")
        split.mkdir(parents=True, exist_ok=True)
        (split / f"{i}.wav").symlink_to(f"../../pool/{i}.wav")
    corpus = build_corpus(tmp_path / "speech", STRICT)
    assert paths(corpus.train) == ["train/0.wav", "train/1.wav", "train/2.wav"]
    assert paths(corpus.dev) == ["dev/3.wav"]
    assert corpus.in_dev == []


def test_files_that_are_not_read_are_counted_by_their_ending(
    tmp_path: Path, record: Record
) -> None:
    for i in range(3):
        record(f"{i}.wav", seed=i)
    for name in ("x.m4a", "y.M4A", "z.aac", "notes.txt", "cover.jpg"):
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "._0.wav").write_bytes(b"what another system leaves beside a file")
    corpus = build_corpus(tmp_path, STRICT)
    assert len(corpus.train) + len(corpus.dev) == 3
    assert corpus.left_out == {
        ".m4a": 2,
        ".aac": 1,
        "pipes and other special files": 1,
        "hidden files and folders": 1,
    }
    assert "2 .m4a files, which are not read: convert them, to .flac (such as x.m4a)" in (
        corpus.report()
    )


def test_a_folder_of_unread_files_alone_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.m4a").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"no audio found .*1 \.m4a files, which are not read"):
        build_corpus(tmp_path, STRICT)


def test_sphere_files_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a.sph", "b.nist", "c.SPH"):
        samples = 0.1 * rng.standard_normal(16_000)
        soundfile.write(tmp_path / name, samples, 16_000, format="NIST", subtype="PCM_16")
    corpus = build_corpus(tmp_path, STRICT)
    assert sorted(paths(corpus.train) + paths(corpus.dev)) == ["a.sph", "b.nist", "c.SPH"]


def test_a_recording_in_train_and_dev_is_counted(tmp_path: Path, record: Record) -> None:
    for i in range(3):
        record(f"train/{i}.wav", seed=i)
    record("dev/other.wav", seed=9)
    shutil.copy(tmp_path / "train" / "1.wav", tmp_path / "dev" / "copy.wav")
    corpus = build_corpus(tmp_path, STRICT)
    assert corpus.in_dev == ["train/1.wav"]
    assert "warning: 1 utterances of train are in dev too, such as train/1.wav" in corpus.report()


def test_parts_of_one_recording_in_two_splits_are_no_leak(tmp_path: Path, record: Record) -> None:
    record("audio/a.wav", 16_000, seed=1)
    (tmp_path / "train.tsv").write_text(f"{tmp_path}/audio\na.wav\t8000\t0\n")
    (tmp_path / "dev.tsv").write_text(f"{tmp_path}/audio\na.wav\t8000\t8000\n")
    assert build_corpus(tmp_path, STRICT).in_dev == []
    (tmp_path / "dev.tsv").write_text(f"{tmp_path}/audio\na.wav\t8000\t7999\n")
    assert build_corpus(tmp_path, STRICT).in_dev == ["a.wav"]
