# SPDX-License-Identifier: Apache-2.0
"""Agreement of codes with phones, and the alignments that it is measured on."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from wavlm_lightning.pretrain.label_report import (
    agreement,
    phones_at,
    read_alignment,
    report_labels,
)
from wavlm_lightning.pretrain.labels import Labels
from wavlm_lightning.pretrain.manifest import Entry, Manifest

WORDS = [(0.0, 1.0, 'say ""phones""'), (1.0, 2.0, "")]
PHONES = [(0.0, 0.25, ""), (0.25, 1.0, "AH"), (1.0, 1.5, 'S""'), (1.5, 2.0, "T")]
LabelsOf = Callable[..., Labels]


def text_grid(*tiers: tuple[str, list[tuple[float, float, str]]]) -> str:
    """Praat's long format."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 2"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for i, (name, intervals) in enumerate(tiers, start=1):
        lines += [f"    item [{i}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += [
            "        xmin = 0",
            "        xmax = 2",
            f"        intervals: size = {len(intervals)}",
        ]
        for j, (start, stop, text) in enumerate(intervals, start=1):
            lines += [f"        intervals [{j}]:", f"            xmin = {start}"]
            lines += [f"            xmax = {stop}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


@pytest.fixture
def aligned(tmp_path: Path) -> Manifest:
    grid = text_grid(("words", WORDS), ("phones", PHONES), ("notes", [(0.0, 2.0, "noise")]))
    (tmp_path / "a.TextGrid").write_text(grid, encoding="utf-8")
    return Manifest(tmp_path, [Entry("a.flac", 32_000), Entry("a.flac", 16_000, 16_000)])


@pytest.mark.parametrize(
    ("codes", "phones", "wanted"),
    [
        ("0123", "abcd", (1.0, 1.0, 1.0)),  # one code a phone
        ("0000", "aabb", (0.5, 1.0, 0.0)),  # one code for all
        ("0123", "aabb", (1.0, 0.5, 1.0)),  # two codes a phone
        ("0101", "aabb", (0.5, 0.5, 0.0)),  # codes that say nothing
        ("0001", "aabb", (0.75, 0.75, (math.log(2) - 0.75 * 0.636514168) / math.log(2))),
        ("0011", "aaaa", (1.0, 0.5, 0.0)),  # one phone: nothing to know
    ],
)
def test_agreement_of_hand_worked_cases(
    codes: str, phones: str, wanted: tuple[float, float, float]
) -> None:
    assert agreement(np.array([*codes], int), np.array([*phones])) == pytest.approx(wanted)


def test_random_codes_agree_with_nothing(rng: np.random.Generator) -> None:
    phones = rng.choice(["a", "b", "c", "d"], 50_000)
    purity, _, pnmi = agreement(rng.integers(10, size=50_000), phones)
    assert pnmi < 0.001
    assert purity == pytest.approx(0.25, abs=0.02)


def test_pnmi_matches_scikit_learn(rng: np.random.Generator) -> None:
    numbers = rng.integers(6, size=3_000)
    phones = np.array([*"abcdef"])[numbers]
    codes = (numbers * 2 + rng.integers(5, size=3_000)) % 11
    shares = np.bincount(numbers) / 3_000
    wanted = mutual_info_score(phones, codes) / -(shares * np.log(shares)).sum()
    assert agreement(codes, phones)[2] == pytest.approx(wanted)


def test_tier_of_phones_is_read_from_the_long_format(aligned: Manifest) -> None:
    intervals = read_alignment(aligned, 0)
    assert [(a, b) for a, b, _ in intervals] == [(a, b) for a, b, _ in PHONES]
    assert [name for _, _, name in intervals][1::2] == ["AH", "T"]


def test_empty_text_is_silence(aligned: Manifest) -> None:
    assert read_alignment(aligned, 0)[0] == (0.0, 0.25, "sil")


def test_doubled_quotes_do_not_end_a_text(aligned: Manifest) -> None:
    assert read_alignment(aligned, 0)[2][2].startswith('S"')


def test_part_of_a_file_counts_from_its_start(aligned: Manifest) -> None:
    intervals = read_alignment(aligned, 1)
    assert [(a, b) for a, b, _ in intervals[2:]] == [(0.0, 0.5), (0.5, 1.0)]
    names = phones_at(intervals, 50, 50)
    assert names[24].startswith("S")  # its window's middle is at 0.4925 s
    assert names[25] == "T"


def test_file_without_a_grid_has_no_alignment(tmp_path: Path) -> None:
    assert read_alignment(Manifest(tmp_path, [Entry("a.flac", 100)]), 0) == []


def test_grid_without_phones_has_no_alignment(tmp_path: Path) -> None:
    (tmp_path / "a.TextGrid").write_text(text_grid(("words", WORDS)), encoding="utf-8")
    assert read_alignment(Manifest(tmp_path, [Entry("a.flac", 100)]), 0) == []


@pytest.mark.parametrize("rate", [50, 100])
def test_phone_of_a_label_is_at_the_middle_of_its_window(rate: int) -> None:
    intervals = [(0.0, 0.5, "a"), (0.5, 1.0, "b")]
    names = phones_at(intervals, rate, rate)
    middles = np.arange(rate) / rate + 0.0125
    np.testing.assert_array_equal(names, np.where(middles <= 0.5, "a", "b"))


def test_labels_behind_the_last_interval_take_its_phone() -> None:
    np.testing.assert_array_equal(phones_at([(0.0, 0.1, "a")], 50, 50), ["a"] * 50)


def test_report_of_perfect_labels(aligned: Manifest, labels_of: LabelsOf) -> None:
    codes = []
    for i in range(2):
        names = phones_at(read_alignment(aligned, i), (99, 49)[i], 50)
        codes.append(
            np.unique(["AH", "S", "T", "sil"]).searchsorted([n[:3].strip('"') for n in names])
        )
    report = report_labels(labels_of(codes, clusters=8), aligned)
    found = (report.phone_purity, report.cluster_purity, report.pnmi)
    assert found == pytest.approx((1.0, 1.0, 1.0))
    assert (report.codes_used, report.num_clusters, report.aligned_utterances) == (4, 8, 2)


def test_report_counts_codes_and_bits(tmp_path: Path, labels_of: LabelsOf) -> None:
    labels = labels_of([np.array([0, 0]), np.array([3, 5])], clusters=8)
    manifest = Manifest(tmp_path, [Entry("a.flac", 800), Entry("b.flac", 800)])
    report = report_labels(labels, manifest)
    assert (report.codes_used, report.entropy_bits, report.majority) == (3, 1.5, 0.5)


def test_report_without_alignments_has_no_pnmi(tmp_path: Path, labels_of: LabelsOf) -> None:
    report = report_labels(labels_of([np.array([0, 1])]), Manifest(tmp_path, [Entry("a", 800)]))
    assert "pnmi" not in report.to_dict()
    assert "no PNMI" in report.line()


def test_report_looks_at_no_more_utterances_than_told(
    aligned: Manifest, labels_of: LabelsOf
) -> None:
    labels = labels_of([np.arange(99) % 7, np.arange(49) % 7])
    assert report_labels(labels, aligned, max_utterances=1).aligned_utterances == 1
