# SPDX-License-Identifier: Apache-2.0
"""Mixing: how loud, how long, with whom and how often."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from wavlm_lightning.pretrain.manifest import Entry, Manifest
from wavlm_lightning.pretrain.mixing import Mixed, Mixer, MixingConfig, NoiseClips

SPEECH = MixingConfig(
    prob=1.0, noise_prob=0.0, speech_db=(-5.0, 5.0), noise_db=(-5.0, 20.0), max_overlap=0.5
)
NOISE = dataclasses.replace(SPEECH, noise_prob=1.0)
SIZE = 400


def generators(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, i]) for i in range(count)]


def mix(config: MixingConfig, waveforms: Tensor, *, seed: int = 0, **options: object) -> Mixed:
    lengths = torch.full((len(waveforms),), waveforms.shape[1])
    mixer = Mixer(config=config, normalize=bool(options.pop("normalize", False)), **options)  # type: ignore[arg-type]
    return mixer(waveforms, lengths, generators(len(waveforms), seed))


def square_waves(levels: Sequence[float], size: int = SIZE, seed: int = 0) -> Tensor:
    """(B, T) of one level a row and random signs: each sample tells whose it is and how loud."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (len(levels), size))
    return torch.from_numpy(signs).float() * torch.tensor(levels)[:, None]


def ratio_db(first: Tensor, difference: Tensor) -> float:
    """Energy ratio of a row and a partner of constant level, from what the mix added."""
    level = difference[difference != 0].abs().mean()
    return float(10 * torch.log10(first.square().mean() / level**2))


@pytest.fixture
def clips(tmp_path: Path) -> NoiseClips:
    """One clip of constant level 0.25."""
    signs = np.random.default_rng(5).choice([-0.25, 0.25], 300)
    soundfile.write(str(tmp_path / "noise.wav"), signs, 16_000, subtype="FLOAT")
    return NoiseClips(Manifest(tmp_path, [Entry("noise.wav", 300)]))


def test_energy_ratio_of_speech_spans_its_range() -> None:
    waveforms = square_waves([0.1, 0.7])
    found = []
    for seed in range(300):
        difference = mix(SPEECH, waveforms, seed=seed).waveforms - waveforms
        found += [ratio_db(waveforms[i], difference[i]) for i in range(2)]
    assert -5.01 < min(found) < -4.8
    assert 4.8 < max(found) < 5.01


def test_energy_ratio_of_noise_spans_its_range(clips: NoiseClips) -> None:
    waveforms = square_waves([0.1, 0.7])
    found = []
    for seed in range(300):
        difference = mix(NOISE, waveforms, seed=seed, noise=clips).waveforms - waveforms
        found += [ratio_db(waveforms[i], difference[i]) for i in range(2)]
    assert -5.01 < min(found) < -4.5
    assert 19.5 < max(found) < 20.01


def test_overlap_is_one_sample_to_half_of_the_utterance() -> None:
    waveforms = square_waves([0.1, 0.7], size=40)
    overlaps = set()
    for seed in range(500):
        changed = mix(SPEECH, waveforms, seed=seed).waveforms != waveforms
        overlaps |= set(changed.sum(1).tolist())
    assert overlaps == set(range(1, 21))


def test_one_contiguous_stretch_changes() -> None:
    waveforms = square_waves([0.1, 0.7])
    for seed in range(100):
        for row in mix(SPEECH, waveforms, seed=seed).waveforms != waveforms:
            where = torch.nonzero(row)[:, 0]
            assert int(where[-1] - where[0]) + 1 == len(where)


def test_what_is_added_is_a_stretch_of_the_partner() -> None:
    first, second = waveforms = square_waves([0.1, 0.7])
    difference = mix(SPEECH, waveforms).waveforms[0] - first
    added = difference[difference != 0].sign()
    assert any(torch.equal(added, part.sign()) for part in second.unfold(0, len(added), 1))


def test_places_in_both_are_drawn_over_all_of_them() -> None:
    """The beginning of the second utterance is as likely as its end, and so in the first."""
    first, second = waveforms = square_waves([0.1, 0.7], size=2000)
    starts, offsets = [], []
    for seed in range(200):
        difference = mix(SPEECH, waveforms, seed=seed).waveforms[0] - first
        where = torch.nonzero(difference)[:, 0]
        added = difference[where].sign()
        if len(added) < 30:
            continue  # too short to tell where it is from
        same = (second.sign().unfold(0, len(added), 1) == added).all(1)
        (offset,) = torch.nonzero(same)[:, 0].tolist()
        starts.append(int(where[0]) / (2000 - len(added)))
        offsets.append(offset / (2000 - len(added)))
    for shares in (starts, offsets):
        quarters = np.histogram(shares, bins=4, range=(0, 1))[0] / len(shares)
        assert quarters.min() > 0.15
        assert quarters.max() < 0.35


def test_overlap_is_at_most_the_partner() -> None:
    waveforms, lengths = square_waves([0.1, 0.7]), torch.tensor([SIZE, 30])
    waveforms[1, 30:] = 0
    mixer = Mixer(config=SPEECH, normalize=False)
    for seed in range(200):
        changed = mixer(waveforms, lengths, generators(2, seed)).waveforms != waveforms
        assert 1 <= int(changed[0].sum()) <= 30
        assert 1 <= int(changed[1].sum()) <= 15


def test_padding_stays_zero() -> None:
    waveforms, lengths = square_waves([0.1, 0.7]), torch.tensor([SIZE, 200])
    waveforms[1, 200:] = 0
    for seed in range(50):
        mixed = Mixer(config=SPEECH, normalize=True)(waveforms, lengths, generators(2, seed))
        torch.testing.assert_close(mixed.waveforms[1, 200:], torch.zeros(SIZE - 200))


def partners(config: MixingConfig) -> list[list[int]]:
    """Which of four rows each row gets, over many draws, told apart by disjoint sign patterns."""
    waveforms = torch.zeros(4, SIZE)
    for i in range(4):
        waveforms[i] = torch.sin(2 * torch.pi * (i + 1) * torch.arange(SIZE) / 8 + 0.3)
    found: list[list[int]] = [[] for _ in range(4)]
    fixed = dataclasses.replace(config, speech_db=(0.0, 0.0), max_overlap=1.0)
    for seed in range(200):
        difference = mix(fixed, waveforms, seed=seed).waveforms - waveforms
        for row in range(4):
            bins = torch.fft.rfft(difference[row]).abs()[[50, 100, 150, 200]]
            if int((difference[row] != 0).sum()) > 100:  # long enough to hear which tone it is
                found[row].append(int((bins * torch.tensor([1, 1, 1, 0.5])).argmax()))
    return found


def test_nobody_is_mixed_with_itself() -> None:
    for row, found in enumerate(partners(SPEECH)):
        assert set(found) == {0, 1, 2, 3} - {row}


def test_self_mixing_lets_a_row_be_its_own_partner() -> None:
    for row, found in enumerate(partners(dataclasses.replace(SPEECH, self_mixing=True))):
        assert row in found


def test_all_partners_are_equally_likely() -> None:
    for found in partners(SPEECH):
        shares = np.bincount(found, minlength=4) / len(found)
        assert np.abs(shares[shares > 0] - 1 / 3).max() < 0.12


def test_share_of_mixed_rows_is_prob(clips: NoiseClips) -> None:
    config = dataclasses.replace(SPEECH, prob=0.2, noise_prob=0.1)
    kinds = mix(config, torch.randn(10_000, 8), noise=clips).kinds
    assert abs(float((kinds > 0).float().mean()) - 0.2) < 0.015
    assert abs(float((kinds == 2).sum() / (kinds > 0).sum()) - 0.1) < 0.025


def test_kinds_tell_which_rows_changed(clips: NoiseClips) -> None:
    config = dataclasses.replace(SPEECH, prob=0.5, noise_prob=0.5)
    waveforms = square_waves([0.3] * 100)
    mixed = mix(config, waveforms, noise=clips)
    torch.testing.assert_close((mixed.waveforms != waveforms).any(1), mixed.kinds > 0)
    assert set(mixed.kinds.tolist()) == {0, 1, 2}


def test_prob_zero_changes_nothing() -> None:
    waveforms = square_waves([0.1, 0.7])
    mixed = mix(dataclasses.replace(SPEECH, prob=0.0), waveforms)
    torch.testing.assert_close(mixed.waveforms, waveforms, rtol=0, atol=0)


def test_normalized_rows_have_mean_zero_and_variance_one() -> None:
    mixed = mix(SPEECH, 3 + square_waves([1.0, 2.0, 0.5], size=4000), normalize=True).waveforms
    torch.testing.assert_close(mixed.mean(1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(mixed.var(1, correction=0), torch.ones(3), rtol=0, atol=1e-4)


def test_unmixed_rows_are_not_normalized_again() -> None:
    waveforms = 3 + square_waves([1.0] * 50)
    mixed = mix(dataclasses.replace(SPEECH, prob=0.5), waveforms, normalize=True)
    clean = mixed.kinds == 0
    torch.testing.assert_close(mixed.waveforms[clean], waveforms[clean], rtol=0, atol=0)


def test_single_row_without_noise_stays_clean() -> None:
    waveforms = square_waves([0.3])
    mixed = mix(SPEECH, waveforms)
    torch.testing.assert_close(mixed.waveforms, waveforms, rtol=0, atol=0)
    assert mixed.kinds.tolist() == [0]


def secondary_levels(config: MixingConfig) -> set[float]:
    """Level of what row 1 gets from row 0, which is mixed before it."""
    waveforms = square_waves([1.0, 1.0])
    fixed = dataclasses.replace(config, speech_db=(0.0, 0.0))
    levels: set[float] = set()
    for seed in range(20):
        difference = mix(fixed, waveforms, seed=seed).waveforms[1] - waveforms[1]
        levels |= {round(float(x), 3) for x in difference.abs().unique()}
    return levels


def test_partner_is_taken_as_it_was_before_mixing() -> None:
    assert secondary_levels(SPEECH) == {0.0, 1.0}


def test_mixed_secondary_takes_the_partner_with_its_mix() -> None:
    assert len(secondary_levels(dataclasses.replace(SPEECH, mixed_secondary=True))) > 2


def test_input_is_not_written_into(clips: NoiseClips) -> None:
    waveforms = square_waves([0.1, 0.7])
    before = waveforms.clone()
    for config in (SPEECH, NOISE, dataclasses.replace(SPEECH, mixed_secondary=True)):
        mix(config, waveforms, noise=clips, normalize=True)
    torch.testing.assert_close(waveforms, before, rtol=0, atol=0)


def test_silent_partner_adds_nothing() -> None:
    waveforms = square_waves([0.5, 0.0])
    torch.testing.assert_close(mix(SPEECH, waveforms).waveforms, waveforms, rtol=0, atol=0)


def test_row_depends_on_its_own_generator_alone() -> None:
    waveforms = square_waves([0.1, 0.7, 0.4])
    lengths = torch.full((3,), SIZE)
    mixer = Mixer(config=SPEECH, normalize=False)
    first = mixer(waveforms, lengths, generators(3)).waveforms
    other = [*generators(3, seed=9)[:2], generators(3)[2]]
    torch.testing.assert_close(mixer(waveforms, lengths, other).waveforms[2], first[2])


def test_long_clip_gives_a_random_part_of_thirty_seconds(tmp_path: Path) -> None:
    num_samples = 35 * 16_000
    ramp = np.linspace(0.1, 1, num_samples)
    soundfile.write(str(tmp_path / "noise.wav"), ramp, 16_000, subtype="FLOAT")
    clips = NoiseClips(Manifest(tmp_path, [Entry("noise.wav", num_samples)]))
    parts = [clips.draw(generator) for generator in generators(5)]
    assert {len(part) for part in parts} == {30 * 16_000}
    assert len({float(part[0]) for part in parts}) == 5


def test_missing_noise_is_refused_with_both_keys() -> None:
    with pytest.raises(ValueError, match=r"mixing\.noise_prob=1 needs noise: say data\.noise=DIR"):
        Mixer(config=NOISE, normalize=False)


def test_noise_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no noise clip"):
        NoiseClips(Manifest(tmp_path, []))
