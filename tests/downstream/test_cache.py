# SPDX-License-Identifier: Apache-2.0
"""Kept features: the same values computed and read, within a budget, sound after a kill."""

import os
from pathlib import Path

import pytest
import torch

from downstream.cache import CacheConfig, FeatureCache, open_cache
from downstream.upstream import Frozen

from .test_tasks import MakeTask

LENGTHS = torch.tensor([16_000, 9_000])
KEYS = ["a", "b"]


@pytest.fixture
def batch() -> torch.Tensor:
    x = 0.1 * torch.randn(2, 16_000)
    return x.masked_fill(torch.arange(16_000) >= LENGTHS[:, None], 0)


def opened(folder: Path, *, gb: float = 1.0, name: str = "one") -> object:
    config = CacheConfig(gb=gb, dir=str(folder))
    return open_cache(config, name, num_values=25_000 / 320 * 96)


def test_first_and_second_time_give_the_same_bits(
    frozen: Frozen, batch: torch.Tensor, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path)
    first = cache(KEYS, batch, LENGTHS, frozen)
    second = cache(KEYS, batch, LENGTHS, lambda *_: pytest.fail("computed again"))
    assert first.lengths.tolist() == second.lengths.tolist() == [49, 27]
    for a, b in zip(first.layers, second.layers, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_kept_features_are_those_of_the_upstream_to_16_bit(
    frozen: Frozen, batch: torch.Tensor, tmp_path: Path
) -> None:
    kept = FeatureCache(tmp_path)(KEYS, batch, LENGTHS, frozen)
    exact = frozen(batch, LENGTHS)
    for row, length in enumerate(exact.lengths.tolist()):
        for a, b in zip(kept.layers, exact.layers, strict=True):
            ours, theirs = a[row, :length].float(), b[row, :length]
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_only_rows_that_are_missing_are_computed(
    frozen: Frozen, batch: torch.Tensor, tmp_path: Path
) -> None:
    cache = FeatureCache(tmp_path)
    whole = cache(KEYS, batch, LENGTHS, frozen)
    next(tmp_path.glob("*/*.safetensors")).unlink()
    rows = []

    def compute(x: torch.Tensor, lengths: torch.Tensor) -> object:
        rows.append(len(x))
        return frozen(x, lengths)

    again = cache(KEYS, batch, LENGTHS, compute)  # type: ignore[arg-type]
    assert rows == [1]
    torch.testing.assert_close(again.layers[-1], whole.layers[-1], rtol=0, atol=0)


def test_half_a_file_of_a_killed_run_is_not_taken_for_a_whole_one(
    frozen: Frozen, batch: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(tmp_path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache(KEYS, batch, LENGTHS, frozen)
    assert list(tmp_path.glob("*/*.safetensors")) == []
    cache(KEYS, batch, LENGTHS, frozen)


def test_features_that_do_not_fit_the_budget_are_not_kept(tmp_path: Path) -> None:
    assert opened(tmp_path, gb=0.0) is None
    assert opened(tmp_path, gb=1e-6) is None
    assert opened(tmp_path) is not None


def test_an_upstream_that_nobody_uses_makes_room(
    frozen: Frozen, batch: torch.Tensor, tmp_path: Path
) -> None:
    first = opened(tmp_path, name="old")
    assert isinstance(first, FeatureCache)
    first(KEYS, batch, LENGTHS, frozen)
    used = sum(f.stat().st_size for f in tmp_path.rglob("*.safetensors"))
    budget = (25_000 / 320 * 96 * 2 * 1.05 + used / 2) / 1e9
    opened(tmp_path, name="new", gb=budget)
    assert first.files.folder.is_dir()  # in use
    first.close()
    opened(tmp_path, name="newer", gb=budget)
    assert not first.files.folder.is_dir()


def test_values_too_large_for_16_bit_are_kept_as_they_are(tmp_path: Path) -> None:
    from downstream.features import Features

    large = Features((torch.full((2, 49, 4), 1e6),), torch.tensor([49, 27]))
    kept = FeatureCache(tmp_path)(KEYS, torch.zeros(2, 16_000), LENGTHS, lambda *_: large)
    assert float(kept.layers[0].max()) == 1e6


def test_tasks_that_read_the_same_recordings_share_what_is_kept(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path
) -> None:
    class Phones(type(make_task("asr"))):  # type: ignore[misc]
        name = "phones"

    first = make_task("asr")
    second = Phones(first.config, first.sources, seed=1)
    for split in ("train", "dev", "test"):
        for a, b in zip(first.examples(split), second.examples(split), strict=True):
            training = split == "train"
            assert first.key(a, training=training) == second.key(b, training=training)
    example = first.examples("dev")[0]
    waveform = first.load(example, None).waveform[None]
    lengths = torch.tensor([waveform.shape[1]])
    key, same = (str(task.key(example, training=False)) for task in (first, second))
    cache = FeatureCache(tmp_path)
    cache([key], waveform, lengths, frozen)
    cache([same], waveform, lengths, lambda *_: pytest.fail("computed again"))


def test_size_is_known_while_another_process_moves_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from downstream import cache

    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / "kept.safetensors").write_bytes(b"12345")
    (tmp_path / "aa" / ".half.safetensors.1").write_bytes(b"123")
    stat = os.stat

    def moved(path: Path, **kwargs: object) -> object:
        if "half" in Path(path).name:
            raise FileNotFoundError(path)
        return stat(path, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(cache.os, "stat", moved)
    assert cache._size(tmp_path) == 5
