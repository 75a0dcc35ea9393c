# SPDX-License-Identifier: Apache-2.0
"""Batches: the same whoever makes them, cropped inside their files, aligned with their labels."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.masking import SpanMask
from wavlm_lightning.pretrain.config import DataConfig
from wavlm_lightning.pretrain.data import PretrainBatch, PretrainDataset, Split
from wavlm_lightning.pretrain.labels import Labels
from wavlm_lightning.pretrain.manifest import Entry, Manifest
from wavlm_lightning.pretrain.mixing import Mixer, MixingConfig

LENGTHS = [32_000, 30_000, 28_000, 20_000, 25_600, 31_999]
CONFIG = DataConfig(
    min_samples=8_000, max_samples=16_000, seconds_per_batch=60.0, audio_seconds_per_update=60.0
)
MASK = SpanMask(prob=0.8, length=10, min_spans=2)
MIXING = MixingConfig(
    prob=0.7, noise_prob=0.0, speech_db=(-5.0, 5.0), noise_db=(-5.0, 20.0), max_overlap=0.5
)
KEYS = [(0, [0, 1, 2]), (0, [3, 4]), (1, [2, 5, 0]), (1, [1])]


@pytest.fixture
def ramps(tmp_path: Path, labels_of: Callable[..., Labels]) -> Split:
    """Utterances whose samples tell their position, n / 32768, and whose labels tell their frame.

    The second label set has 100 labels a second.
    """
    entries = []
    for i, num_samples in enumerate(LENGTHS):
        ramp = np.arange(num_samples, dtype=np.int16)
        soundfile.write(str(tmp_path / f"{i}.wav"), ramp, 16_000)
        entries.append(Entry(f"{i}.wav", num_samples))
    slow = labels_of([np.arange(conv_lengths(n)) for n in LENGTHS])
    fast = labels_of([np.arange((n - 400) // 160 + 1) for n in LENGTHS], rate=100)
    rows = np.arange(len(LENGTHS))
    return Split(manifest=Manifest(tmp_path, entries), labels=[slow, fast], rows=rows)


def make_dataset(split: Split, **changes: Any) -> PretrainDataset:
    options: dict[str, Any] = {"mask": MASK, "mixer": None, "normalize": False, "train": True}
    options |= {"seed": 0, "config": CONFIG} | changes
    return PretrainDataset(split, options.pop("config"), **options)


def positions(batch: PretrainBatch) -> torch.Tensor:
    """First sample of each crop of a ramp."""
    return (batch.waveforms[:, 0] * 32_768).round().long()


def assert_same(first: PretrainBatch, second: PretrainBatch) -> None:
    torch.testing.assert_close(first[:6], second[:6], rtol=0, atol=0)
    assert first[6:] == second[6:]


def test_batch_has_the_shapes_of_its_docstring(ramps: Split) -> None:
    batch = make_dataset(ramps)[0, [0, 1, 2]]
    assert (batch.waveforms.shape, batch.masked.shape) == ((3, 16_000), (3, 49))
    assert (batch.labels.shape, batch.mixed) == ((3, 49, 2), 0)
    assert (batch.waveforms.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    assert (batch.ids, batch.epoch) == (["0.wav", "1.wav", "2.wav"], 0)


def test_crops_of_the_grid_are_as_long_as_it_says(ramps: Split) -> None:
    config = dataclasses.replace(CONFIG, grid_crops=True)
    batch = make_dataset(ramps, config=config)[0, [0, 1]]
    assert batch.waveforms.shape[1] in config.grid.tolist()
    assert batch.masked.shape[1] % 8 == 0


@pytest.mark.parametrize("normalize", [False, True])
def test_workers_do_not_change_batches(ramps: Split, normalize: bool) -> None:
    mixer = Mixer(config=MIXING, normalize=normalize)
    dataset = make_dataset(ramps, mixer=mixer, normalize=normalize)
    alone, shared = (
        list(DataLoader(dataset, batch_size=None, sampler=KEYS, num_workers=n)) for n in (0, 2)
    )
    for first, second in zip(alone, shared, strict=True):
        assert_same(first, second)


def test_order_does_not_change_batches(ramps: Split) -> None:
    dataset = make_dataset(ramps, mixer=Mixer(config=MIXING, normalize=False))
    forward = [dataset[key] for key in KEYS]
    backward = [dataset[key] for key in KEYS[::-1]][::-1]
    for first, second in zip(forward, backward, strict=True):
        assert_same(first, second)


def test_global_random_state_does_not_change_batches(ramps: Split) -> None:
    dataset = make_dataset(ramps, mixer=Mixer(config=MIXING, normalize=False))
    first = dataset[KEYS[0]]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert_same(dataset[KEYS[0]], first)


def test_crops_do_not_depend_on_the_other_rows(ramps: Split) -> None:
    dataset = make_dataset(ramps)
    alone, together = dataset[0, [2]], dataset[0, [0, 1, 2]]
    torch.testing.assert_close(together.waveforms[2], alone.waveforms[0])
    torch.testing.assert_close(together.masked[2], alone.masked[0])


@pytest.mark.parametrize("what", ["waveforms", "masked"])
def test_epochs_differ(ramps: Split, what: str) -> None:
    first, second = (make_dataset(ramps)[epoch, [0, 1, 2]] for epoch in (0, 1))
    assert not torch.equal(getattr(first, what), getattr(second, what))


@pytest.mark.parametrize("what", ["waveforms", "masked"])
def test_seeds_differ(ramps: Split, what: str) -> None:
    first, second = (make_dataset(ramps, seed=seed)[0, [0, 1, 2]] for seed in (0, 1))
    assert not torch.equal(getattr(first, what), getattr(second, what))


def test_crops_lie_inside_their_files(ramps: Split) -> None:
    dataset = make_dataset(ramps)
    starts = torch.stack([positions(dataset[e, [*range(6)]]) for e in range(100)])  # (100, B)
    room = torch.tensor(LENGTHS) - 16_000
    assert bool((starts <= room).all())
    assert bool((starts.min(0).values < 0.1 * room).all())
    assert bool((starts.max(0).values > 0.9 * room).all())


def test_training_crops_all_rows_to_the_shortest(ramps: Split) -> None:
    longer = dataclasses.replace(CONFIG, max_samples=29_000)
    batch = make_dataset(ramps, config=longer)[0, [0, 3, 2]]
    assert batch.waveforms.shape == (3, 20_000)
    assert batch.lengths.tolist() == [20_000] * 3


def test_validation_pads_the_beginning_of_each_row(ramps: Split) -> None:
    longer = dataclasses.replace(CONFIG, max_samples=29_000)
    batch = make_dataset(ramps, config=longer, train=False)[0, [0, 3, 2]]
    assert batch.lengths.tolist() == [29_000, 20_000, 28_000]
    assert positions(batch).tolist() == [0, 0, 0]
    torch.testing.assert_close(batch.waveforms[1, 20_000:], torch.zeros(9_000))


def test_padding_has_no_label_and_no_mask(ramps: Split) -> None:
    longer = dataclasses.replace(CONFIG, max_samples=29_000)
    batch = make_dataset(ramps, config=longer, train=False)[0, [0, 3]]
    frames = conv_lengths(20_000)
    assert bool((batch.labels[1, frames:] == -1).all())
    assert bool((batch.labels[1, :frames] >= 0).all())
    assert not bool(batch.masked[1, frames:].any())


def test_whole_utterance_is_normalized_before_the_crop(ramps: Split) -> None:
    batch = make_dataset(ramps, normalize=True)[0, [0]]
    whole = ramps.manifest.read(0)
    standard = (whole - whole.mean()) / (whole.var(correction=0) + 1e-5).sqrt()
    start = int(positions(make_dataset(ramps)[0, [0]])[0])
    torch.testing.assert_close(
        batch.waveforms[0], standard[start : start + 16_000], rtol=1e-4, atol=1e-4
    )


def test_labels_follow_the_crop_within_half_a_frame(ramps: Split) -> None:
    dataset, frames = make_dataset(ramps), torch.arange(49)
    for epoch in range(50):
        batch = dataset[epoch, [0, 1, 2]]
        wanted = positions(batch)[:, None] / 320 + frames
        there = batch.labels >= 0
        for labels, rate in ((batch.labels[..., 0], 50), (batch.labels[..., 1], 100)):
            away = (labels * 50 / rate - wanted).abs()
            assert float(away[labels >= 0].max()) <= 0.5
        assert float(there.float().mean()) > 0.97  # a crop at the end may lack its last label


def test_snapped_crops_do_not_jitter(ramps: Split) -> None:
    dataset = make_dataset(ramps, config=dataclasses.replace(CONFIG, snap_crops=True))
    for epoch in range(50):
        batch = dataset[epoch, [0, 1, 2]]
        first = positions(batch)
        assert not bool((first % 320).any())
        wanted = (first // 320)[:, None] + torch.arange(49)
        torch.testing.assert_close(batch.labels, torch.stack([wanted, 2 * wanted], -1))


def test_mixing_leaves_labels_and_masks_alone(ramps: Split) -> None:
    clean = make_dataset(ramps)[0, [0, 1, 2]]
    mixed = make_dataset(ramps, mixer=Mixer(config=MIXING, normalize=False))[0, [0, 1, 2]]
    assert not torch.equal(mixed.waveforms, clean.waveforms)
    torch.testing.assert_close((mixed.labels, mixed.masked), (clean.labels, clean.masked))


def test_rows_choose_the_utterances_that_are_used(ramps: Split) -> None:
    some = dataclasses.replace(ramps, rows=np.array([5, 3]))
    assert some.num_samples.tolist() == [31_999, 20_000]
    batch = make_dataset(some)[0, [1]]
    assert_same(batch, make_dataset(ramps)[0, [3]])


@pytest.mark.parametrize(
    ("seconds", "world", "batches"), [(2_800, 1, 32), (2_800, 32, 32), (2_800, 5, 35), (10, 4, 4)]
)
def test_batches_of_an_update_cover_its_seconds_on_all_processes(
    seconds: float, world: int, batches: int
) -> None:
    config = dataclasses.replace(
        CONFIG, seconds_per_batch=87.5, audio_seconds_per_update=float(seconds)
    )
    assert config.batches_per_update(world) == batches
