# SPDX-License-Identifier: Apache-2.0
"""From a folder of recordings to manifests: which files, which split, which part of a long file.

The layouts of LibriSpeech, Libri-Light, GigaSpeech and VoxPopuli are recognised, and a folder with
a `manifest.tsv` of named columns; any other folder is searched for audio. The segmentation of
WavLM's own data is not published (microsoft/unilm issue 1695), so what is done here is ours.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from wavlm_lightning.audio import AudioError, audio_length, check_audio
from wavlm_lightning.fields import Checked, number, whole
from wavlm_lightning.files import read_json
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.pretrain.manifest import Entry, Manifest, read_manifest
from wavlm_lightning.pretrain.walk import SUFFIXES, Walk
from wavlm_lightning.same_recordings import Span, shared
from wavlm_lightning.seeding import generator
from wavlm_lightning.tables import read_table

MAX_SEGMENT_SECONDS = 30.0  # ours: speech is joined, and long sessions are cut, up to this
Progress = Callable[[int, int], None]


class Found(NamedTuple):
    """A candidate utterance: a path below the root, its split if known, a part in seconds."""

    path: str
    split: str  # "train", "dev", another name (left out), or "" for a share held out
    start: float = 0.0
    stop: float | None = None


@dataclass(frozen=True)
class Corpus:
    """Train and dev manifests of a folder, and what was not used."""

    layout: str
    train: Manifest
    dev: Manifest
    bad: dict[str, str] = field(default_factory=dict)  # path -> reason
    other_splits: dict[str, int] = field(default_factory=dict)  # split -> utterances left out
    left_out: dict[str, int] = field(default_factory=dict)  # names that were not read, by reason
    left_out_line: str = ""  # the same in a line
    in_dev: list[str] = field(default_factory=list)  # utterances of train that are in dev too

    def report(self) -> str:
        """Lines for the log."""
        lines = [
            f"{self.layout}: train {len(self.train)} utterances, {self.train.hours:.2f} h; "
            f"dev {len(self.dev)}, {self.dev.hours:.2f} h"
        ]
        if self.other_splits:
            left = ", ".join(f"{s} {n}" for s, n in sorted(self.other_splits.items()))
            lines.append(f"left out, other splits: {left}")
        if self.left_out_line:
            lines.append(self.left_out_line)
        if self.in_dev:
            lines.append(
                f"warning: {len(self.in_dev)} utterances of train are in dev too, such as "
                f"{self.in_dev[0]}: dev says too much good of the model"
            )
        if self.bad:
            lines.append(f"left out, unusable: {len(self.bad)} files ({_first(self.bad)})")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class ReadOptions(Checked):
    """How a folder of recordings is read.

    Args:
        dev_share: share held out where the folder has no dev split of its own.
        check: "full" decodes every file once, so that a broken one is known before training;
            "header" believes the headers; "none" believes a list that gives lengths, too.
        bad_files: what an unusable file does: end in an error, or be left out and counted.
        num_workers: threads that read.
    """

    dev_share: float = number(0, 1, above=True, below=True, default=0.01)
    check: Literal["full", "header", "none"] = "full"
    bad_files: Literal["error", "drop"] = "error"
    num_workers: int = whole(0, 1024, default=2)


def build_corpus(
    root: Path, options: ReadOptions, *, seed: int = 0, progress: Progress | None = None
) -> Corpus:
    """Train and dev manifests of a folder of speech.

    Args:
        root: the folder.
        options: how it is read.
        seed: of the choice of what is held out.
        progress: called with (files done, files in all).

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no audio, too little, or an unusable file.
    """
    layout, root, found, walk = _find(root)
    wanted = [f for f in found if f.split in ("", "train", "dev")]
    entries, bad = _read(root, wanted, options, progress)
    unsplit = entries.pop("", [])
    held_out = _hold_out([e.path for e in unsplit], options.dev_share, seed=seed)
    for entry in unsplit:
        split = "dev" if entry.path in held_out else "train"
        entries.setdefault(split, []).append(entry)
    for split in ("train", "dev"):
        if not entries.get(split):
            raise ValueError(
                f"{root}: no usable utterance for split {split} ({layout}, {len(found)} found, "
                f"{len(bad)} unusable{': ' + _first(bad) if bad else ''}); at least two files are "
                "wanted, one to train and one to validate on"
            )
    others: dict[str, int] = {}
    for item in found:
        if item.split not in ("", "train", "dev"):
            others[item.split] = others.get(item.split, 0) + 1
    train, dev = (Manifest(root, entries[s]) for s in ("train", "dev"))
    return Corpus(
        layout=layout,
        train=train,
        dev=dev,
        bad=bad,
        other_splits=others,
        left_out=dict(walk.left_out),
        left_out_line=walk.report(),
        in_dev=_in_dev(root, entries["train"], entries["dev"]),
    )


def _in_dev(root: Path, train: list[Entry], dev: list[Entry]) -> list[str]:
    """Names of utterances of train that share samples with dev."""
    spans = [
        [Span(root / e.path, e.start, e.start + e.num_samples) for e in entries]
        for entries in (train, dev)
    ]
    return [train[place].name for place in shared(*spans)]


def build_noise(root: Path, options: ReadOptions, *, progress: Progress | None = None) -> Corpus:
    """Noise for training and for validation; the same clips where the folder has no split.

    Raises:
        FileNotFoundError, ValueError: as `build_corpus`.
    """
    layout, root, found, walk = _find(root)
    wanted = [f for f in found if f.split in ("", "train", "dev")]
    entries, bad = _read(root, wanted, options, progress)
    both = entries.get("", [])
    train, dev = entries.get("train", []) + both, entries.get("dev", []) + both
    if not train:
        raise ValueError(f"{root}: no usable noise clip, {len(bad)} unusable")
    return Corpus(
        layout=layout,
        train=Manifest(root, train),
        dev=Manifest(root, dev or train),
        bad=bad,
        left_out=dict(walk.left_out),
        left_out_line=walk.report(),
    )


def _find(root: Path) -> tuple[str, Path, list[Found], Walk]:
    """Layout, folder that the paths start from, utterances, and what was left out."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder: say data.root=DIR, data.noise=DIR")
    walk = Walk(root)
    if (root / "train.tsv").is_file():
        return *_fairseq_manifests(root), walk
    layout, find = recognise(root)
    found = sorted(find(walk))
    if not found:
        left_out = walk.report()
        raise ValueError(
            f"{root}: no audio found ({layout}); formats: {' '.join(SUFFIXES)}"
            + (f"; {left_out}" if left_out else "")
        )
    return layout, root, found, walk


def _fairseq_manifests(folder: Path) -> tuple[str, Path, list[Found]]:
    """train.tsv and dev.tsv, or valid.tsv as fairseq calls it, of one root folder."""
    name = next((n for n in ("dev.tsv", "valid.tsv") if (folder / n).is_file()), None)
    if name is None:
        raise FileNotFoundError(f"{folder} has train.tsv and neither dev.tsv nor valid.tsv")
    found = []
    train, dev = read_manifest(folder / "train.tsv"), read_manifest(folder / name)
    if train.root != dev.root:
        raise ValueError(f"{folder}: train.tsv starts from {train.root}, {name} from {dev.root}")
    for split, manifest in (("train", train), ("dev", dev)):
        for entry in (manifest[i] for i in range(len(manifest))):
            stop = (entry.start + entry.num_samples) / SAMPLE_RATE
            found.append(Found(entry.path, split, entry.start / SAMPLE_RATE, stop))
    return "fairseq manifests", train.root, found


def _read(
    root: Path, found: list[Found], options: ReadOptions, progress: Progress | None
) -> tuple[dict[str, list[Entry]], dict[str, str]]:
    """Entries by split, and reasons by unusable file."""
    entries: dict[str, list[Entry]] = {}
    if options.check == "none":
        for item in (f for f in found if f.stop is not None):
            entries.setdefault(item.split, []).append(_listed(item))
        found = [f for f in found if f.stop is None]
    groups = _by_file(found)
    bad: dict[str, str] = {}
    check = check_audio if options.check == "full" else audio_length
    with ThreadPoolExecutor(max(options.num_workers, 1)) as pool:
        lengths = pool.map(lambda path: _length(check, root / path), groups)
        for done, (path, length) in enumerate(zip(groups, lengths, strict=True), start=1):
            if progress:
                progress(done, len(groups))
            if isinstance(length, AudioError):
                bad[path] = str(length)
                continue
            for item in groups[path]:
                try:
                    entries.setdefault(item.split, []).append(_entry(item, length))
                except AudioError as error:
                    bad[path] = str(error)
    if bad and options.bad_files == "error":
        raise ValueError(
            f"{len(bad)} of {len(groups)} files cannot be used: {_first(bad)}. Mend or remove "
            "them, or say bad_files=drop (data.bad_files=drop in pre-training)"
        )
    return entries, bad


def recognise(root: Path) -> tuple[str, Callable[[Walk], Iterator[Found]]]:
    """The name of a folder's layout, and what finds its utterances."""
    if (root / "manifest.tsv").is_file():
        return "manifest folder", _manifest_folder
    if (root / "GigaSpeech.json").is_file():
        return "GigaSpeech", _gigaspeech
    if any(_children(r, "train-*") and _children(r, "dev-*") for r in (root, root / "LibriSpeech")):
        return "LibriSpeech", _librispeech
    if any((root / s).is_dir() for s in ("small", "medium", "large")) and next(
        root.glob("*/*/*/*.json"), None
    ):
        return "Libri-Light", _librilight
    if (root / "train").is_dir() and (root / "dev").is_dir():
        return "folders train and dev", _split_folders
    if (root / "raw_audios").is_dir():
        return "VoxPopuli", _voxpopuli
    return "folder of audio", _folder


def _children(root: Path, pattern: str) -> list[Path]:
    return [p for p in root.glob(pattern) if p.is_dir()]


def _folder(walk: Walk) -> Iterator[Found]:
    yield from (Found(path, "") for path in walk(walk.root))


def _split_folders(walk: Walk) -> Iterator[Found]:
    for split in ("train", "dev", "test"):
        if (walk.root / split).is_dir():
            yield from (Found(path, split) for path in walk(walk.root / split))


def _manifest_folder(walk: Walk) -> Iterator[Found]:
    """Columns `path` and `split` of manifest.tsv; the others are for other tasks."""
    path = walk.root / "manifest.tsv"
    for line, row in read_table(path, columns=("path", "split")):
        if not row["path"] or not row["split"]:
            raise ValueError(f"{path}, line {line}, lacks path or split")
        yield Found(row["path"], row["split"])


def _librispeech(walk: Walk) -> Iterator[Found]:
    """All train-* sets train; dev-clean validates (dev-other where there is no dev-clean)."""
    root = walk.root
    base = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    names = {p.name for p in base.iterdir() if p.is_dir()}
    dev = "dev-clean" if "dev-clean" in names else next(n for n in names if n.startswith("dev"))
    for name in sorted(names):
        if name.startswith(("train", "dev", "test")):
            split = "train" if name.startswith("train") else "dev" if name == dev else name
            yield from (Found(path, split) for path in walk(base / name))


def _librilight(walk: Walk) -> Iterator[Found]:
    """Parts between long silences, from the voice activity in each file's JSON.

    Differs from Libri-Light's own cutter, which removes the silence inside a part.
    """
    for path in walk(walk.root):
        about = walk.root / Path(path).with_suffix(".json")
        voiced = read_json(about).get("voice_activity", []) if about.is_file() else []
        if not voiced:
            yield Found(path, "")
        for start, stop in join_spans([(float(a), float(b)) for a, b in voiced]):
            yield Found(path, "", start, stop)


def join_spans(
    spans: list[tuple[float, float]], max_seconds: float = MAX_SEGMENT_SECONDS
) -> Iterator[tuple[float, float]]:
    """Neighbouring spans joined while the whole stays within `max_seconds`.

    >>> list(join_spans([(0.0, 9.0), (10.0, 19.0), (22.0, 40.0)], 20.0))
    [(0.0, 19.0), (22.0, 40.0)]
    """
    current: tuple[float, float] | None = None
    for start, stop in spans:
        if current is not None and stop - current[0] <= max_seconds:
            current = (current[0], stop)
            continue
        if current is not None:
            yield current
        current = (start, stop)
    if current is not None:
        yield current


def _gigaspeech(walk: Walk) -> Iterator[Found]:
    """Segments of GigaSpeech.json; subsets DEV and TEST keep their roles, the rest trains."""
    for audio in read_json(walk.root / "GigaSpeech.json")["audios"]:
        for segment in audio["segments"]:
            subsets = {s.strip("{}") for s in segment["subsets"]}
            split = "dev" if "DEV" in subsets else "test" if "TEST" in subsets else "train"
            yield Found(audio["path"], split, segment["begin_time"], segment["end_time"])


def _voxpopuli(walk: Walk) -> Iterator[Found]:
    """Long sessions under raw_audios/<language>/<year>, cut into equal parts."""
    for path in walk(walk.root / "raw_audios"):
        try:
            seconds = audio_length(walk.root / path) / SAMPLE_RATE
        except AudioError:
            yield Found(path, "")  # its reason is reported with all others
            continue
        parts = max(1, -(-seconds // MAX_SEGMENT_SECONDS))
        for i in range(int(parts)):
            yield Found(path, "", i * seconds / parts, (i + 1) * seconds / parts)


def _by_file(found: list[Found]) -> dict[str, list[Found]]:
    groups: dict[str, list[Found]] = {}
    for item in found:
        groups.setdefault(item.path, []).append(item)
    return groups


def _length(check: Callable[[Path], int], path: Path) -> int | AudioError:
    try:
        return check(path)
    except AudioError as error:
        return error


def _listed(item: Found) -> Entry:
    """The utterance as the list has it."""
    start = round(item.start * SAMPLE_RATE)
    return Entry(item.path, round((item.stop or 0.0) * SAMPLE_RATE) - start, start)


def _entry(item: Found, num_samples: int) -> Entry:
    """The utterance, ending where the file ends.

    Raises:
        AudioError: if it starts after the end, or claims 0.1 s more than there is.
    """
    start = round(item.start * SAMPLE_RATE)
    stop = num_samples if item.stop is None else round(item.stop * SAMPLE_RATE)
    if start >= num_samples or stop > num_samples + SAMPLE_RATE // 10:
        raise AudioError(
            f"{item.path}: ends at {num_samples / SAMPLE_RATE:.2f} s, an utterance from "
            f"{start / SAMPLE_RATE:.2f} to {stop / SAMPLE_RATE:.2f} s is listed"
        )
    return Entry(item.path, min(stop, num_samples) - start, start)


def _hold_out(paths: list[str], share: float, *, seed: int) -> set[str]:
    """Files kept for validation: whole folders (often speakers) where there are many, or files."""
    paths = sorted(set(paths))
    if len(paths) < 2:
        return set()
    folders = sorted({str(Path(p).parent) for p in paths})
    by_folder = len(folders) >= 10
    units = folders if by_folder else paths
    count = min(max(1, round(share * len(units))), len(units) - 1)
    chosen = generator(seed, "hold out").permutation(len(units))[:count]
    kept = {units[i] for i in chosen}
    return {p for p in paths if (str(Path(p).parent) if by_folder else p) in kept}


def _first(bad: dict[str, str]) -> str:
    reasons = list(bad.values())
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more
