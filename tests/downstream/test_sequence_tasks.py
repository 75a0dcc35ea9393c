# SPDX-License-Identifier: Apache-2.0
"""PR and SF: how targets are spelled, and what is refused."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.task import Sources, Task

from .conftest import FRAMING, small_config
from .test_classifiers import folder_of, on

MakeTask = Callable[..., Task[Any]]
SPLITS = ("train", "dev", "test")


def test_pr_has_as_many_symbols_as_published(make_task: MakeTask) -> None:
    task: Any = make_task("pr")
    assert len(task.phones) == 74
    assert task.encode("AH0 B") == [*task.phones.encode(["AH0", "B"])]
    assert task.encode("AH0 B")[-1] == 1  # the end of every target
    assert task.decode(task.encode("AH0 B")) == "AH0 B"


def test_pr_targets_are_the_phones_of_the_words(
    make_task: MakeTask, corpora: dict[str, str | None]
) -> None:
    task: Any = make_task("pr")
    lines = Path(str(corpora["librispeech"]), "librispeech-lexicon.txt").read_text().splitlines()
    lexicon = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    text = {e.id: e.target for e in make_task("asr").examples("test")}
    for example in task.examples("test"):
        assert example.target == " ".join(lexicon[word] for word in text[example.id].split())


def test_pr_names_words_that_no_lexicon_has(corpora: dict[str, str | None], tmp_path: Path) -> None:
    root = tmp_path / "LibriSpeech"
    shutil.copytree(str(corpora["librispeech"]), root)
    lexicon = root / "librispeech-lexicon.txt"
    first, *rest = lexicon.read_text().splitlines()
    lexicon.write_text("\n".join(rest))
    word = first.split("\t")[0]
    sources = Sources("official", {"librispeech": str(root)})
    kind = load_task("pr")
    with pytest.raises(ValueError, match=rf"1 words of .*such as {word}.* make lexicon root="):
        kind(small_config("pr"), sources, framing=FRAMING)
    (root / "lexicon-g2p.txt").write_text(first)
    assert len(kind(small_config("pr"), sources, framing=FRAMING).examples("train")) > 0


def test_pr_counts_stress(make_task: MakeTask) -> None:
    task = make_task("pr")
    predictions = {"a": {"reference": "AH0 B K T", "hypothesis": "AH1 B K T"}}
    assert task.score("test", predictions) == {"per": 25.0}


def test_pr_of_a_manifest_has_no_breaks_and_knows_other_phones(tmp_path: Path) -> None:
    rows = [{"split": s, "extra": {"phones": "HH AH0 | Q: B"}} for s in SPLITS]
    task: Any = on(folder_of(tmp_path, rows), "pr")
    assert task.examples("test")[0].target == "HH AH0 Q: B"
    assert len(task.phones) == 75
    assert task.decode(task.encode("Q: B")) == "Q: B"


def test_pr_of_a_manifest_without_phones_is_refused(tmp_path: Path) -> None:
    rows = [{"split": s, "extra": {"other": 1}} for s in SPLITS]
    with pytest.raises(ValueError, match=r'column extra of u0 has no \{"phones"'):
        on(folder_of(tmp_path, rows), "pr")


def test_sf_has_as_many_symbols_as_published(
    corpora: dict[str, str | None], tmp_path: Path
) -> None:
    root = tmp_path / "SNIPS"
    shutil.copytree(str(corpora["audio_snips"]), root)
    have = (root / "slots.txt").read_text().split()
    more = [f"more{i}" for i in range(40 - len(have))]  # the real one has 39 and `O`
    (root / "slots.txt").write_text("\n".join([*have, *more]))
    task: Any = load_task("sf")(
        small_config("sf"), Sources("official", {"audio_snips": str(root)}), framing=FRAMING
    )
    assert len(task.tokens) == 109


def test_sf_spells_words_and_marks_next_to_them(make_task: MakeTask) -> None:
    task: Any = make_task("sf")
    symbols = [task.tokens.symbols[n] for n in task.encode("TO B-artist MY X E-artist A")]
    assert symbols == [*"TO ", "B-artist", *"MY X", "E-artist", *" A", "<eos>"]
    last = [task.tokens.symbols[n] for n in task.encode("TO B-artist X E-artist")]
    assert last == [*"TO ", "B-artist", "X", "E-artist", "<eos>"]


def test_sf_reads_back_what_it_spells(make_task: MakeTask) -> None:
    task: Any = make_task("sf")
    for example in task.examples("train"):
        assert task.decode(task.encode(example.target)) == example.target


def test_sf_scores_slots_and_words(make_task: MakeTask) -> None:
    task = make_task("sf")
    right = {"reference": "PLAY B-artist ABBA E-artist"}
    scores = task.score("test", {"a": {**right, "hypothesis": "PLAY B-artist ABBE E-artist"}})
    assert scores == {"slot_type_f1": 100.0, "slot_value_cer": 25.0, "wer": 50.0}


def test_sf_voices_are_in_one_split(make_task: MakeTask) -> None:
    task = make_task("sf")
    voices = [{e.id.split("-")[0] for e in task.examples(s)} for s in SPLITS]
    assert [len(v) for v in voices] == [8, 4, 4]
    assert len(set.union(*voices)) == 16


def test_sf_of_a_manifest_wants_a_slot_for_each_word(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"split": s, "text": "play été", "extra": {"slots": ["O", "song"]}} for s in SPLITS
    ]
    task: Any = on(folder_of(tmp_path, rows), "sf")
    assert task.examples("test")[0].target == "PLAY B-song ÉTÉ E-song"
    assert task.decode(task.encode("ÉTÉ")) == "ÉTÉ"
    rows[1]["extra"] = {"slots": ["O"]}
    with pytest.raises(ValueError, match="column extra of u1 has no slot for each of its 2 words"):
        on(folder_of(tmp_path, rows), "sf")


class Said:
    """A head that says these symbols, three frames each."""

    def __init__(self, numbers: list[int], count: int):
        self.numbers, self.count = numbers, count

    def __call__(self, frames: Frames) -> torch.Tensor:
        best = torch.tensor(self.numbers).repeat_interleave(3)
        logits = torch.nn.functional.one_hot(best, self.count).float()
        assert frames.x.shape[1] == len(logits)
        return logits[None]


def heard(task: Any, numbers: list[int], count: int) -> dict[str, Any]:
    frames = Frames(torch.zeros(1, 3 * len(numbers), 4), torch.tensor([3 * len(numbers)]))
    batch: Any = None  # nothing of it is read
    (found,) = task.readable(Said(numbers, count), frames, batch)
    return found


def test_words_have_times_and_blanks_between_equal_letters_do_not_end_them(
    make_task: MakeTask,
) -> None:
    task: Any = make_task("asr")
    o, t, a, end = (task.symbols.index(c) for c in "OTA|")
    found = heard(task, [0, t, o, 0, o, end, 0, a, end], len(task.symbols))
    assert found == {
        "text": "TOO A",
        "words": [
            {"word": "TOO", "start": 0.06, "stop": 0.3},  # frames 3 to 14, of 20 ms
            {"word": "A", "start": 0.42, "stop": 0.48},
        ],
    }


def test_each_phone_has_its_time(make_task: MakeTask) -> None:
    task: Any = make_task("pr")
    b, ah = (task.phones.symbols.index(p) for p in ("B", "AH0"))
    found = heard(task, [b, 0, ah, ah], len(task.phones))
    assert found["text"] == "B AH0"
    assert found["words"] == [
        {"word": "B", "start": 0.0, "stop": 0.06},
        {"word": "AH0", "start": 0.12, "stop": 0.24},
    ]


def test_marks_of_slots_stand_with_their_words(make_task: MakeTask) -> None:
    task: Any = make_task("sf")
    kind = next(mark for mark in task.tokens.symbols if mark.startswith("B-"))
    numbers = [task.tokens.symbols.index(s) for s in ("A", " ", kind, "B")]
    found = heard(task, numbers, len(task.tokens))
    assert found["text"] == f"A {kind} B"
    assert [w["word"] for w in found["words"]] == ["A", f"{kind} B"]
