# SPDX-License-Identifier: Apache-2.0
"""The mini corpus: same bytes however it is made, whole or absent, true to its own annotation."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_lightning.recipes.mini import build, noise, sentences, store
from wavlm_lightning.recipes.mini.build import MiniCorpus, Sizes
from wavlm_lightning.recipes.mini.librispeech import align

TINY = Sizes(
    train_speakers=5,
    dev_speakers=2,
    test_speakers=2,
    train_utterances=2,
    eval_utterances=1,
    train_clips=1,
    dev_clips=1,
)
NUM_UTTERANCES = 5 * 2 + 2 + 2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
Tier = list[tuple[float, float, str]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> MiniCorpus:
    return build.cached(tmp_path_factory.mktemp("mini"), TINY, num_workers=2)


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def audio(corpus: MiniCorpus) -> list[Path]:
    paths = sorted(corpus.librispeech.rglob("*.flac"))
    assert len(paths) == NUM_UTTERANCES
    return paths


def tiers(flac: Path) -> dict[str, Tier]:
    text = flac.with_suffix(".TextGrid").read_text(encoding="utf-8")
    interval = re.compile(r'xmin = (\S+)\n +xmax = (\S+)\n +text = "(.*)"')
    return {
        part.split('"')[0]: [(float(a), float(b), label) for a, b, label in interval.findall(part)]
        for part in text.split('name = "')[1:]
    }


def transcript(flac: Path) -> str:
    speaker, chapter, _ = flac.stem.split("-")
    table = (flac.parent / f"{speaker}-{chapter}.trans.txt").read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in table.splitlines())[flac.stem]


def test_one_worker_and_two_write_the_same_bytes(corpus: MiniCorpus, tmp_path: Path) -> None:
    again = build.cached(tmp_path, TINY, num_workers=1)
    assert files(again.root) == files(corpus.root)


def test_speakers_are_disjoint_across_splits(corpus: MiniCorpus) -> None:
    names = [
        path.name for split in corpus.utterances for path in corpus.librispeech.glob(f"{split}/*")
    ]
    assert len(names) == len(set(names)) == 9


def test_voices_of_the_splits_differ() -> None:
    voices = {item.speaker.number: item.speaker.variant for item in build.plan(Sizes())}
    bodies = {re.sub(r"name spk\d+", "", text) for text in voices.values()}
    assert len(bodies) == len(voices) == 64


def test_every_split_has_men_women_and_children() -> None:
    kinds: dict[str, set[str]] = {}
    for item in build.plan(Sizes()):
        kinds.setdefault(item.split, set()).add(item.speaker.kind)
    assert set(map(frozenset, kinds.values())) == {frozenset({"man", "woman", "child"})}


def test_intervals_are_contiguous_and_end_with_the_audio(corpus: MiniCorpus) -> None:
    for path in audio(corpus):
        num_samples = soundfile.info(path).frames
        for tier in tiers(path).values():
            assert tier[0][0] == 0
            assert [end for _, end, _ in tier[:-1]] == [start for start, _, _ in tier[1:]]
            assert all(start < end for start, end, _ in tier)
            assert round(tier[-1][1] * 16000) == num_samples


def test_words_tier_says_the_transcript(corpus: MiniCorpus) -> None:
    for path in audio(corpus):
        said = [label for _, _, label in tiers(path)["words"] if label]
        assert " ".join(said).upper() == transcript(path)


def test_every_word_ends_where_a_phone_ends(corpus: MiniCorpus) -> None:
    for path in audio(corpus):
        both = tiers(path)
        ends = {end for _, end, _ in both["phones"]}
        assert {end for _, end, _ in both["words"]} <= ends
        assert all(re.fullmatch("sil|[A-Z]{1,2}", label) for _, _, label in both["phones"])


def test_silence_is_quiet_and_vowels_are_loud(corpus: MiniCorpus) -> None:
    for path in audio(corpus):
        waveform, _ = soundfile.read(path)
        assert np.abs(waveform).max() < 0.96
        levels: dict[str, list[float]] = {"sil": [], "AA": [], "T": []}
        for start, end, label in tiers(path)["phones"]:
            part = waveform[round(start * 16000) : round(end * 16000)]
            levels.setdefault(label, []).append(10 * np.log10(np.mean(part**2)))
        assert min(levels["sil"]) > -80, "digital silence"
        assert max(levels["sil"]) < np.mean(10 * np.log10(np.mean(waveform**2))) - 20
        assert np.median(levels["T"]) < np.median(levels["IH"]) - 5


def test_liquid_inside_a_vowel_takes_its_last_third() -> None:
    phones = [
        ("'oU", 0, 3000, 0),
        ("l", 3000, 3400, 0),
        ("d", 3400, 4000, 0),
        ("_:", 4000, 5000, -1),
    ]
    found = [(label, start, end) for label, start, end, _ in align(phones, "en-us")]
    assert found == [("OW", 0, 2000), ("L", 2000, 3000), ("D", 3000, 4000), ("sil", 4000, 5000)]


def test_second_call_renders_nothing(corpus: MiniCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_make", lambda *_, **__: pytest.fail("made again"))
    start = time.perf_counter()
    assert build.cached(corpus.root.parent, TINY, num_workers=2) == corpus
    assert time.perf_counter() - start < 0.1


@pytest.mark.slow
def test_killed_build_leaves_nothing_taken_for_whole(corpus: MiniCorpus, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from recipes.mini.build import Sizes, cached\n"
        "seen = lambda done, total: print(done, flush=True)\n"
        f"cached(Path(sys.argv[1]), {TINY!r}, num_workers=1, progress=seen)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        os.kill(process.pid, signal.SIGKILL)
    left = [path.name for path in tmp_path.iterdir()]
    assert any(name.startswith("building-") for name in left)
    assert not any(name.startswith("v") for name in left)
    assert build.cached(tmp_path, TINY, num_workers=2).sha256 == corpus.sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", corpus.root.name]


@pytest.mark.slow
def test_two_builds_at_once_make_one_corpus(corpus: MiniCorpus, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from recipes.mini.build import Sizes, cached\n"
        f"print(cached(Path(sys.argv[1]), {TINY!r}, num_workers=1).sha256)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [corpus.sha256] * 2


def test_dead_worker_ends_in_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        OSError, match=r"not installed \(eSpeak NG speaks the mini corpus\): (make|pip) .*mini"
    ) as caught:
        build.cached(tmp_path / "cache", TINY, num_workers=2)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_too_little_room_is_said_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_BYTES_PER_UTTERANCE", 10**15)
    with pytest.raises(OSError, match="make room or choose another cache folder"):
        build.cached(tmp_path, TINY, num_workers=1)


def test_sentences_keep_within_their_bounds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        texts = sentences.sentences(rng, min_words=12, max_words=30)
        assert 12 <= len(sentences.words(" ".join(texts))) <= 30
        assert not re.search(r"[<>]|\ba [aeio]|\ban [^aeiou]", " ".join(texts))


def test_noise_clips_are_disjoint_and_do_not_clip(corpus: MiniCorpus) -> None:
    clips = {path: soundfile.read(path, dtype="int16")[0] for path in corpus.noise.rglob("*.flac")}
    assert len({store.digest(samples) for samples in clips.values()}) == 2 * len(noise.KINDS)
    for path, samples in clips.items():
        assert 3 * 16000 <= len(samples) <= 8 * 16000, path
        assert 30 < np.sqrt(np.mean(samples.astype(float) ** 2)), path
        assert np.abs(samples.astype(int)).max() < 32000, path
