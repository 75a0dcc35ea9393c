# SPDX-License-Identifier: Apache-2.0
"""The recordings of a pre-training run: found, checked, and listed in manifests."""

import json
from dataclasses import dataclass
from pathlib import Path

from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.pretrain.corpora import build_corpus, build_noise
from wavlm_lightning.pretrain.manifest import Manifest, drop_short, read_manifest, write_manifest
from wavlm_lightning.recipes.pretrain.settings import MINI, Settings
from wavlm_lightning.recipes.run.counter import counter
from wavlm_lightning.recipes.run.processes import Processes

# Settings that say which recordings there are; the others say how they are trained on.
LISTED = ("root", "noise", "dev_share", "check", "bad_files", "min_samples")
MANIFESTS = ("train", "dev", "noise_train", "noise_dev")


@dataclass(frozen=True)
class Recordings:
    """Manifests of a run, and what its filters left out."""

    manifests: dict[str, Manifest]
    counts: dict[str, float]


def wants_noise(settings: Settings) -> bool:
    """Whether an iteration mixes noise into speech."""
    return settings.mixing.prob > 0 and settings.mixing.noise_prob > 0


def same_recordings(a: Settings, b: Settings) -> bool:
    """Whether an iteration has all that it needs in the recordings of another, which it may share.

    Args:
        a: An iteration.
        b: The other one.
    """
    return (wants_noise(b) or not wants_noise(a)) and all(
        getattr(a.data, name) == getattr(b.data, name) for name in LISTED
    )


def check_roots(settings: Settings, *, of: str = "") -> None:
    """Find what is wrong with the folders before anything is written.

    Args:
        settings: Of an iteration.
        of: What errors begin with, to tell which iteration it is.

    Raises:
        FileNotFoundError: naming the key and the folder that is not there.
        ValueError: if noise is needed and not given.
    """
    mixed = wants_noise(settings)
    if mixed and settings.data.noise is None:
        raise ValueError(
            f"{of}mixing.noise_prob={settings.mixing.noise_prob:g} needs noise: say "
            "data.noise=DIR, or mixing.noise_prob=0 to mix speech with speech alone"
        )
    roots = {"root": settings.data.root, "noise": settings.data.noise if mixed else None}
    for key, root in roots.items():
        if root is not None and root != MINI and not Path(root).is_dir():
            hint = "iterations=[...]" if of else f"data.{key}=DIR"
            raise FileNotFoundError(f"{of}data.{key}={root} is not a folder: say {hint}")


def prepare_recordings(settings: Settings, folder: Path, processes: Processes) -> Recordings:
    """Manifests of speech and noise; made once a run, by the first process."""
    about = folder / "recordings.json"
    # The file of counts is written last: where it is, manifests are whole.
    if processes.first and not about.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(about, json.dumps(_make_manifests(settings, folder), indent=2) + "\n")
    processes.barrier()
    paths = {name: folder / f"{name}.tsv" for name in MANIFESTS}
    manifests = {name: read_manifest(path) for name, path in paths.items() if path.exists()}
    return Recordings(manifests, read_json(about))


def _make_manifests(settings: Settings, folder: Path) -> dict[str, float]:
    speech, noise = _roots(settings)
    show = counter("reading recordings")
    corpus = build_corpus(speech, settings.data, seed=settings.seed, progress=show)
    print(corpus.report(), flush=True)
    counts: dict[str, float] = {"unusable_files": len(corpus.bad)}
    counts |= {f"left out: {reason}": count for reason, count in corpus.left_out.items()}
    counts["train_utterances_also_in_dev"] = len(corpus.in_dev)
    if corpus.bad:
        lines = [f"{path}\t{reason}" for path, reason in sorted(corpus.bad.items())]
        write_text(folder / "unusable.tsv", "\n".join(lines) + "\n")
    for split, manifest in (("train", corpus.train), ("dev", corpus.dev)):
        # Too short for a mask with something left to see: left out here, and counted.
        filtered = drop_short(manifest, settings.data.min_samples)
        print(filtered.report(split), flush=True)
        write_manifest(filtered.manifest, folder / f"{split}.tsv")
        counts[f"{split}_utterances"] = len(filtered.manifest)
        counts[f"{split}_hours"] = round(filtered.manifest.hours, 4)
        counts[f"{split}_too_short"] = filtered.too_short
    if noise is not None:
        clips = build_noise(noise, settings.data, progress=show)
        for split, manifest in (("train", clips.train), ("dev", clips.dev)):
            write_manifest(manifest, folder / f"noise_{split}.tsv")
        counts["noise_clips"] = len(clips.train)
        counts["unusable_noise_files"] = len(clips.bad)
        counts |= {f"noise left out: {r}": count for r, count in clips.left_out.items()}
        print(f"noise, {clips.report()}", flush=True)
    return counts


def _roots(settings: Settings) -> tuple[Path, Path | None]:
    """Folders of speech and noise; the mini corpus is made if it is wanted and not there yet."""
    speech, noise = settings.data.root, settings.data.noise
    if MINI in (speech, noise):
        from wavlm_lightning.recipes.mini import mini_corpus

        mini = mini_corpus(Path(".cache/mini"), progress=counter("speaking the mini corpus"))
        speech = str(mini.librispeech) if speech == MINI else speech
        noise = str(mini.noise) if noise == MINI else noise
    return Path(speech), Path(noise) if wants_noise(settings) and noise else None
