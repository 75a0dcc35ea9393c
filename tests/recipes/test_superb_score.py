# SPDX-License-Identifier: Apache-2.0
"""superb_s and the paper's mean give the published figures for the published rows."""

import pytest

from wavlm_lightning.recipes.report.superb_score import (
    missing,
    plain_mean,
    read_reference,
    superb_s,
)

# SID, ASV, SD, PR, ASR, KS, QbE, IC, SF F1, SF CER, ER; then superb_s of the leaderboard's formula,
# and the mean of the WavLM paper's first version where it prints one.
# Leaderboard of October 2021, WavLM (Chen et al. 2021), UniSpeech-SAT.
PUBLISHED = {
    "wav2vec2_base": (
        [75.18, 6.02, 6.08, 5.74, 6.43, 96.23, 0.0233, 92.35, 88.30, 24.77, 63.43], 818.1, 79.0,
    ),
    "hubert_base": (
        [81.42, 5.11, 5.88, 5.41, 6.42, 96.30, 0.0736, 98.34, 88.53, 25.20, 64.92], 941.0, 80.8,
    ),
    "wav2vec2_large": (
        [86.14, 5.65, 5.62, 4.75, 3.75, 96.66, 0.0489, 95.28, 87.11, 27.31, 65.64], 913.5, None,
    ),
    "hubert_large": (
        [90.33, 5.98, 5.75, 3.53, 3.62, 95.29, 0.0353, 98.76, 89.81, 21.76, 67.62], 918.5, 82.2,
    ),
    "unispeech_sat_large": (
        [95.16, 3.84, 3.85, 3.38, 3.99, 97.89, 0.0836, 99.34, 92.13, 18.01, 70.68], 1118.8, None,
    ),
    "wavlm_base": (
        [84.51, 4.69, 4.83, 4.84, 6.21, 96.79, 0.0870, 98.63, 89.38, 22.86, 65.94], 1012.4, 81.9,
    ),
    "wavlm_base_plus": (
        [86.84, 4.26, 4.07, 4.07, 5.64, 96.69, 0.0990, 99.16, 89.73, 21.54, 67.98], 1078.1, 82.8,
    ),
    "wavlm_large": (
        [95.25, 4.04, 3.47, 3.09, 3.51, 97.40, 0.0827, 99.10, 92.25, 17.61, 70.03], 1121.0, 84.6,
    ),
}  # fmt: skip
COLUMNS = [
    ("sid", "test/accuracy"), ("asv", "test/eer"), ("sd", "test/der"), ("pr", "test/per"),
    ("asr", "test/wer"), ("ks", "test/accuracy"), ("qbe", "test/mtwv"), ("ic", "test/accuracy"),
    ("sf", "test/slot_type_f1"), ("sf", "test/slot_value_cer"), ("er", "test/accuracy"),
]  # fmt: skip


def row_of(values: list[float]) -> dict[str, dict[str, float]]:
    row: dict[str, dict[str, float]] = {}
    for (task, figure), value in zip(COLUMNS, values, strict=True):
        row.setdefault(task, {})[figure] = value
    return row


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_rows_have_their_published_scores(name: str) -> None:
    values, score, average = PUBLISHED[name]
    reference = read_reference()
    assert superb_s(row_of(values), reference) == pytest.approx(score, abs=0.1)
    if average is not None:
        assert plain_mean(row_of(values), reference) == pytest.approx(average, abs=0.05)


def test_the_points_of_reference_score_0_and_1000() -> None:
    reference = read_reference()
    for place, wanted in ((0, 0.0), (1, 1000.0)):
        row = {t: {n: points[place] for n, points in f.items()} for t, f in reference.items()}
        assert superb_s(row, reference) == pytest.approx(wanted)


def test_a_row_that_lacks_anything_has_no_score() -> None:
    reference = read_reference()
    row = row_of(PUBLISHED["wavlm_base"][0])
    del row["sf"]["test/slot_value_cer"]
    assert missing(row, reference) == ["sf"]
    assert superb_s(row, reference) is None
    assert plain_mean(row, reference) is None
    assert len(missing({}, reference)) == 10
