# SPDX-License-Identifier: Apache-2.0
"""Kept features: the same values computed and read, within a budget, sound after a kill."""

import os
from pathlib import Path

import pytest
import torch

from wavlm_lightning.downstream.features.cache import (
    MARKER,
    CacheConfig,
    FeatureCache,
    KeptFiles,
    open_cache,
)
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Example

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

    large = Features((torch.full((2, 49, 4), 1e6),), torch.tensor([49, 27]))
    kept = FeatureCache(tmp_path)(KEYS, torch.zeros(2, 16_000), LENGTHS, lambda *_: large)
    assert float(kept.layers[0].max()) == 1e6


def test_tasks_that_read_the_same_recordings_share_what_is_kept(
    make_task: MakeTask, frozen: Frozen, tmp_path: Path
) -> None:
    class Phones(type(make_task("asr"))):  # type: ignore[misc]
        name = "phones"

    first = make_task("asr")
    second = Phones(first.config, first.sources, framing=first.framing, seed=1)
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
    from wavlm_lightning.downstream.features import cache

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


def test_folders_that_were_not_made_here_are_never_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_bytes(b"x" * 100_000)
    (tmp_path / "0123456789abcdef").mkdir()  # as our folders are called, and not ours
    (tmp_path / "0123456789abcdef" / "a.bin").write_bytes(b"x" * 100_000)
    budget = 25_000 / 320 * 96 * 2 * 1.06 / 1e9
    for name in ("one", "two", "three"):
        made = opened(tmp_path, name=name, gb=budget)
        assert isinstance(made, FeatureCache)
        (made.files.folder / "kept").write_bytes(b"x" * 20_000)
        made.close()
    assert (foreign / "chapter1.tex").stat().st_size == 100_000
    assert (tmp_path / "0123456789abcdef" / "a.bin").is_file()
    assert len(list(tmp_path.glob(f"*/{MARKER}"))) == 1  # of ours, the newest alone


def test_what_is_removed_is_told(tmp_path: Path) -> None:
    budget, told = 25_000 / 320 * 96 * 2 * 1.06 / 1e9, list[str]()
    for name in ("one", "two"):
        made = open_cache(
            CacheConfig(gb=budget, dir=str(tmp_path)),
            name,
            num_values=25_000 / 320 * 96,
            tell=told.append,
        )
        assert made is not None
        (made.files.folder / "kept").write_bytes(b"x" * 20_000_000)
        made.close()
    (line,) = told
    assert line.startswith("cache.gb: removed ")
    assert line.endswith(", 0.02 GB of features of another upstream")


@pytest.mark.parametrize("damage", ["cut", "empty", "one bit", "another form"])
def test_a_damaged_file_is_computed_again_and_counted(
    damage: str, frozen: Frozen, batch: torch.Tensor, tmp_path: Path
) -> None:
    whole = FeatureCache(tmp_path)(KEYS, batch, LENGTHS, frozen)
    path = KeptFiles(tmp_path).path("a")
    content = path.read_bytes()
    damaged = {
        "cut": content[:-100],
        "empty": b"",
        "one bit": content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
        "another form": b"RIFF" + content,
    }[damage]
    path.write_bytes(damaged)
    loaded = []

    def load(key: str) -> torch.Tensor:
        loaded.append(key)
        return batch[0]

    cache = FeatureCache(tmp_path, load=load)
    # As a loader has it that found the file before it was damaged: without samples.
    again = cache(KEYS, torch.empty(2, 0), LENGTHS, frozen, read=[False] * len(KEYS))
    assert (loaded, cache.damaged) == (["a"], 1)
    torch.testing.assert_close(again.layers, whole.layers, rtol=0, atol=0)
    FeatureCache(tmp_path)(KEYS, batch, LENGTHS, lambda *_: pytest.fail("computed again"))
    if damage != "one bit":  # of the others, a loader sees that they cannot be used
        path.write_bytes(damaged)
        assert cache.files.num_samples("a") is None


def test_a_recording_that_was_changed_in_place_has_another_key(
    make_task: MakeTask, tmp_path: Path
) -> None:
    """Also if it is as long as before."""
    task, path = make_task("er"), tmp_path / "a.wav"
    path.write_bytes(b"one")
    example = Example("a", str(path), 0, 100, 0)
    os.utime(path, ns=(0, 10**9))
    first = task.key(example, training=False)
    assert first == task.key(example, training=False)
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 2 * 10**9))
    assert task.key(example, training=False) != first


def test_features_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    broken = Features((torch.full((1, 49, 4), torch.nan),), torch.tensor([49]))
    key = f"{tmp_path}/my call 3.wav 100 200 0 16000"
    with pytest.raises(ValueError, match=r"features for .*/my call 3\.wav: look at the recording"):
        FeatureCache(tmp_path)([key], torch.zeros(1, 16_000), LENGTHS[:1], lambda *_: broken)
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_parts_of_a_killed_run_are_removed_unless_the_cache_is_in_use(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    assert isinstance(cache, FeatureCache)
    part = cache.files.folder / ".a.safetensors.1.part"
    part.touch()
    opened(tmp_path).close()  # type: ignore[attr-defined]
    assert part.exists()
    cache.close()
    opened(tmp_path)
    assert not part.exists()
