# SPDX-License-Identifier: Apache-2.0
"""Pre-training from Python: a module and its data for a `lightning.Trainer` of one's own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_stack import override_words
from wavlm_lightning.files import read_json, write_text
from wavlm_lightning.pretrain.data import PretrainData
from wavlm_lightning.pretrain.pretrainer import Pretrainer
from wavlm_lightning.recipes.pretrain.first_weights import start_from
from wavlm_lightning.recipes.pretrain.iteration import build_data, build_module, split_of
from wavlm_lightning.recipes.pretrain.label_making import make_labels
from wavlm_lightning.recipes.pretrain.recordings import (
    LISTED,
    check_roots,
    prepare_recordings,
    wants_noise,
)
from wavlm_lightning.recipes.pretrain.settings import Settings, check_chain, read_settings
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.run.trainer import Pace

PREPARED = "prepared.json"  # what a folder was prepared from


class Pretraining(NamedTuple):
    """What `Trainer(**trainer).fit(module, data)` takes."""

    module: Pretrainer
    data: PretrainData
    trainer: dict[str, Any]  # arguments that belong to the data: batches behind an update and such


def pretraining(
    config: str | Path = "configs/pretrain/mini.yaml",
    *,
    folder: str | Path,
    overrides: Mapping[str, Any] | None = None,
    world: int = 1,
    module_class: type[Pretrainer] = Pretrainer,
) -> Pretraining:
    """Find recordings, make their labels, and build what one iteration trains with.

    Earlier iterations are not trained: labels are MFCC's, those of a finished model
    (`labels.teacher`, `init`) or a finished folder's (`labels.folders`).

    Args:
        config: A configuration as `wavlm pretrain` takes it.
        folder: Where manifests and labels are kept; taken from there if they are there.
        overrides: Further keys, such as {"data.root": "recordings", "optim.lr": 1e-3}.
        world: Processes that will train, on all machines together. Where they start by themselves,
            as with torchrun, prepare the folder in one process before.
        module_class: A class of your own, with another objective.

    Raises:
        ConfigError: naming a key.
        ValueError, OSError: for recordings or labels that cannot be used.
    """
    settings = read_settings([f"--config={config}", *override_words(overrides or {})])
    check_roots(settings)
    folder, alone = Path(folder), Processes(0, 1, 1)
    teacher = _teacher(settings)
    check_chain([settings])
    _claim(folder, settings)
    recordings = prepare_recordings(settings, folder / "manifests", alone)
    folders = [Path(f) for f in settings.labels.folders] or [
        make_labels(
            settings.labels,
            recordings.manifests,
            folder / "labels",
            teacher=teacher,
            seed=settings.seed,
            processes=alone,
        )
    ]
    splits = {s: split_of(recordings.manifests[s], s, folders) for s in ("train", "dev")}
    pace = Pace(
        settings.optim.total_updates,
        settings.data.batches_per_update(world),
        settings.run.validate_updates,
        settings.run.checkpoint_updates,
    )
    module = build_module(settings, splits["train"].labels, module_class)
    if settings.source is not None:
        print(start_from(module, settings.source), flush=True)
    return Pretraining(
        module,
        build_data(settings, recordings, splits, world=world),
        pace.trainer_options(world),
    )


def _claim(folder: Path, settings: Settings) -> None:
    """Say which recordings a folder is prepared from; labels say themselves what they are of.

    Raises:
        ConfigError: if it was prepared from others.
    """
    file, data = folder / PREPARED, settings.values["data"]
    about = {f"data.{key}": data[key] for key in LISTED} | {"noise": wants_noise(settings)}
    known = read_json(file) if file.is_file() else about
    for key, value in about.items():
        if known.get(key) != value:
            raise ConfigError(
                f"folder={folder} was prepared with {key}={known.get(key)} (got {value}). Set "
                "folder to another one"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(about, indent=2) + "\n")


def _teacher(settings: Settings) -> Path | None:
    """The finished model whose layer is clustered, None where labels need none."""
    if settings.labels.folders or settings.labels.features == "mfcc":
        return None
    if settings.labels.teacher:
        return Path(settings.labels.teacher)
    if settings.source is None:
        raise ConfigError(
            "labels.features=hidden needs a finished model: set labels.teacher=CKPT, or "
            "labels.folders=[DIR] with finished labels, or labels.features=mfcc"
        )
    return settings.source
