# SPDX-License-Identifier: Apache-2.0
"""Frame labels: written once and restartably, refused when they do not fit, aligned with crops."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.pretrain import labels as labels_module
from wavlm_lightning.pretrain.kmeans import Quantizer
from wavlm_lightning.pretrain.labels import (
    Labels,
    check_same_quantizer,
    has_labels,
    merge_labels,
    open_labels,
    sample_frames,
    write_labels,
)
from wavlm_lightning.pretrain.manifest import Entry, Manifest
from wavlm_lightning.seeding import generator

LabelsOf = Callable[..., Labels]
ABOUT = {"kind": "samples", "rate": 100}


class Samples:
    """The cheapest features: the first eight samples of each 25 ms window, 100 windows a second."""

    rate, dim = 100, 8

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return [w.unfold(0, 400, 160)[:, : self.dim].contiguous() for w in waveforms]


class StoppingSamples(Samples):
    """Computes so many utterances, then is interrupted."""

    def __init__(self, count: float = float("inf")):
        self.left, self.computed = count, 0

    def __call__(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        if self.computed + len(waveforms) > self.left:
            raise KeyboardInterrupt
        self.computed += len(waveforms)
        return super().__call__(waveforms)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "SHARD_UTTERANCES", 2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Seven files of noise, each 0.5 s and a bit more than the one before."""
    root, rng = tmp_path_factory.mktemp("audio"), np.random.default_rng(0)
    entries = [Entry(f"{i:02d}.wav", 8_000 + 170 * i) for i in range(7)]
    for entry in entries:
        noise = 0.1 * rng.standard_normal(entry.num_samples)
        soundfile.write(str(root / entry.path), noise, SAMPLE_RATE)
    return Manifest(root, entries)


@pytest.fixture(scope="module")
def quantizer(manifest: Manifest) -> Quantizer:
    frames = sample_frames(manifest, Samples(), share=1.0, max_frames=10**6, seed=0)
    return Quantizer(frames[:: len(frames) // 12][:12].clone(), ABOUT)


def write(
    folder: Path, manifest: Manifest, quantizer: Quantizer, *, rank: int = 0, world: int = 1
) -> bool:
    """Label a process's share; True if that was the last one and the split is whole."""
    write_labels(
        folder,
        "train",
        manifest,
        features=Samples(),
        quantizer=quantizer,
        rank=rank,
        world=world,
    )
    try:
        merge_labels(folder, "train", manifest, quantizer)
    except FileNotFoundError:
        return False
    return has_labels(folder, "train")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, manifest: Manifest, quantizer: Quantizer
) -> Path:
    """What one process writes in one go, in one shard."""
    folder = tmp_path_factory.mktemp("labels")
    assert write(folder, manifest, quantizer)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A finished label folder of the test's own."""
    return Path(shutil.copytree(finished, tmp_path / "labels"))


def rewrite(folder: Path, codes: np.ndarray) -> None:
    np.save(folder / "train.labels.npy", codes.astype(np.uint16))


# Writing


def test_labels_are_the_codes_of_each_utterances_frames(
    folder: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    labels = open_labels(folder, "train", manifest)
    for i in range(len(manifest)):
        wanted = quantizer(Samples()([manifest.read(i)])[0])
        torch.testing.assert_close(torch.from_numpy(labels.utterance(i).astype(np.int64)), wanted)


def test_finished_folder_holds_what_its_docstring_says(folder: Path) -> None:
    names = {"train.labels.npy", "train.offsets.npy", "quantizer.safetensors", "labels.json"}
    assert {p.name for p in folder.iterdir()} == names


def test_labels_are_memory_mapped(folder: Path, manifest: Manifest) -> None:
    labels = open_labels(folder, "train", manifest)
    assert isinstance(labels.codes, np.memmap)
    assert isinstance(labels.offsets, np.memmap)


def test_quantizer_of_the_folder_has_the_hash_of_its_labels(
    folder: Path, manifest: Manifest
) -> None:
    hashed = Quantizer.load(folder / "quantizer.safetensors").sha256
    assert hashed == open_labels(folder, "train", manifest).quantizer_sha256


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 6])
def test_interrupted_run_ends_with_the_same_bytes(
    folder: Path, tmp_path: Path, manifest: Manifest, quantizer: Quantizer, stop: int
) -> None:
    again, options = tmp_path / "again", {"quantizer": quantizer}
    with pytest.raises(KeyboardInterrupt):
        write_labels(again, "train", manifest, features=StoppingSamples(stop), **options)
    assert not (again / "labels.json").exists()
    rest = StoppingSamples()
    write_labels(again, "train", manifest, features=rest, **options)
    merge_labels(again, "train", manifest, quantizer)
    assert contents(again) == contents(folder)
    assert rest.computed == 7 - stop // 2 * 2  # finished shards of two are not done again


def test_lost_merge_is_made_again_from_the_parts(
    folder: Path, tmp_path: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    again, saved = tmp_path / "again", tmp_path / "saved"
    assert not write(again, manifest, quantizer, rank=0, world=2)
    shutil.copytree(again, saved)
    assert write(again, manifest, quantizer, rank=1, world=2)
    shutil.rmtree(again)
    shutil.copytree(saved, again)
    assert write(again, manifest, quantizer, rank=1, world=2)
    assert contents(again) == contents(folder)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_processes_write_the_same_bytes_as_one(
    folder: Path, tmp_path: Path, manifest: Manifest, quantizer: Quantizer, order: tuple[int, int]
) -> None:
    again = tmp_path / "again"
    first, last = (write(again, manifest, quantizer, rank=r, world=2) for r in order)
    assert (first, last) == (False, True)
    assert contents(again) == contents(folder)


def test_process_without_a_share_writes_nothing(
    tmp_path: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    assert not write(tmp_path / "labels", manifest, quantizer, rank=5, world=6)
    assert contents(tmp_path / "labels") == {}


def test_parts_of_another_codebook_are_not_used(
    folder: Path, tmp_path: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    again = tmp_path / "again"
    write(again, manifest, Quantizer(quantizer.centroids.flip(0), ABOUT), rank=0, world=2)
    assert write(again, manifest, quantizer)
    names = ("train.labels.npy", "train.offsets.npy")
    found, wanted = contents(again), contents(folder)
    assert [found[n] for n in names] == [wanted[n] for n in names]


def test_progress_counts_every_utterance(
    tmp_path: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    seen: list[tuple[int, int]] = []
    write_labels(
        tmp_path / "labels",
        "train",
        manifest,
        features=Samples(),
        quantizer=quantizer,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]  # after each batch, here two of a shard


def test_frames_are_drawn_from_a_share_of_the_utterances(manifest: Manifest) -> None:
    counted = StoppingSamples()
    sample_frames(manifest, counted, share=0.4, max_frames=10**6, seed=0)
    assert counted.computed == 3


def test_frames_are_at_most_as_many_as_wanted(manifest: Manifest) -> None:
    assert sample_frames(manifest, Samples(), share=1.0, max_frames=100, seed=0).shape == (100, 8)


def test_no_more_utterances_are_computed_than_give_the_frames(manifest: Manifest) -> None:
    order = generator(0, "codebook").permutation(len(manifest))
    frames = np.cumsum((manifest.num_samples[order] - 400) // 160 + 1)
    for most in (1, int(frames[0]), int(frames[0]) + 1, int(frames[3]) - 1, int(frames[-1])):
        counted = StoppingSamples()
        found = sample_frames(manifest, counted, share=1.0, max_frames=most, seed=0)
        assert (len(found), counted.computed) == (most, 1 + int(np.searchsorted(frames, most)))


def test_frames_stand_in_the_order_of_the_draw(manifest: Manifest) -> None:
    found = sample_frames(manifest, Samples(), share=1.0, max_frames=10**6, seed=3)
    order = generator(3, "codebook").permutation(len(manifest))
    wanted = torch.cat([Samples()([manifest.read(int(i))])[0] for i in order])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_frames_depend_on_the_seed_alone(manifest: Manifest) -> None:
    first, again, other = (
        sample_frames(manifest, Samples(), share=0.4, max_frames=60, seed=s) for s in (0, 0, 1)
    )
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, other)


# Refusing


def test_missing_folder_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(FileNotFoundError, match=r"no labels in .*nowhere: make labels"):
        open_labels(tmp_path / "nowhere", "train", manifest)


def test_missing_split_is_refused(folder: Path, manifest: Manifest) -> None:
    with pytest.raises(FileNotFoundError, match=r"labels\.json has no split dev"):
        open_labels(folder, "dev", manifest)


@pytest.mark.parametrize("name", ["train.labels.npy", "train.offsets.npy"])
def test_missing_file_is_refused(folder: Path, manifest: Manifest, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
        open_labels(folder, "train", manifest)


def test_wrong_number_of_utterances_is_refused(folder: Path, manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="labels 7 utterances, the manifest lists 6"):
        open_labels(folder, "train", manifest.select(range(6)))


def lengthened(manifest: Manifest, index: int, samples: int) -> Manifest:
    entries = [manifest[i] for i in range(len(manifest))]
    entries[index] = dataclasses.replace(
        entries[index], num_samples=entries[index].num_samples + samples
    )
    return Manifest(manifest.root, entries)


def test_other_length_is_refused_with_the_utterance(folder: Path, manifest: Manifest) -> None:
    with pytest.raises(ValueError, match=r"03\.wav has 51 labels \(0\.51 s .* 0\.63 s of audio"):
        open_labels(folder, "train", lengthened(manifest, 3, 1_600))


def test_other_list_of_equally_long_files_is_refused(folder: Path, manifest: Manifest) -> None:
    entries = [manifest[i] for i in range(len(manifest))]
    entries[3] = dataclasses.replace(entries[3], path="other.wav")
    with pytest.raises(ValueError, match="made for another list of files"):
        open_labels(folder, "train", Manifest(manifest.root, entries))


def test_same_files_elsewhere_are_accepted(folder: Path, manifest: Manifest) -> None:
    moved = Manifest(Path("/elsewhere"), [manifest[i] for i in range(len(manifest))])
    assert len(open_labels(folder, "train", moved)) == 7


def test_labels_of_an_empty_codebook_are_refused(folder: Path, manifest: Manifest) -> None:
    rewrite(folder, np.zeros(len(np.load(folder / "train.labels.npy"))))
    with pytest.raises(ValueError, match="empty codebook, every frame has code 0"):
        open_labels(folder, "train", manifest)


def test_code_beyond_the_codebook_is_refused(folder: Path, manifest: Manifest) -> None:
    codes = np.load(folder / "train.labels.npy")
    codes[17] = 12
    rewrite(folder, codes)
    with pytest.raises(ValueError, match="code 12 where 12 codes are declared"):
        open_labels(folder, "train", manifest)


def test_codebook_of_one_code_is_refused(folder: Path, manifest: Manifest) -> None:
    about = json.loads((folder / "labels.json").read_text())
    about["splits"]["train"]["num_clusters"] = 1
    (folder / "labels.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="empty codebook"):
        open_labels(folder, "train", manifest)


def test_splits_of_different_codebooks_are_refused(
    folder: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    other = Quantizer(quantizer.centroids.flip(0), ABOUT)
    write_labels(folder, "dev", manifest, features=Samples(), quantizer=other)
    merge_labels(folder, "dev", manifest, other)
    train, dev = (open_labels(folder, split, manifest) for split in ("train", "dev"))
    with pytest.raises(ValueError, match="come from different codebooks"):
        check_same_quantizer(train, dev)


def test_splits_of_one_codebook_are_accepted(
    folder: Path, manifest: Manifest, quantizer: Quantizer
) -> None:
    part = manifest.select([0, 3])
    write_labels(folder, "dev", part, features=Samples(), quantizer=quantizer)
    merge_labels(folder, "dev", part, quantizer)
    check_same_quantizer(open_labels(folder, "train", manifest), open_labels(folder, "dev", part))


# Crops


@pytest.mark.parametrize("rate", [50, 100])
def test_crop_jitters_by_at_most_half_a_frame(labels_of: LabelsOf, rate: int) -> None:
    labels = labels_of([np.arange(1_000)], rate=rate)
    frames = np.arange(20)
    for start in range(3_200):
        seconds = labels.crop(0, start, 20) / rate
        assert np.abs(seconds - (start + 320 * frames) / 16_000).max() <= 0.010 + 1e-9


@pytest.mark.parametrize("rate", [50, 100])
def test_crop_at_a_whole_frame_does_not_jitter(labels_of: LabelsOf, rate: int) -> None:
    labels = labels_of([np.arange(1_000)], rate=rate)
    for frame in range(30):
        wanted = (frame + np.arange(20)) * rate // 50
        np.testing.assert_array_equal(labels.crop(0, 320 * frame, 20), wanted)


@pytest.mark.parametrize(("rate", "known"), [(50, 10), (100, 5)])
def test_frames_behind_the_last_label_have_none(labels_of: LabelsOf, rate: int, known: int) -> None:
    found = labels_of([np.arange(10), np.arange(50)], rate=rate).crop(0, 0, 15)
    np.testing.assert_array_equal(found, [*range(0, 10, rate // 50), *[-1] * (15 - known)])


def test_crop_behind_the_end_has_no_label(labels_of: LabelsOf) -> None:
    labels = labels_of([np.arange(10), np.arange(50)])
    np.testing.assert_array_equal(labels.crop(0, 16_000, 5), [-1] * 5)


def test_crop_is_of_its_own_utterance(labels_of: LabelsOf) -> None:
    labels = labels_of([np.arange(10), 100 + np.arange(10)])
    np.testing.assert_array_equal(labels.crop(1, 640, 4), [102, 103, 104, 105])


def test_manifest_of_parts_is_labelled_by_part(tmp_path: Path, manifest: Manifest) -> None:
    parts = Manifest(manifest.root, [Entry("03.wav", 4_000), Entry("03.wav", 4_000, 4_000)])
    quantizer = Quantizer(Samples()([parts.read(0)])[0][:12], ABOUT)
    write(tmp_path / "labels", parts, quantizer)
    labels = open_labels(tmp_path / "labels", "train", parts)
    wanted = quantizer(Samples()([parts.read(1)])[0]).numpy()
    np.testing.assert_array_equal(labels.utterance(1), wanted)


def spoil_file(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "rubbish":
        path.write_bytes(b"rubbish" * 100)
    elif how == "objects":
        np.save(path, np.array([{}, None]), allow_pickle=True)
    elif how == "fractions":
        np.save(path, np.linspace(0, 1, 10))
    elif how == "a table":
        np.save(path, np.zeros((3, 4), np.int64))


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["train.labels.npy", "train.offsets.npy"])
@pytest.mark.parametrize("how", ["cut", "empty", "rubbish", "objects", "fractions", "a table"])
def test_a_damaged_file_is_named(folder: Path, manifest: Manifest, name: str, how: str) -> None:
    spoil_file(folder / name, how)
    with pytest.raises(ValueError, match=rf"{re.escape(name)} .*run make labels again"):
        open_labels(folder, "train", manifest)


@pytest.mark.bad_input
def test_offsets_of_other_labels_are_refused(folder: Path, manifest: Manifest) -> None:
    path = folder / "train.offsets.npy"
    offsets = np.load(path)
    offsets[-1] += 3
    np.save(path, offsets)
    with pytest.raises(ValueError, match="labels and offsets do not fit each other"):
        open_labels(folder, "train", manifest)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("[]", "has no split train"),
        ('{"splits": []}', "has no split train"),
        ('{"splits": {"train": 3}}', "rate of train is missing or wrong"),
        ('{"splits": {"train": {"rate": "fast"}}}', "rate of train is missing or wrong"),
        ("{", "is not JSON"),
    ],
)
def test_a_description_that_is_none_is_named(
    folder: Path, manifest: Manifest, content: str, wanted: str
) -> None:
    (folder / "labels.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"labels\.json:? {wanted}"):
        open_labels(folder, "train", manifest)
    if content != "{":
        assert not has_labels(folder, "dev")


@pytest.mark.bad_input
@pytest.mark.parametrize("how", ["cut", "empty", "rubbish"])
def test_a_damaged_codebook_is_named(folder: Path, how: str) -> None:
    spoil_file(folder / "quantizer.safetensors", how)
    with pytest.raises(ValueError, match=r"quantizer\.safetensors holds no codebook"):
        Quantizer.load(folder / "quantizer.safetensors")
