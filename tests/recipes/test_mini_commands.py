# SPDX-License-Identifier: Apache-2.0
"""The mini corpora of words, intents, slots and queries: official layouts, disjoint speakers."""

import csv
import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_lightning.downstream.corpora import fluent_commands as fluent_parser
from wavlm_lightning.downstream.corpora import speech_commands as words_parser
from wavlm_lightning.downstream.corpora.corpus import measured
from wavlm_lightning.downstream.corpora.lengths import audio_lengths
from wavlm_lightning.recipes.mini import (
    audio_snips,
    fluent_commands,
    quesst14,
    speech_commands,
    superb_corpus,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng-loader is not installed"
)
CORPORA = ("speech_commands", "fluent_commands", "audio_snips", "quesst14")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def spoken_words(cache: Path) -> Path:
    return superb_corpus("speech_commands", cache, tiny=True)


@pytest.fixture(scope="module")
def commands(cache: Path) -> Path:
    return superb_corpus("fluent_commands", cache, tiny=True)


@pytest.fixture(scope="module")
def snips(cache: Path) -> Path:
    return superb_corpus("audio_snips", cache, tiny=True)


@pytest.fixture(scope="module")
def quesst(cache: Path) -> Path:
    return superb_corpus("quesst14", cache, tiny=True)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def facts(root: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((root.parent / "corpus.json").read_text())
    return found


def wavs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wav"))


def test_words_lie_as_in_the_real_one(spoken_words: Path) -> None:
    known = set(speech_commands.WORDS + speech_commands.OTHER_WORDS)
    assert len(known) == 30
    train, test = (
        spoken_words / name for name in ("speech_commands_v0.01", "speech_commands_test_set_v0.01")
    )
    folders = {path.name for path in train.iterdir() if path.is_dir()}
    assert folders == known | {"_background_noise_"}
    assert {path.name for path in test.iterdir()} == set(words_parser.CLASSES)
    for path in wavs(train):
        pattern = r"[0-9a-f]{8}_nohash_\d\.wav" if path.parent.name in known else r"[a-z_]+\.wav"
        assert re.fullmatch(pattern, path.name)


def test_parser_reads_all_words(spoken_words: Path) -> None:
    corpus = words_parser.SpeechCommands(spoken_words, silences=1)
    found = {split: corpus.words(split) for split in ("train", "dev", "test")}
    counts = facts(spoken_words)["utterances"]
    assert {split: len(clips) for split, clips in found.items()} == {
        split: count for split, count in counts.items() if split != "unused"
    }
    for clips in found.values():
        assert {clip.label for clip in clips} >= {*words_parser.WORDS, words_parser.UNKNOWN}
    each = Counter(clip.label for clip in found["test"])
    assert each.pop("_unknown_") == 4
    assert set(each.values()) == {2}
    assert len(corpus.recordings()) == sum(map(len, found.values())) + 2 * 6


def test_words_last_a_second_or_a_little_less(spoken_words: Path) -> None:
    folders = (words_parser.TRAIN_FOLDER, words_parser.TEST_FOLDER)
    paths = [path for folder in folders for path in wavs(spoken_words / folder)]
    counts = Counter()
    for path in paths:
        about = soundfile.info(path)
        assert (about.samplerate, about.channels, about.subtype) == (16000, 1, "PCM_16")
        if path.parent.name == "_background_noise_":
            assert about.duration == 20
        else:
            counts[about.frames == 16000] += 1
            assert 9600 <= about.frames <= 16000
    assert 0 < counts[False] < 0.15 * counts.total()


def test_lists_of_words_name_what_the_parser_leaves_out_of_training(spoken_words: Path) -> None:
    folder = spoken_words / words_parser.TRAIN_FOLDER
    for name, part in (("validation_list.txt", "dev"), ("testing_list.txt", "")):
        found = {
            path.relative_to(folder).as_posix()
            for path in folder.glob("[a-z]*/*.wav")
            if words_parser.part_of(path.name) == part
        }
        assert set(lines(folder / name)) == found != set()


@pytest.mark.parametrize(
    ("sizes", "fewest"),
    [(speech_commands.Sizes(), {"train": 25, "dev": 4}), (speech_commands.TINY, {"train": 2})],
)
def test_speakers_of_words_are_of_one_part(
    sizes: speech_commands.Sizes, fewest: dict[str, int]
) -> None:
    speakers: dict[str, set[str]] = {}
    for clip in speech_commands.plan(sizes):
        assert clip.split in ("test", words_parser.part_of(clip.speech.path.name) or "unused")
        speakers.setdefault(clip.split, set()).add(clip.speaker)
    assert all(len(speakers[split]) >= count for split, count in fewest.items())
    assert speakers.keys() == {"train", "dev", "unused", "test"}
    assert len(set.union(*speakers.values())) == sum(map(len, speakers.values()))


def test_words_are_louder_than_their_noise(spoken_words: Path) -> None:
    """Short-time levels of a clip vary: by 5 to 30 dB of signal to noise, less what is soft."""
    spans = []
    for path in wavs(spoken_words / words_parser.TRAIN_FOLDER / "seven"):
        samples, _ = soundfile.read(path)
        frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
        levels = 10 * np.log10(np.mean(frames**2, 1) + 1e-12)
        spans.append(np.quantile(levels, 0.9) - np.quantile(levels, 0.1))
    assert min(spans) > 3


def test_parser_reads_all_commands(commands: Path) -> None:
    corpus = fluent_parser.FluentCommands(commands)
    found = {s: measured(corpus.of(s), audio_lengths) for s in fluent_parser.SPLITS}
    counts = facts(commands)["utterances"]
    assert {fluent_parser.SPLITS[split]: len(own) for split, own in found.items()} == counts
    assert {each.path for own in found.values() for each in own} == set(wavs(commands))
    speakers = [{each.path.parent.name for each in own} for own in found.values()]
    assert [len(own) for own in speakers] == [3, 1, 2]
    assert len(set.union(*speakers)) == 6
    intents = {tuple(each.extra["classes"].values()) for each in found["train"]}
    assert intents == set(fluent_commands.INTENTS)
    assert all(0.8 * 16000 < each.num_samples < 4 * 16000 for each in found["train"])


def test_there_are_31_intents_and_a_wording_means_one() -> None:
    assert len(fluent_commands.INTENTS) == 31
    wordings = [text for texts in fluent_commands.INTENTS.values() for text in texts]
    assert len(set(wordings)) == len(wordings)
    for texts in fluent_commands.INTENTS.values():
        assert 2 <= len(texts) <= 4


def test_tables_of_commands_have_the_columns_of_the_real_ones(commands: Path) -> None:
    for split in ("train", "valid", "test"):
        with (commands / "data" / f"{split}_data.csv").open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        expected = ",path,speakerId,transcription,action,object,location"
        assert ",".join(header) == expected
        assert [row[0] for row in rows] == [str(number) for number in range(len(rows))]
        for _, path, speaker, text, *intent in rows:
            assert Path(path).parent.as_posix() == f"wavs/speakers/{speaker}"
            assert text in fluent_commands.INTENTS[tuple(intent)]
    people = [line.split(",")[0] for line in lines(commands / "data" / "speaker_demographics.csv")]
    assert set(people[1:]) == {path.parent.name for path in wavs(commands)}


def test_every_recording_of_snips_has_a_line_of_as_many_words_as_tags(snips: Path) -> None:
    names = []
    for line in lines(snips / "all.iob.snips.txt"):
        said, tagged = line.split("\t")
        name, *spoken = said.split(" ")
        tags = tagged.split(" ")
        assert len(spoken) == len(tags)
        assert (spoken[0], spoken[-1], tags[0]) == ("BOS", "EOS", "O")
        assert " ".join(spoken).isupper()
        assert tags[-1] in audio_snips._TEMPLATES
        names.append(name)
    assert sorted(names) == sorted(path.stem for path in wavs(snips))
    for path in wavs(snips):
        assert re.fullmatch(rf"[A-Z][a-z]+-snips-{path.parent.name}-\d+\.wav", path.name)
        assert soundfile.info(path).samplerate == 16000


def test_slots_are_those_of_the_lines_with_no_line_end_after_the_last(snips: Path) -> None:
    text = (snips / "slots.txt").read_text(encoding="utf-8")
    used = Counter(
        tag
        for line in lines(snips / "all.iob.snips.txt")
        for tag in line.split("\t")[1].split(" ")[1:-1]
    )
    slots = text.split("\n")
    assert slots[0] == "O"
    assert set(slots) == set(used)
    assert len(slots) == len(used)
    assert [used[slot] for slot in slots] == sorted(used.values(), reverse=True)


@pytest.mark.parametrize("sizes", [audio_snips.Sizes(), audio_snips.TINY])
def test_no_two_voices_of_snips_are_tried_on_the_same_sentence(sizes: audio_snips.Sizes) -> None:
    clips = audio_snips.plan(sizes)
    texts: dict[str, set[str]] = {}
    voices: dict[str, set[str]] = {}
    intents: dict[str, set[str]] = {}
    for clip in clips:
        assert 4 <= len(clip.order.tags) <= 9
        texts.setdefault(clip.split, set()).add(clip.order.text)
        intents.setdefault(clip.split, set()).add(clip.order.intent)
        if clip.used:
            voices.setdefault(clip.split, set()).add(clip.speech.path.name.split("-")[0])
    wanted = {s: len(audio_snips.VOICES[s]) * count for s, count in sizes.sentences.items()}
    assert {split: len(own) for split, own in texts.items()} == wanted
    assert len(set.union(*texts.values())) == sum(wanted.values())
    assert {split: sorted(own) for split, own in voices.items()} == {
        split: sorted(own) for split, own in audio_snips.VOICES.items()
    }
    if sizes == audio_snips.Sizes():
        assert all(len(own) == 7 for own in intents.values())


def test_folders_of_snips_hold_other_voices_too(snips: Path) -> None:
    voices = [
        {path.name.split("-")[0] for path in wavs(snips / split)}
        for split in ("train", "valid", "test")
    ]
    assert voices[0] == voices[1] == voices[2]
    assert len(voices[0]) == 8 + 4 + 4


def key(quesst: Path, name: str) -> dict[str, str]:
    """Language by path below the root of the corpus."""
    rows = [line.split() for line in lines(quesst / "scoring" / f"language_key_{name}.lst")]
    return {path.removeprefix("quesst14Database/"): language for path, language in rows}


def test_language_keys_name_all_files(quesst: Path) -> None:
    for name, folder in (("utterances", "Audio"), ("dev", "dev_queries"), ("eval", "eval_queries")):
        languages = key(quesst, name)
        assert set(languages) == {f"{folder}/{path.name}" for path in wavs(quesst / folder)}
        assert set(languages.values()) == {"nnenglish", "czech", "romanian"}
        for path in languages:
            assert re.fullmatch(r"quesst14_(\d{5}|(dev|eval)_\d{4})\.wav", Path(path).name)
            assert soundfile.info(quesst / path).samplerate == 8000


@pytest.mark.parametrize("sizes", [quesst14.Sizes(), quesst14.TINY])
def test_queries_of_dev_and_eval_differ_and_their_voices_are_new(sizes: quesst14.Sizes) -> None:
    clips = quesst14.plan(sizes)
    texts: dict[str, set[tuple[str, ...]]] = {}
    voices: dict[str, set[str]] = {}
    for clip in clips:
        texts.setdefault(clip.item.split, set()).add(clip.item.sentences)
        voices.setdefault(clip.item.split, set()).add(clip.speech.variant_name)
    assert not texts["dev"] & texts["eval"]
    assert len(set.union(*voices.values())) == sum(map(len, voices.values()))
    assert len(texts["dev"]) == sizes.queries + 2 * sizes.other_queries


@pytest.mark.parametrize("split", ["dev", "eval"])
def test_documents_of_the_ground_truth_and_no_others_hold_the_query(
    quesst: Path, split: str
) -> None:
    said = {clip.name: clip.item for clip in quesst14.plan(quesst14.TINY)}
    texts = {  # blanks around each word, a bar between sentences
        name: f" {' | '.join(' '.join(part) for part in item.said)} " for name, item in said.items()
    }
    folder = quesst / "scoring" / f"groundtruth_quesst14_{split}"
    rows = [line.split() for line in lines(folder / f"quesst14_{split}.rttm")]
    true = {(row[1], row[5]) for row in rows if row[0] == "LEXEME" and row[5] != "NO_KEYWORD"}
    queries = [name for name, item in said.items() if item.split == split]
    documents = [name for name, item in said.items() if not item.split]
    expected = {
        (document, query)
        for document in documents
        for query in queries
        if texts[query] in texts[document]
    }
    assert true == expected
    counts = Counter(query for _, query in true)
    assert counts.keys() == set(queries)
    assert all(2 <= count <= 8 for count in counts.values())
    for query in queries:
        languages = {said[document].language for document, each in true if each == query}
        assert languages == {said[query].language}


@pytest.mark.parametrize("split", ["dev", "eval"])
def test_ground_truth_lists_all_documents_and_queries(quesst: Path, split: str) -> None:
    folder = quesst / "scoring" / f"groundtruth_quesst14_{split}"
    rows = [line.split() for line in lines(folder / f"quesst14_{split}.rttm")]
    assert all(len(row) == 9 for row in rows)
    documents = {Path(path).stem for path in key(quesst, "utterances")}
    assert {row[1] for row in rows if row[0] == "SPEAKER"} == documents
    assert {row[1] for row in rows if row[0] == "LEXEME"} == documents
    (excerpts,) = folder.glob("*.ecf.xml")
    named = [each.attrib for each in ElementTree.parse(excerpts).getroot()]
    assert {Path(each["audio_filename"]).stem for each in named} == documents
    for each in named:
        seconds = soundfile.info(quesst / "Audio" / each["audio_filename"]).duration
        assert abs(float(each["dur"]) - seconds) < 1e-3
    (terms,) = folder.glob("*.tlist.xml")
    queries = {each.attrib["termid"] for each in ElementTree.parse(terms).getroot()}
    assert queries == {Path(path).stem for path in key(quesst, split)}


def test_queries_are_said_where_the_ground_truth_says(quesst: Path) -> None:
    """As far into the document as they are into its text, roughly."""
    said = {
        clip.name: " ".join(word for part in clip.item.said for word in part)
        for clip in quesst14.plan(quesst14.TINY)
    }
    seen = set()
    for line in lines(quesst / "scoring" / "groundtruth_quesst14_dev" / "quesst14_dev.rttm"):
        kind, name, _, start, duration, query, *_ = line.split()
        if kind == "LEXEME" and query != "NO_KEYWORD" and (name, query) not in seen:
            seen.add((name, query))
            whole = soundfile.info(quesst / "Audio" / f"{name}.wav").duration
            middle = (float(start) + float(duration) / 2) / whole
            at = f" {said[name]} ".index(f" {said[query]} ") + len(said[query]) / 2
            assert abs(middle - at / len(said[name])) < 0.12
            assert 0.2 < float(duration) < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_one_worker_and_two_make_the_same_corpus(name: str, cache: Path, tmp_path: Path) -> None:
    two = superb_corpus(name, cache, tiny=True, num_workers=2)
    one = superb_corpus(name, tmp_path, tiny=True, num_workers=1)
    assert contents(one.parent) == contents(two.parent)


def contents(root: Path) -> dict[str, bytes]:
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_too_many_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="80 queries are more than 5 documents give"):
        quesst14.plan(quesst14.Sizes(documents=5, queries=40))
