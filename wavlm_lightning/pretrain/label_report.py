# SPDX-License-Identifier: Apache-2.0
"""How good labels are: codes used, entropy, and agreement with phones where they are known.

Phone purity, cluster purity and PNMI: HuBERT (Hsu et al. 2021), section 5.1.
"""

import re
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from wavlm_lightning.files import read_text
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.pretrain.labels import Labels
from wavlm_lightning.pretrain.manifest import Manifest

_INTERVAL = re.compile(r'xmin = ([-+.\de]+)\s+xmax = ([-+.\de]+)\s+text = "((?:[^"]|"")*)"')
SILENCE = "sil"


@dataclass(frozen=True)
class LabelReport:
    """Figures of one label set on one split; phone figures are None without alignments."""

    num_clusters: int
    codes_used: int
    entropy_bits: float
    majority: float  # share of the most frequent code
    phone_purity: float | None = None
    cluster_purity: float | None = None
    pnmi: float | None = None
    aligned_utterances: int = 0

    def to_dict(self) -> dict[str, float]:
        """The figures that are known."""
        return {k: v for k, v in asdict(self).items() if v is not None}

    def line(self) -> str:
        """The figures in one line."""
        text = (
            f"{self.codes_used} of {self.num_clusters} codes used, entropy "
            f"{self.entropy_bits:.2f} bits, most frequent code {self.majority:.1%}"
        )
        if self.pnmi is None:
            return text + "; no phone alignments (TextGrid files beside the audio), no PNMI"
        return (
            f"{text}; phone purity {self.phone_purity:.3f}, cluster purity "
            f"{self.cluster_purity:.3f}, PNMI {self.pnmi:.3f}"
        )


def report_labels(labels: Labels, manifest: Manifest, *, max_utterances: int = 2000) -> LabelReport:
    """Figures over all labels; phones of the first `max_utterances` that have alignments."""
    counts = np.bincount(labels.codes, minlength=labels.num_clusters)
    shares = counts[counts > 0] / counts.sum()
    entropy = float(-(shares * np.log2(shares)).sum())
    codes, phones, aligned = [], [], 0
    for index in range(len(manifest)):
        intervals = read_alignment(manifest, index)
        if intervals:
            aligned += 1
            codes.append(labels.utterance(index))
            phones.append(phones_at(intervals, len(codes[-1]), labels.rate))
        if aligned >= max_utterances:
            break
    purity = cluster = pnmi = None
    if codes:
        purity, cluster, pnmi = agreement(np.concatenate(codes), np.concatenate(phones))
    return LabelReport(
        num_clusters=labels.num_clusters,
        codes_used=int((counts > 0).sum()),
        entropy_bits=entropy,
        majority=float(shares.max()),
        phone_purity=purity,
        cluster_purity=cluster,
        pnmi=pnmi,
        aligned_utterances=aligned,
    )


def read_alignment(manifest: Manifest, index: int) -> list[tuple[float, float, str]]:
    """(start, stop, phone) in seconds of an utterance, empty if there is no alignment.

    Read from `<utterance>.TextGrid` beside the audio, tier `phones`, as the Montreal Forced Aligner
    writes it.
    """
    path = manifest.path(index).with_suffix(".TextGrid")
    if not path.is_file():
        return []
    _, found, tier = read_text(path).partition('name = "phones"')
    if not found:
        return []
    tier = tier.partition('class = "IntervalTier"')[0]
    shift = manifest.starts[index] / SAMPLE_RATE
    return [
        (float(a) - shift, float(b) - shift, text.replace('""', '"') or SILENCE)
        for a, b, text in _INTERVAL.findall(tier)
    ]


def phones_at(
    intervals: list[tuple[float, float, str]], num_labels: int, rate: int
) -> NDArray[np.str_]:
    """The phone at the middle of each label's 25 ms window."""
    middles = np.arange(num_labels) / rate + 0.0125
    stops = np.array([stop for _, stop, _ in intervals])
    names = np.array([name for _, _, name in intervals])
    found: NDArray[np.str_] = names[np.searchsorted(stops, middles).clip(max=len(names) - 1)]
    return found


def agreement(codes: NDArray[np.integer], phones: NDArray[np.str_]) -> tuple[float, float, float]:
    """Phone purity, cluster purity and phone-normalised mutual information of aligned frames.

    >>> agreement(np.array([0, 0, 1, 2]), np.array(["a", "a", "b", "b"]))
    (1.0, 0.75, 1.0)
    """
    _, p = np.unique(phones, return_inverse=True)
    joint = np.zeros((p.max() + 1, int(codes.max()) + 1))
    np.add.at(joint, (p, codes), 1)
    joint /= joint.sum()
    by_phone, by_code = joint.sum(1), joint.sum(0)
    there = joint > 0
    independent = by_phone[:, None] * by_code[None, :]
    information = float((joint[there] * np.log(joint[there] / independent[there])).sum())
    entropy = float(-(by_phone * np.log(by_phone)).sum())
    purity, cluster = float(joint.max(0).sum()), float(joint.max(1).sum())
    return purity, cluster, information / entropy if entropy > 0 else 0.0
