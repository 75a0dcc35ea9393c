# SPDX-License-Identifier: Apache-2.0
"""The mini corpora of SUPERB's tasks: official layouts, disjoint speakers, exact annotation."""

import csv
import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_lightning.recipes.mini import NAMES, iemocap, librimix, store, superb_corpus, voxceleb1

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
SPLITS = {"train-100": 6, "dev": 3, "test": 3}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("superb")


@pytest.fixture(scope="module")
def vox(cache: Path) -> Path:
    return superb_corpus("voxceleb1", cache, tiny=True)


@pytest.fixture(scope="module")
def emotions(cache: Path) -> Path:
    return superb_corpus("iemocap", cache, tiny=True)


@pytest.fixture(scope="module")
def mixes(cache: Path) -> Path:
    return superb_corpus("librimix", cache, tiny=True)


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def read(path: Path) -> np.ndarray:
    samples, sample_rate = soundfile.read(path, dtype="int16")
    assert (sample_rate, samples.ndim) == (16000, 1)
    return samples.astype(int)


def test_voxceleb_files_lie_as_in_the_real_one(vox: Path) -> None:
    names = [path.relative_to(vox).as_posix() for path in vox.rglob("*.wav")]
    assert len(names) == voxceleb1.TINY.num_utterances == 72
    pattern = re.compile(r"(dev|test)/wav/id1\d{4}/[\w-]{11}/0000\d\.wav")
    assert all(pattern.fullmatch(name) for name in names)
    facts = json.loads((vox.parent / "corpus.json").read_text(encoding="utf-8"))
    assert facts["utterances"] == {"dev": 48, "test": 24}
    assert facts["expected_sha256"] is None


def test_voxceleb_speakers_are_of_one_split(vox: Path) -> None:
    with (vox / "vox1_meta.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    splits = {row["VoxCeleb1 ID"]: row["Set"] for row in rows}
    assert Counter(splits.values()) == {"dev": 8, "test": 4}
    assert {row["Gender"] for row in rows} == {"m", "f"}
    for split in ("dev", "test"):
        folders = {path.name for path in (vox / split / "wav").iterdir()}
        assert folders == {name for name, own in splits.items() if own == split}


def test_voxceleb_utterances_are_long_enough_to_train_on(vox: Path) -> None:
    seconds = [soundfile.info(path).duration for path in vox.rglob("*.wav")]
    assert min(seconds) > 2.2
    assert max(seconds) < 6


def test_trials_are_of_test_files_and_half_are_targets_across_videos(vox: Path) -> None:
    trials = lines(vox / "veri_test.txt")
    assert len({frozenset(trial[1:]) for trial in trials}) == len(trials) == 40
    assert Counter(trial[0] for trial in trials) == {"1": 20, "0": 20}
    for same, one, two in trials:
        assert (vox / "test" / "wav" / one).is_file()
        assert (vox / "test" / "wav" / two).is_file()
        assert (one.split("/")[0] == two.split("/")[0]) == (same == "1")
        assert one.split("/")[1] != two.split("/")[1]


def test_non_target_trials_are_mostly_of_one_sex() -> None:
    clips = [clip for clip in voxceleb1.plan(voxceleb1.Sizes()) if clip.split == "test"]
    sex = {clip.name: clip.speaker.sex for clip in clips}
    trials = voxceleb1.trials(clips, num_trials=1200)
    alike = [sex[one] == sex[two] for same, one, two in trials if not same]
    assert (len(alike), sum(alike)) == (600, 480)


def test_more_trials_than_pairs_are_refused() -> None:
    clips = [clip for clip in voxceleb1.plan(voxceleb1.TINY) if clip.split == "test"]
    with pytest.raises(ValueError, match="1000 trials are more than 4 test speakers give"):
        voxceleb1.trials(clips, num_trials=1000)


def test_identification_hears_every_speaker_in_every_part_and_a_video_in_one(vox: Path) -> None:
    rows = lines(vox / "iden_split.txt")
    found = {path.relative_to(path.parents[2]).as_posix() for path in vox.rglob("*.wav")}
    assert {name for _, name in rows} == found
    assert len(rows) == len(found)
    parts = {(name.split("/")[0], part) for part, name in rows}
    assert parts == {(name.split("/")[0], part) for _, name in rows for part in "123"}
    videos = {(name.rsplit("/", 1)[0], part) for part, name in rows}
    assert len(videos) == len({video for video, _ in videos})


def test_a_video_is_a_channel_of_its_own(vox: Path) -> None:
    """Average spectra differ more between the videos of a speaker than within one."""
    within, between = [], []
    for person in sorted((vox / "dev" / "wav").iterdir()):
        videos = [
            [spectrum_db(path) for path in sorted(video.iterdir())]
            for video in sorted(person.iterdir())
        ]
        within += [np.abs(one - two).mean() for one, two in videos]
        between += [np.abs(videos[a][0] - videos[b][0]).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert np.mean(between) > 1.5 * np.mean(within)


def spectrum_db(path: Path) -> np.ndarray:
    """Mean spectrum (16,) in dB, its mean taken off: levels do not count."""
    samples = read(path)
    frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256] * np.hanning(512)
    bands = (np.abs(np.fft.rfft(frames))[:, :256] ** 2).mean(0).reshape(16, 16).mean(1)
    decibels: np.ndarray = 10 * np.log10(bands)
    return decibels - decibels.mean()


TURN = re.compile(r"\[(\d+\.\d{4}) - (\d+\.\d{4})\]\t(\S+)\t(\w{3})\t\[(\d\.\d{4}, ){2}\d\.\d{4}\]")


def test_iemocap_labels_name_every_wav_and_its_length(emotions: Path) -> None:
    counted = Counter()
    for session in range(1, 6):
        folder = emotions / f"Session{session}"
        for table in (folder / "dialog" / "EmoEvaluation").glob("Ses*.txt"):
            text = table.read_text(encoding="utf-8")
            assert text.startswith("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n[")
            for start, end, name, emotion, _ in TURN.findall(text):
                samples = read(folder / "sentences" / "wav" / table.stem / f"{name}.wav")
                assert abs(float(end) - float(start) - len(samples) / 16000) < 2e-4
                assert 1.5 < len(samples) / 16000 < 5
                counted[(session, emotion)] += 1
    assert counted == {(session, name): 2 for session in range(1, 6) for name in iemocap.STYLES}
    assert len(list(emotions.rglob("*.wav"))) == counted.total() == 70


def test_iemocap_turns_follow_each_other(emotions: Path) -> None:
    for table in emotions.rglob("EmoEvaluation/Ses*.txt"):
        times = [(float(start), float(end)) for start, end, *_ in TURN.findall(table.read_text())]
        assert all(before[1] < after[0] for before, after in pairwise(times))


def test_iemocap_has_a_woman_and_a_man_of_its_own_in_each_session() -> None:
    turns = iemocap.plan(iemocap.Sizes())
    voices = {}
    for turn in turns:
        voice = turn.speech.variant_name.split("r")[0]
        voices.setdefault((turn.session, turn.name.split("_")[-1][0]), set()).add(voice)
    assert len(voices) == 10
    assert len(set.union(*voices.values())) == 10


def test_iemocap_has_improvised_and_scripted_dialogs_in_all_sessions(emotions: Path) -> None:
    for session in range(1, 6):
        names = [path.name for path in (emotions / f"Session{session}/sentences/wav").iterdir()]
        assert all(name.startswith(f"Ses0{session}") for name in names)
        assert {re.sub(r"\d.*", "", name.split("_", 1)[1]) for name in names} == {
            "impro",
            "script",
        }


def test_iemocap_has_files_that_a_careless_glob_trips_over(emotions: Path) -> None:
    tables = list(emotions.rglob("EmoEvaluation/Ses*.txt"))
    for table in tables:
        with pytest.raises(UnicodeDecodeError):
            (table.parent / f"._{table.name}").read_text(encoding="utf-8")
        assert (table.parent / "Categorical" / f"{table.stem}_e2_cat.txt").is_file()


def test_sad_turns_are_slower_and_lower_than_angry_ones() -> None:
    turns = iemocap.plan(iemocap.Sizes())
    sad, angry = (
        np.mean(
            [(turn.speech.speed, turn.speech.pitch) for turn in turns if turn.emotion == name], 0
        )
        for name in ("sad", "ang")
    )
    assert (sad < angry).all()


@pytest.mark.parametrize("split", SPLITS)
def test_mixture_is_the_sum_of_its_sources(mixes: Path, split: str) -> None:
    folder = mixes / "wav16k" / "min" / split
    names = sorted(path.name for path in (folder / "mix_clean").iterdir())
    assert len(names) == SPLITS[split]
    for name in names:
        mixture, *sources = (read(folder / kind / name) for kind in ("mix_clean", "s1", "s2"))
        assert np.abs(mixture - sum(sources)).max() <= 1
        levels = [10 * np.log10(np.mean((source / 32768) ** 2)) for source in sources]
        assert all(-40 < level < -22 for level in levels)


@pytest.mark.parametrize("split", SPLITS)
def test_max_ends_with_the_longer_and_min_with_the_shorter(mixes: Path, split: str) -> None:
    speech = superb_corpus("librispeech", mixes.parents[1], tiny=True)
    for path in (mixes / "wav16k" / "max" / split / "mix_both").iterdir():
        one, two = (
            soundfile.info(next(speech.rglob(f"{name}.flac"))).frames
            for name in path.stem.split("_")
        )
        assert len(read(path)) == max(one, two)
        clean = read(mixes / "wav16k" / "min" / split / "mix_clean" / path.name)
        assert len(clean) == min(one, two)


def test_mixtures_are_of_two_speakers_and_splits_share_none(mixes: Path) -> None:
    speakers: dict[str, set[str]] = {}
    for split in SPLITS:
        for path in (mixes / "wav16k" / "min" / split / "mix_clean").iterdir():
            one, two = (name.split("-")[0] for name in path.stem.split("_"))
            assert one != two
            speakers.setdefault(split, set()).update((one, two))
    assert len(set.union(*speakers.values())) == sum(map(len, speakers.values()))


def test_splits_share_no_noise(mixes: Path) -> None:
    speech = superb_corpus("librispeech", mixes.parents[1], tiny=True)
    noises = {split: librimix._noises(speech.parent / "noise", split) for split in SPLITS}
    assert {split: len(paths) for split, paths in noises.items()} == dict.fromkeys(SPLITS, 10)
    assert len({path for paths in noises.values() for path in paths}) == 30


@pytest.mark.parametrize(("mode", "kind"), [("min", "mix_clean"), ("max", "mix_both")])
def test_metadata_names_all_mixtures_and_their_lengths(mixes: Path, mode: str, kind: str) -> None:
    for split in SPLITS:
        table = mixes / "wav16k" / mode / "metadata" / f"mixture_{split}_{kind}.csv"
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == SPLITS[split]
        for row in rows:
            assert Path(row["mixture_path"]).stem == row["mixture_ID"]
            assert soundfile.info(mixes / row["mixture_path"]).frames == int(row["length"])
            assert ("noise_path" in row) == (mode == "max")


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_rttm_has_two_speakers_within_each_file(mixes: Path, split: str) -> None:
    folder = mixes / "data" / split
    lengths = {name: float(seconds) for name, seconds in lines(folder / "reco2dur")}
    speakers: dict[str, set[str]] = {}
    for tag, name, channel, start, duration, *_, who, _, _ in lines(folder / "rttm"):
        assert (tag, channel) == ("SPEAKER", "1")
        assert 0 < float(start) < float(start) + float(duration) < lengths[name]
        speakers.setdefault(name, set()).add(who)
    for name, path in lines(folder / "wav.scp"):
        assert speakers[name] == {part.split("-")[0] for part in name.split("_")}
        assert abs(lengths[name] - soundfile.info(mixes / path).duration) < 1e-4
    assert len(speakers) == len(lengths)


def test_rttm_is_where_the_speech_is(mixes: Path) -> None:
    """In `min`, whose sources are apart, a speaker is loud in the segments and quiet outside."""
    for name, _ in lines(mixes / "data" / "dev" / "wav.scp"):
        for kind, utterance in zip(("s1", "s2"), name.split("_"), strict=True):
            samples = read(mixes / "wav16k" / "min" / "dev" / kind / f"{name}.wav")
            speaking = np.zeros(len(samples), bool)
            for row in lines(mixes / "data" / "dev" / "rttm"):
                if row[1] == name and row[7] == utterance.split("-")[0]:
                    start, duration = (round(16000 * float(value)) for value in row[3:5])
                    speaking[start : start + duration] = True
            loud, quiet = (np.mean(samples[part] ** 2.0) for part in (speaking, ~speaking))
            assert 10 * np.log10(loud / quiet) > 15


def test_kaldi_tables_agree(mixes: Path) -> None:
    folder = mixes / "data" / "train"
    segments = lines(folder / "segments")
    assert [row[0] for row in lines(folder / "utt2spk")] == [row[0] for row in segments]
    assert len(segments) == len(lines(folder / "rttm"))
    for who, row in zip(lines(folder / "utt2spk"), segments, strict=True):
        assert row[0].startswith(f"{who[1]}_{row[1]}_")


def test_words_with_short_gaps_are_one_segment(tmp_path: Path) -> None:
    source = librimix.Source(tmp_path / "1-2-0003.flac")
    source.__dict__["words"] = [(0.1, 0.5), (0.5, 0.9), (1.05, 1.5), (1.75, 2.0)]
    assert source.segments == [(0.1, 1.5), (1.75, 2.0)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voxceleb1", "iemocap", "librimix"])
def test_one_worker_and_two_make_the_same_corpus(name: str, cache: Path, tmp_path: Path) -> None:
    two = superb_corpus(name, cache, tiny=True, num_workers=2)
    one = superb_corpus(name, tmp_path, tiny=True, num_workers=1)
    assert contents(one.parent) == contents(two.parent)


def contents(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("name", NAMES)
def test_broken_build_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        OSError, match=r"was not made: an eSpeak NG worker failed: .*(EXTRAS=mini|\[mini\])"
    ):
        superb_corpus(name, tmp_path / "cache", tiny=True)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_second_call_makes_nothing(
    cache: Path, vox: Path, emotions: Path, mixes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_make", lambda *_, **__: pytest.fail("made again"))
    roots = [superb_corpus(name, cache, tiny=True) for name in ("voxceleb1", "iemocap", "librimix")]
    assert roots == [vox, emotions, mixes]


def test_another_hash_than_expected_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.metadata, "version", lambda _: "0.2.4")
    recipe = store.Recipe(
        title="mini thing",
        folder="thing",
        num_bytes=1,
        fill=lambda folder: ({}, {}),
        expected_sha256={"0.2.4": "0" * 64},
    )
    _, facts = store.stored(tmp_path, recipe)
    assert facts["sha256"] != facts["expected_sha256"] == "0" * 64
    assert "the mini thing has hash" in caplog.text


def test_unknown_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no mini corpus 'timit': choose one of librispeech, librimix"
    ):
        superb_corpus("timit", tmp_path)


def test_command_line_refuses_an_unknown_corpus() -> None:
    command = [sys.executable, "-m", "wavlm_lightning.recipes.mini", "--corpus", "timit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "choose from" in done.stderr
