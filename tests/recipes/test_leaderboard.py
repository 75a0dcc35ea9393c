# SPDX-License-Identifier: Apache-2.0
"""One number for ten tasks in the table, and the pictures of the report: there if there is data."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.results import ProbeResult, read_probe_results
from wavlm_lightning.recipes.report.__main__ import main
from wavlm_lightning.recipes.report.charts import confusions, curves, trades
from wavlm_lightning.recipes.report.report_blocks import (
    Confusion,
    Curves,
    DetCurves,
    Picture,
    Pictures,
    Section,
)
from wavlm_lightning.recipes.report.scoreboard import TITLE, row_of
from wavlm_lightning.recipes.report.scores import KINDS
from wavlm_lightning.recipes.report.superb_score import read_reference

Write = Callable[..., None]
# The leaderboard's formula on the rows of SUPERB and of the WavLM paper's journal version.
PUBLISHED = {
    "wav2vec 2.0 Base": "818.1",
    "HuBERT Base": "941.0",
    "wav2vec 2.0 Large": "913.5",
    "HuBERT Large": "918.5",
    "WavLM Base": "1018.8",
    "WavLM Base+": "1106.2",
    "WavLM Large": "1144.5",
}
NASTY = "<b>a & $y$"
PICTURES = {
    "bars": "Scores of tasks",
    "confusion": "Confusions",
    "det": "Misses against false alarms",
}
MATRIX = {"title": "", "classes": ["no", NASTY], "counts": [[3, 1], [0, 4]]}
DET = {"misses": [0.0, 0.1, 0.3, 1.0], "false_alarms": [1.0, 0.4, 0.1, 0.0]}


def table(folder: Path) -> str:
    assert main([f"--results={folder}"]) == 0
    return (folder / "table.md").read_text(encoding="utf-8")


def page(folder: Path) -> str:
    table(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def results(folder: Path) -> list[ProbeResult]:
    return read_probe_results(folder)


def board(text: str, kind: str) -> dict[str, list[str]]:
    """Cells of the score's table below a kind of corpora, by upstream."""
    part = text.split(f"\n## {KINDS[kind]}")[1].split("\n## ")[0].split(f"### {TITLE}")[1]
    rows = (line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|"))
    return {name: cells for name, *cells in rows}


def write_all(write: Write, upstream: str, place: int, **rest: Any) -> None:
    """A result of each of the ten tasks, at filter banks (0) or the best (1) of the reference."""
    for task, figures in read_reference().items():
        values = {name: points[place] for name, points in figures.items()}
        write(task, upstream, values[load_task(task).headline], more=values, **rest)


def pictures(sections: list[Section]) -> list[Picture]:
    return [p for s in sections for b in s.blocks if isinstance(b, Pictures) for p in b.pictures]


def test_published_rows_have_the_leaderboards_score(scores: Path, write_score: Write) -> None:
    write_score("er", "fbank", 40.0)
    rows = board(table(scores), "official")
    assert {name: rows[f"{name} (paper)"][0] for name in PUBLISHED} == PUBLISHED
    assert rows["FBANK (paper)"][1] == "40.5"  # the mean that the WavLM paper prints
    ranks = [float(cells[0]) for cells in list(rows.values())[2:]]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize("kind", ["official", "mini"])
def test_points_of_reference_score_0_and_1000(scores: Path, write_score: Write, kind: str) -> None:
    write_all(write_score, "low", 0, kind=kind, corpus=kind)
    write_all(write_score, "high", 1, kind=kind, corpus=kind)
    rows = board(table(scores), kind)
    assert (rows["low"][0], rows["high"][0]) == ("0.0", "1000.0")


def test_an_incomplete_row_says_what_is_missing(scores: Path, write_score: Write) -> None:
    write_all(write_score, "mine", 1)
    (scores / "mine" / "qbe.mini.seed0.json").unlink()
    write_score("sf", "mine", 89.81)  # without its second figure
    write_score("ss", "mine", 10.0)
    text = table(scores)
    assert board(text, "mini")["mine"] == ["incomplete: missing qbe, sf", "-"]
    assert "points of reference belong to the real corpora" in text


def test_seeds_go_in_as_their_mean(scores: Path, write_score: Write) -> None:
    write_all(write_score, "mine", 1)
    write_all(write_score, "mine", 0, seed=1)
    assert board(table(scores), "mini")["mine"][0] == "500.0"


def test_a_figure_that_one_seed_lacks_is_not_there(scores: Path, write_score: Write) -> None:
    write_score("sf", "mine", 80.0, more={"test/slot_value_cer": 30.0})
    write_score("sf", "mine", 82.0, seed=1)
    assert row_of(results(scores), read_reference())["sf"] == {"test/slot_type_f1": 81.0}


def test_slot_filling_shows_both_figures(scores: Path, write_score: Write) -> None:
    write_score("sf", "mine", 80.0, more={"test/slot_value_cer": 30.0})
    text = table(scores)
    mini = text.split(KINDS["mini"])[1]
    assert "| sf: slot_type_f1 (%) ↑ | sf: slot_value_cer (%) ↓ |" in mini
    assert "| mine | 80.0 (1) | 30.0 (1) |" in mini
    assert " 92.21 | 18.36 |" in text  # WavLM Large


def test_a_manifest_folder_has_a_score_only_where_a_row_is_complete(
    scores: Path, write_score: Write
) -> None:
    write_score("er", "mine", 50.0, kind="manifest", corpus="few")
    assert table(scores).count(TITLE) == 1
    write_all(write_score, "mine", 1, kind="manifest", corpus="all")
    assert table(scores).count(TITLE) == 2


@pytest.mark.parametrize("there", PICTURES)
def test_a_picture_is_there_with_its_data_alone(
    scores: Path, write_score: Write, there: str
) -> None:
    if there == "bars":
        write_score("er", "mine", 50.0)
    else:  # ss is none of the ten tasks
        drawn = {"confusion": [MATRIX]} if there == "confusion" else {"det": DET}
        write_score("ss", "mine", 5.0, drawn=drawn)
    text = page(scores)
    found = [name for name, label in PICTURES.items() if f'aria-label="{label}' in text]
    assert found == [there]
    assert ("<h2>Confusions</h2>" in text) is (there == "confusion")
    assert ("(DET)</h2>" in text) is (there == "det")


def test_confusions_are_summed_over_seeds_of_the_same_classes(
    scores: Path, write_score: Write
) -> None:
    other = MATRIX | {"classes": ["x"], "counts": [[7]]}
    for seed, matrix in enumerate((MATRIX, MATRIX, other)):
        write_score("ks", "mine", 50.0, seed=seed, drawn={"confusion": [matrix]})
    assert pictures(confusions(results(scores))) == [
        Confusion("ks, mine", ["no", NASTY], [[6, 2], [0, 8]]),
        Confusion("ks, mine", ["x"], [[7]]),
    ]


def test_slots_have_a_picture_each_and_a_class_that_never_comes_is_drawn(
    scores: Path, write_score: Write
) -> None:
    empty = MATRIX | {"title": "object", "counts": [[0, 0], [1, 3]]}
    drawn = {"confusion": [MATRIX | {"title": "action"}, empty]}
    write_score("ic", "mine", 50.0, drawn=drawn)
    text = page(scores)
    for slot in ("action", "object"):
        assert f"<figcaption>ic ({slot}), mine</figcaption>" in text
    assert "no (0)</text>" in text
    drawn_alone = text.split('aria-label="Confusions: ic (object), mine"')[1].split("</svg>")[0]
    percent = re.findall(r">(\d+)</text>", drawn_alone)
    assert percent == ["25", "75"]  # of the second class, and nothing of the first


def test_names_in_pictures_are_shown_as_they_are(scores: Path, write_score: Write) -> None:
    write_score("ks", "mine", 50.0, drawn={"confusion": [MATRIX]})
    path = next(scores.glob("*/*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"upstream": NASTY}))
    text = page(scores)
    assert NASTY not in text
    assert f"<figcaption>ks, {html.escape(NASTY)}</figcaption>" in text
    assert f"{html.escape(NASTY)} (4)</text>" in text  # a class


def test_error_rates_of_all_upstreams_share_a_picture_of_a_corpus(
    scores: Path, write_score: Write
) -> None:
    for name in ("fbank", "mine"):
        write_score("asv", name, 20.0, drawn={"det": DET})
    other = {"kind": "manifest", "corpus": "mini", "seed": 1}  # of the same name as the stand-in
    write_score("asv", "mine", 30.0, drawn={"det": DET}, **other)
    mini, manifest = pictures(trades(results(scores), {"fbank": 0, "mine": 1}))
    assert isinstance(mini, DetCurves)
    assert isinstance(manifest, DetCurves)
    assert {name: [one.eer for one in lines] for name, lines in mini.lines.items()} == {
        "fbank": [20.0],
        "mine": [20.0],
    }
    assert list(manifest.lines) == ["mine"]


def test_a_search_is_drawn_by_layer_and_its_row_is_a_choice(
    scores: Path, write_score: Write
) -> None:
    write_score("qbe", "mine", 0.1, layer_weights=[0.0, 1.0])
    write_score("er", "mine", 50.0, layer_weights=[0.4, 0.6])
    section = curves(results(scores), {"mine": 0})
    across = {p.title: p.across for p in pictures([section]) if isinstance(p, Curves)}
    assert across == {"er, mini": "update", "qbe, mini": "layer"}
    text = table(scores)
    assert "| qbe (chosen) | 0.000 | 1.000 |" in text
    assert "says (chosen) holds no trained weights" in text


def test_results_without_anything_drawn_are_read(scores: Path, write_score: Write) -> None:
    write_score("ks", "mine", 50.0)
    path = next(scores.glob("*/*.json"))
    values = json.loads(path.read_text())
    del values["drawn"]
    path.write_text(json.dumps(values))
    assert "| mine | 50.0 (1) |" in table(scores)


def test_bars_are_cut_and_their_numbers_are_not(scores: Path, write_score: Write) -> None:
    write_score("asv", "fbank", 40.0)  # far below filter banks
    write_score("qbe", "mine", 0.5)  # far above the best
    text = page(scores)
    assert ">-6840</text>" in text.replace("\u2212", "-")
    assert ">7289</text>" in text
    assert "cut off below 0 and above 1500" in text
