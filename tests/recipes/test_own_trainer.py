# SPDX-License-Identifier: Apache-2.0
"""Our modules and data in a Trainer of one's own, beside Lightning's callbacks."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.tuner import Tuner

from wavlm_lightning import Pretrainer, load_wavlm, pretraining
from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.pretrain.__main__ import main as pretrain

LABELS = {"labels.features": "mfcc", "iterations": []}
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "accelerator": "cpu",
}


def overrides(words: list[str]) -> dict[str, Any]:
    """Words of the tiny pre-training but its file, as keys."""
    pairs = (word.removeprefix("--").split("=", 1) for word in words[1:])
    return {**dict(pairs), **LABELS}


def built(words: list[str], folder: Path, **more: Any) -> Any:
    """The tiny pre-training's parts."""
    config = words[0].removeprefix("--config=")
    return pretraining(config, folder=folder, overrides={**overrides(words), **more})


def test_it_trains_to_the_weights_of_the_program(words: list[str], tmp_path: Path) -> None:
    module, data, options = built(words, tmp_path / "parts")
    lightning.Trainer(**options, **QUIET, default_root_dir=tmp_path).fit(module, data)
    assert module.global_step == 8
    assert pretrain([*words, "--labels.features=mfcc", "--iterations=[]"]) == 0
    (last,) = tmp_path.glob("runs/tiny/latest/checkpoints/last.ckpt")
    wanted = Pretrainer.load_from_checkpoint(last)
    found = module.state_dict()
    assert found.keys() == wanted.state_dict().keys()
    for name, value in wanted.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_callbacks_of_lightning_work_beside_it(words: list[str], tmp_path: Path) -> None:
    module, data, options = built(words, tmp_path / "parts", **{"optim.lr": 0.0})
    best = ModelCheckpoint(dirpath=tmp_path / "best", monitor="dev_mixed/loss", save_last=True)
    # Nothing is learned at a rate of zero: the second validation is no better than the first.
    stop = EarlyStopping(monitor="dev_mixed/loss", patience=1, min_delta=0.1)
    quiet = {**QUIET, "enable_checkpointing": True}
    options = {**options, "val_check_interval": 2, "max_steps": 100}
    trainer = lightning.Trainer(
        **options, **quiet, default_root_dir=tmp_path, callbacks=[best, stop]
    )
    trainer.fit(module, data)
    assert stop.stopped_epoch is not None
    assert trainer.global_step < 10
    kept = Pretrainer.load_from_checkpoint(best.best_model_path, seed=5)
    assert kept.seed == 5
    assert kept.audio_seconds > 0
    encoder = load_wavlm(best.last_model_path)
    for name, value in kept.model.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[name], value, rtol=0, atol=0)


def test_an_average_of_weights_is_kept(words: list[str], tmp_path: Path) -> None:
    module, data, options = built(words, tmp_path / "parts")
    decay = 0.5
    seen: list[torch.Tensor] = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            if len(seen) < trainer.global_step:
                seen.append(module.objective.projection.weight.detach().clone())

    first = module.objective.projection.weight.detach().clone()
    average = EMAWeightAveraging(decay=decay)
    lightning.Trainer(
        **options, **QUIET, default_root_dir=tmp_path, callbacks=[Watch(), average]
    ).fit(module, data)
    wanted = first
    for i, weight in enumerate(seen):
        wanted = weight if i == 0 else decay * wanted + (1 - decay) * weight
    got = module.objective.projection.weight
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_the_tuner_finds_a_rate_and_leaves_the_rest_as_it_was(
    words: list[str], tmp_path: Path
) -> None:
    module, data, options = built(words, tmp_path / "parts")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = lightning.Trainer(**options, **QUIET, default_root_dir=tmp_path)
    found = Tuner(trainer).lr_find(module, datamodule=data, num_training=20, min_lr=1e-5)
    assert found is not None
    assert len(found.results["lr"]) == 20
    assert module.lr == module.optim.lr == found.suggestion()
    for name, value in before.items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=0)


def test_a_batch_can_be_learned_by_heart(words: list[str], tmp_path: Path) -> None:
    module, data, options = built(words, tmp_path / "parts")
    ids: list[tuple[str, ...]] = []

    class Watch(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, _: int) -> None:
            ids.append(tuple(batch.ids))

    options = {**options, "val_check_interval": None, "check_val_every_n_epoch": 1}
    lightning.Trainer(
        **options, **QUIET, default_root_dir=tmp_path, callbacks=[Watch()], overfit_batches=2
    ).fit(module, data)
    assert len(set(ids)) == 2
    assert len(ids) == 16


@pytest.mark.bad_input
def test_labels_of_an_iteration_before_are_asked_for(words: list[str], tmp_path: Path) -> None:
    config = words[0].removeprefix("--config=")
    said = {k: v for k, v in overrides(words).items() if k not in LABELS}
    with pytest.raises(ConfigError, match=r"labels\.teacher=CKPT, or labels\.folders"):
        pretraining(config, folder=tmp_path / "parts", overrides=said)
    with pytest.raises(FileNotFoundError, match=r"data\.root=nothing is not a folder"):
        pretraining(config, folder=tmp_path / "parts", overrides={**said, "data.root": "nothing"})
    assert not (tmp_path / "parts").exists()


@pytest.mark.bad_input
def test_a_folder_of_other_recordings_is_refused(
    words: list[str], recordings: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    built(words, folder)
    built(words, folder, **{"optim.lr": 0.5})  # how they are trained on is another matter
    other = {"data.root": str(recordings / "speech" / "train")}
    with pytest.raises(ConfigError, match=r"was prepared with data\.root=.*speech \(got .*train\)"):
        built(words, folder, **other)
    few = [*words, "--labels.features=mfcc", "--iterations=[]", "--optim.total_updates=3"]
    assert pretrain(few) == 0
    (last,) = tmp_path.glob("runs/tiny/latest/checkpoints/last.ckpt")
    said = {"labels.features": "hidden", "labels.layer": 9, "init": str(last)}
    with pytest.raises(ValueError, match=r"labels\.layer"):
        built(words, tmp_path / "more", **said)
    assert not (tmp_path / "more").exists()


@pytest.mark.bad_input
def test_another_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="must be a checkpoint of a pre-training with its head"):
        Pretrainer.load_from_checkpoint(path)


def test_training_starts_from_the_encoder_that_is_named(words: list[str], tmp_path: Path) -> None:
    said = [*words, "--labels.features=mfcc", "--iterations=[]", "--optim.total_updates=3"]
    assert pretrain(said) == 0
    (last,) = tmp_path.glob("runs/tiny/latest/checkpoints/last.ckpt")
    module = built(words, tmp_path / "parts", init=str(last), seed=7).module
    for name, value in load_wavlm(last).state_dict().items():
        torch.testing.assert_close(module.model.state_dict()[name], value, rtol=0, atol=0, msg=name)
