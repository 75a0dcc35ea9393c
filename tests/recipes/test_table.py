# SPDX-License-Identifier: Apache-2.0
"""The table of results: what it says, what it refuses to put side by side, and its page."""

import html
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from wavlm_lightning.downstream import task_names
from wavlm_lightning.recipes.report.__main__ import escape, main
from wavlm_lightning.recipes.report.scores import KINDS
from wavlm_lightning.recipes.report.summary import MISSING

OFFICIAL, MINI, MANIFEST = KINDS["official"], KINDS["mini"], KINDS["manifest"]
VOID = {"meta", "br", "hr", "img", "link", "input"}  # elements of HTML that have no end

Write = Callable[..., None]


@pytest.fixture
def folder(scores: Path) -> Path:
    return scores


@pytest.fixture
def write(write_score: Write) -> Write:
    return write_score


def table(folder: Path) -> str:
    assert main([f"--results={folder}"]) == 0
    return (folder / "table.md").read_text(encoding="utf-8")


def section(text: str, title: str, mark: str = "\n## ") -> str:
    """What stands between a heading and the next one of its level."""
    return text.split(mark + title)[1].split(mark)[0]


def cells(text: str, row: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_seeds_become_mean_and_sample_standard_deviation(folder: Path, write: Write) -> None:
    for seed, value in enumerate((10.0, 12.0, 14.0)):
        write("asv", "fbank", value, seed=seed)
    assert cells(section(table(folder), MINI), "fbank") == ["12.0 ± 2.0 (3)"]


def test_what_learns_nothing_has_a_row_of_its_own(folder: Path, write: Write) -> None:
    answer = {"trivial_answer": "the cosine of mean frames"}
    write("asv", "fbank", 31.0, trivial={"test/eer": 45.0}, **answer)
    write("asv", "random", 25.0, trivial={"test/eer": 31.25}, **answer)
    write("er", "random", 50.0, trivial={"test/accuracy": 25.0}, trivial_answer="the first class")
    write("ss", "random", 1.0)
    text = section(table(folder), MINI)
    assert cells(text, "learning nothing") == ["31.2 to 45.0", "25.0", "-"]
    assert "- learning nothing, asv: the cosine of mean frames\n" in text
    assert "- learning nothing, er: the first class\n" in text
    assert text.index("| learning nothing |") < text.index("| fbank |")
    page, _ = read_page(folder)
    assert "31.2 to 45.0" in page


def test_a_missing_cell_says_so_and_how_to_fill_it(folder: Path, write: Write) -> None:
    write("asv", "wavlm_base", 5.0, kind="official", corpus="official")
    text = section(table(folder), OFFICIAL)
    others = [task for task in task_names() if task != "asv"]
    assert cells(text, "wavlm_base").count(MISSING) == len(others) + 1  # sf has two figures
    assert (
        f"missing: {', '.join(others)} on wavlm_base: make superb TASK={others[0]} "
        "UPSTREAM=wavlm_base paths."
    ) in text


def test_an_upstream_without_a_name_of_ours_is_made_from_its_file(
    folder: Path, write: Write
) -> None:
    write("asv", "mine", 5.0, config={"upstream.source": "my model.pt"})
    write("er", "fbank", 5.0)
    assert "er on mine: make superb TASK=er UPSTREAM='my model.pt'" in table(folder)


def test_without_official_results_it_says_so(folder: Path, write: Write) -> None:
    write("asv", "fbank", 20.0)
    text = section(table(folder), OFFICIAL)
    assert "There are no results on official corpora yet" in text
    assert "| fbank |" not in text


@pytest.mark.parametrize(("kind", "title"), [("mini", MINI), ("manifest", MANIFEST)])
def test_published_scores_never_stand_beside_other_corpora(
    folder: Path, write: Write, kind: str, title: str
) -> None:
    write("asv", "wavlm_base", 20.123, kind=kind, corpus="mine")
    text = table(folder)
    assert "(paper)" not in section(text, title)
    assert "not comparable with published scores" in title
    assert "20.1" not in section(text, OFFICIAL)
    assert "| wavlm_base |" not in section(text, OFFICIAL)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "(paper)" not in page.split(f"<h2>{title}</h2>")[1].split("<h2>")[0]
    assert page.index(title) < page.index(f"<h2>{OFFICIAL}</h2>")  # what is one's own comes first


def test_official_scores_stand_beside_published_ones(folder: Path, write: Write) -> None:
    write("asr", "wavlm_base", 6.5, kind="official", corpus="official")
    text = section(table(folder), OFFICIAL)
    assert cells(text, "wavlm_base")[0] == "6.50"
    assert cells(text, "WavLM Base (paper)")[0] == "6.21"
    assert cells(text, "HuBERT Large (paper)")[0] == "3.62"


def test_the_figure_chosen_on_test_stands_beside_ours(folder: Path, write: Write) -> None:
    more = {"test/eer_best_of_10_test": 4.9}
    write("asv", "wavlm_base", 5.1, kind="official", corpus="official", more=more)
    text = section(table(folder), OFFICIAL)
    column = sorted(task_names()).index("asv")
    assert cells(text, "wavlm_base")[column] == "5.10; 4.90 ¹"
    assert cells(text, "WavLM Base (paper)")[column] == "4.69 ¹"
    assert "- ¹ The best of several checkpoints or settings, chosen on test" in text


def test_a_run_that_was_chosen_on_test_stands_there_with_its_mark_alone(
    folder: Path, write: Write
) -> None:
    name = "test/eer_best_of_10_test"
    alone = {"headline": name, "metrics": {name: 4.9, "dev/eer": 1.0}, "selected_on": "test/eer"}
    write("asv", "wavlm_base", 4.9, kind="official", corpus="official", **alone)
    text = table(folder)
    column = sorted(task_names()).index("asv")
    assert cells(section(text, OFFICIAL), "wavlm_base")[column] == "4.90 ¹"
    assert cells(section(text, OFFICIAL), "WavLM Base (paper)")[column] == "4.69 ¹"
    assert "eer_best_of_10_test 4.90" in section(text, "Where the numbers come from")


def test_arrows_are_those_of_the_headline_not_of_the_figure_on_dev(
    folder: Path, write: Write
) -> None:
    write("sd", "fbank", 20.0)  # selects on frame accuracy, higher is better; shows DER
    assert "| sd: der (%) ↓ |" in section(table(folder), MINI)


@pytest.mark.parametrize(
    ("better", "bold"),
    [((10.0, 11.0, 12.0), True), ((12.0, 13.0, 14.0), False), ((10.0,), False)],
)
def test_bold_is_better_by_more_than_the_sum_of_spreads(
    folder: Path, write: Write, better: tuple[float, ...], bold: bool
) -> None:
    for seed, value in enumerate((14.0, 15.0, 16.0)):  # spread 1, as the other has
        write("asv", "fbank", value, seed=seed)
    for seed, value in enumerate(better):
        write("asv", "wavlm_mini", value, seed=seed)
    text = section(table(folder), MINI)
    assert cells(text, "wavlm_mini")[0].startswith("**") is bold
    assert not cells(text, "fbank")[0].startswith("**")
    assert "Bold: better than every other one of its column by more than the sum" in text


def test_bold_is_the_highest_accuracy_and_the_lowest_error(folder: Path, write: Write) -> None:
    for task in ("er", "sd"):
        for seed in range(2):
            write(task, "fbank", 40.0 + seed, seed=seed)
            write(task, "random", 60.0 + seed, seed=seed)
    text = section(table(folder), MINI)
    assert cells(text, "fbank") == ["40.5 ± 0.7 (2)", "**40.5 ± 0.7 (2)**"]
    assert cells(text, "random") == ["**60.5 ± 0.7 (2)**", "60.5 ± 0.7 (2)"]


def test_upstreams_come_as_fbank_random_and_by_name(folder: Path, write: Write) -> None:
    for name in ("wavlm_mini", "random", "aaa", "fbank"):
        write("asv", name, 20.0)
    text = section(table(folder), MINI)
    places = [text.index(f"| {name} |") for name in ("fbank", "random", "aaa", "wavlm_mini")]
    assert places == sorted(places)


def test_different_budgets_commits_and_upstreams_are_told(folder: Path, write: Write) -> None:
    write("asv", "fbank", 20.0)
    write("asv", "random", 20.0, config={"optim.total_updates": 50}, commit="0123456789")
    write("er", "random", 20.0, config={"upstream.sha256": "12" * 32})
    text = section(table(folder), MINI)
    assert "asv: different budgets: 100 updates (fbank), 50 updates (random)" in text
    assert "asv: different commits: a2e8dac3+changes (fbank), 01234567 (random)" in text
    assert "random: different upstream checkpoints: abababab (asv), 12121212 (er)" in text
    assert "er: different" not in text


def test_a_shortened_official_run_is_told(folder: Path, write: Write) -> None:
    config = {"optim.total_updates": 50, "trainer.limit_test_batches": 3}
    write("asr", "fbank", 20.0, kind="official", corpus="official", config=config)
    line = (
        "not as configs/superb says: asr on fbank, seed 0: optim.total_updates 50 in place of "
        "200000, trainer.limit_test_batches 3"
    )
    assert line in section(table(folder), OFFICIAL)


def test_variants_are_a_line_and_no_columns(folder: Path, write: Write) -> None:
    more = {"test/accuracy.fold1": 60.0, "test/accuracy.fold2": 70.0}
    write("er", "fbank", 65.0, more=more)
    text = section(table(folder), MINI)
    assert "er on fbank by variant, mean over seeds: fold1 60.0, fold2 70.0" in text
    assert cells(text, "fbank") == ["65.0 (1)"]


def test_layer_weights_are_means_over_seeds_and_apart_by_kind(folder: Path, write: Write) -> None:
    write("asv", "random", 20.0, layer_weights=[0.2, 0.8])
    write("asv", "random", 20.0, layer_weights=[0.4, 0.6], seed=1)
    write("asv", "random", 20.0, layer_weights=[0.9, 0.1], kind="manifest", corpus="mine")
    write("asv", "fbank", 20.0, layer_weights=[])
    text = table(folder)
    weights = text.split("## Layer weights")[1]
    mini = section(weights, MINI, "\n### ")
    assert cells(mini, "asv") == ["0.300", "0.700"]
    assert "mine" not in mini
    assert cells(section(weights, MANIFEST, "\n### "), "asv mine") == ["0.900", "0.100"]
    assert "Without weights, having one layer: fbank." in weights


def test_every_run_says_where_its_number_comes_from(folder: Path, write: Write) -> None:
    write("asv", "random", 20.123, seed=4)
    text = section(table(folder), "Where the numbers come from")
    wanted = ["asv", "mini voxceleb1", "4", "eer 20.12", "dev/eer", "a2e8dac3+changes"]
    assert cells(text, "random") == [*wanted, "abababab", "cdcdcdcd", "12", "7"]


class Page(HTMLParser):
    """Collects tags that do not match, and whatever points out of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            inside = (value or "").startswith(("#", "data:"))
            if name.rpartition(":")[2] in ("src", "href", "srcset", "action") and not inside:
                self.wrong.append(f"{tag} {name}={value}")
            if "url(" in (value or "") and "url(#" not in (value or ""):
                self.wrong.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")


def read_page(folder: Path) -> tuple[str, Page]:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    return text, page


def test_page_needs_no_other_file(folder: Path, write: Write) -> None:
    write("asv", "random", 20.0)
    write("er", "random", 20.0, kind="official", corpus="official")
    table(folder)
    text, page = read_page(folder)
    assert page.wrong == []
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "@import" not in text
    # Two heat maps, two curves, two pictures of bars, three keys of the colours.
    assert page.tags.count("svg") == 9
    assert len(page.ids) == len(set(page.ids))
    assert 'name="viewport"' in text


NASTY = '<b>a|"*x*</b> &amp; $y$'


def test_names_are_shown_as_they_are(folder: Path, write: Write) -> None:
    write("asv", "random", 20.0, kind="manifest", corpus="c", commit="<i>")
    path = next(folder.glob("*/*.json"))
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"upstream": NASTY, "corpus": NASTY}))
    other = {"upstream": "fbank", "corpus": NASTY, "commit": "b"}  # so that a note tells them apart
    path.with_name("other.json").write_text(json.dumps(values | other))
    markdown = table(folder)
    assert NASTY not in markdown
    assert escape(NASTY) in markdown
    text, page = read_page(folder)
    assert page.wrong == []
    assert page.open == []
    assert not {"b", "i"} & set(page.tags)
    assert html.escape(NASTY) in text
    assert f"<figcaption>asv, {html.escape(NASTY)}</figcaption>" in text


@pytest.mark.parametrize("there", [True, False])
def test_no_results_is_an_error_that_says_what_makes_one(
    folder: Path, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    if there:
        folder.mkdir()
    assert main([f"--results={folder}"]) == 1
    said = capsys.readouterr()
    assert said.err == f"error: no results in {folder}: make superb TASK=asv makes one\n"
    assert said.out == ""


def test_a_broken_file_is_named(
    folder: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("asv", "random", 20.0)
    path = folder / "random" / "er.json"
    path.write_text("{")
    assert main([f"--results={folder}"]) == 0
    said = capsys.readouterr()
    assert f"left out: {path} is no result of a task: not JSON: Expecting" in said.err
    listed = said.out.partition("## Files that are no results")[2]
    assert str(path) in listed
    assert cells(section(said.out, MINI), "random") == ["20.0 (1)"]


def test_a_result_without_its_headline_is_left_out_and_named(
    folder: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("asv", "random", 20.0, metrics={"dev/eer": 3.0})
    assert main([f"--results={folder}"]) == 1
    error = capsys.readouterr().err
    path = folder / "random" / "asv.mini.seed0.json"
    assert f"left out: {path} is no result of a task: metrics have no test/eer" in error
    assert "error: no results in" in error


def test_markdown_is_printed_as_it_is_written(
    folder: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write("asv", "random", 20.0)
    text = table(folder)
    assert capsys.readouterr().out.strip() == text.strip()


def test_a_tuned_encoder_is_told_from_a_frozen_one(
    write_score: Callable[..., None], scores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_score("asv", "fbank", 20.0)
    write_score("er", "fbank", 40.0)
    config = {"adaptation.encoder": "tuned", "upstream.source": "m.pt"}
    write_score("er", "m+tuned", 60.0, config=config)
    assert main([f"--results={scores}"]) == 0
    said = capsys.readouterr().out
    assert "m+tuned: the encoder trained with each head, which the benchmark does not do" in said
    assert "missing: asv on m+tuned: make finetune TASK=asv UPSTREAM=m.pt" in said
