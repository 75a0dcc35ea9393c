# SPDX-License-Identifier: Apache-2.0
"""The training of WavLM: one step, one validation, optimizer and schedule.

Adam with decoupled weight decay on all parameters, linear warm-up and decay, and a gradient that is
the mean over the masked frames of all batches and processes of an update: HuBERT's recipe (fairseq
3d262bb, examples/hubert), which WavLM follows.
"""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from wavlm_lightning.checkpoint_file import read_checkpoint, write_checkpoint
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.earlier_names import current_parameters
from wavlm_lightning.model.wavlm import Features, WavLM
from wavlm_lightning.pretrain.config import OptimConfig
from wavlm_lightning.pretrain.data import PretrainBatch
from wavlm_lightning.pretrain.metrics import MaskedMetrics
from wavlm_lightning.pretrain.objective import (
    MaskedLoss,
    MaskedPrediction,
    ObjectiveConfig,
    feature_penalty,
)
from wavlm_lightning.runtime import to_device
from wavlm_lightning.seeding import seed_torch, torch_generator, torch_seed
from wavlm_lightning.training import NonFiniteLossError, Schedule, scheduled, zero_loss

# The loss of a batch is divided by this before the backward pass and multiplied again before the
# optimizer: any constant would do, this one keeps half precision in range.
NOMINAL_FRAMES = 1000.0
FRAMES = 3  # index of the masked frames among the sums of an update
VALIDATIONS = ("dev", "dev_mixed")  # the loaders of PretrainData, in order


class Pretrainer(lightning.LightningModule):
    """WavLM with its prediction head, for `lightning.Trainer.fit`.

    Args:
        model: the encoder.
        objective: the head and the loss.
        optim: optimizer and schedule.
        num_clusters: codes of each label set.
        seed: of initial weights, dropout and LayerDrop.
        codebooks: hash of each label set's codebook, which says what the head's classes mean.
    """

    def __init__(
        self,
        model: WavLMConfig,
        objective: ObjectiveConfig,
        optim: OptimConfig,
        *,
        num_clusters: tuple[int, ...],
        seed: int,
        codebooks: tuple[str, ...] = (),
    ):
        super().__init__()
        self.save_hyperparameters(
            {
                "model": asdict(model),
                "objective": asdict(objective),
                "optim": {**asdict(optim), "betas": list(optim.betas)},
                "num_clusters": list(num_clusters),
                "codebooks": list(codebooks),
                "seed": seed,
            },
            logger=False,  # loggers have the whole configuration, flat
        )
        self.optim, self.seed = optim, seed
        # From a seed of their own: first weights depend on nothing that was drawn before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "weights"))
            self.model = WavLM(model)
            self.objective = MaskedPrediction(model.dim, num_clusters, objective)
        self.metrics = torch.nn.ModuleDict(
            {name: MaskedMetrics(num_clusters[0]) for name in VALIDATIONS}
        )
        self._reset_update()
        self.audio_seconds = 0.0  # trained on so far, all processes

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, **changed: Any
    ) -> "Pretrainer":
        """The module of a checkpoint that a Trainer or a run left, with its weights.

        Args:
            checkpoint_path: Such as checkpoints/last.ckpt; no object in it is built.
            changed: Arguments of the constructor in place of what the file says.

        Raises:
            ValueError: if it is no checkpoint of a pre-training.
        """
        content = read_checkpoint(Path(checkpoint_path))
        said = content.get("hyper_parameters", {})
        if not {"model", "objective", "optim", "num_clusters"} <= set(said):
            raise ValueError(
                f"{checkpoint_path} must be a checkpoint of a pre-training with its head, such as "
                "checkpoints/last.ckpt of a run"
            )
        optim = {**said["optim"], "betas": tuple(said["optim"]["betas"])}
        if "schedule" in optim:  # none before 28 November 2026
            optim["schedule"] = Schedule(**optim["schedule"])
        arguments: dict[str, Any] = {
            "model": WavLMConfig.from_dict(said["model"]),
            "objective": ObjectiveConfig(**said["objective"]),
            "optim": OptimConfig(**optim),
            "num_clusters": tuple(said["num_clusters"]),
            "codebooks": tuple(said["codebooks"]),
            "seed": said["seed"],
        }
        module = cls(**{**arguments, **changed})
        module.load_state_dict(current_parameters(content["state_dict"], prefix="model."))
        module.on_load_checkpoint(content)
        return module

    @property
    def lr(self) -> float:
        """Peak learning rate, under the name that Lightning's Tuner looks for."""
        return self.optim.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optim = replace(self.optim, lr=value)

    def _reset_update(self) -> None:
        self._batches: list[PretrainBatch] = []  # of this update and process
        self._losses: list[Tensor] = []  # (3,) of each: loss, what is added to it, correct frames

    @property
    def _half_precision(self) -> bool:
        return str(self.trainer.precision).startswith("16")

    @property
    def _encoder_learns(self) -> bool:
        return self.global_step >= self.optim.head_updates

    def forward(self, batch: PretrainBatch) -> tuple[MaskedLoss, Tensor]:
        """Sums over the masked frames of waveforms (B, T), and what training adds to their loss."""
        # One draw an update: the same layers on all processes, however they share the batches.
        layers = torch_generator(self.seed, "layer_drop", self.global_step)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self._encoder_learns):
            features = self.model.encode(
                batch.waveforms, batch.lengths, masked=batch.masked, generator=layers
            )
        loss: MaskedLoss = self.objective(features.output, batch.labels, batch.masked_places)
        return loss, self.added_loss(features, batch, frames=loss.frames)

    def added_loss(self, features: Features, batch: PretrainBatch, *, frames: int) -> Tensor:
        """What is added to the sum of the loss; made to be overridden.

        Args:
            features: Of the encoder: `output` (B, F, D), `conv_features` (B, F, C).
            batch: Waveforms (B, T), labels (B, F, L), masked places.
            frames: Masked frames of the batch, over which the loss is summed.

        Returns:
            A scalar ().
        """
        config = self.objective.config
        added = config.feature_penalty * feature_penalty(features.conv_features) * frames
        if config.unmasked_weight > 0:
            visible = self.objective(features.output, batch.labels, batch.unmasked_places)
            added = added + config.unmasked_weight * visible.loss
        return added

    def transfer_batch_to_device(
        self, batch: PretrainBatch, device: torch.device, dataloader_idx: int
    ) -> PretrainBatch:
        """Move what a device computes with; what the host reads stays there."""
        return to_device(batch, device)

    def on_train_batch_start(self, batch: PretrainBatch, batch_idx: int) -> None:
        """Dropout depends on a batch's place in its update, however many processes share it."""
        world, steps = self.trainer.world_size, self.trainer.accumulate_grad_batches
        place = batch_idx % steps * world + self.global_rank
        seed_torch(self.seed, "dropout", self.global_step, place)

    def training_step(self, batch: PretrainBatch, batch_idx: int) -> Tensor:
        """Loss () of a batch, over a constant; `on_before_optimizer_step` makes it a mean."""
        loss, added = self(batch)
        total = loss.loss + added
        if not self._encoder_learns:  # distributed training needs a gradient of everything
            total = total + zero_loss(self.model.parameters())
        self._batches.append(batch)
        self._losses.append(torch.stack([loss.loss.detach(), added.detach(), loss.correct]))
        return total / NOMINAL_FRAMES

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Turn the gradient into the mean over the update's masked frames, clip it, and log.

        Clipping is done here because Lightning does not clip for fused optimizers. The host waits
        for the device once, for all figures of the update.
        """
        sums = self._sums()
        # Lightning divides by the accumulated batches, distributed training by the processes.
        parts = self.trainer.accumulate_grad_batches * self.trainer.world_size
        if not self._encoder_learns:  # no gradient, so no weight decay either
            self.model.zero_grad(set_to_none=True)
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, (NOMINAL_FRAMES * parts / sums[FRAMES]).float())
        # The norm is that of the mean gradient, so clip means the same for any number of batches.
        norm = torch.nn.utils.get_total_norm(gradients)
        most = self.optim.clip or math.inf
        torch.nn.utils.clip_grads_with_norm_(self.parameters(), most, norm)
        *totals, found = torch.cat([sums, norm.to(sums)[None]]).tolist()
        self._check_update(totals, norm=found)
        self._log_update(totals, norm=found)
        self._reset_update()

    def _sums(self) -> Tensor:
        """Over the batches of the update, all processes: (7,) float64, see `_log_update`."""
        batches = self._batches
        counts = torch.tensor(
            [
                sum(len(batch.masked_places) for batch in batches),
                sum(int(batch.lengths.sum()) for batch in batches),
                sum(len(batch.ids) for batch in batches),
                sum(batch.mixed for batch in batches),
            ],
            dtype=torch.float64,
        ).to(self.device, non_blocking=True)
        sums = torch.cat([torch.stack(self._losses).double().sum(0), counts])
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
        return sums

    def _check_update(self, sums: list[float], *, norm: float) -> None:
        """Stop at a loss or gradient that is not finite, before weights change.

        Raises:
            NonFiniteLossError: naming utterances; the first bad batch is saved.
            ValueError: if there was nothing to predict.
        """
        if sums[FRAMES] == 0:
            raise ValueError(
                f"update {self.global_step}: no masked frame has a label; labels end too early"
            )
        if not all(map(math.isfinite, sums)):
            raise NonFiniteLossError(self._save_bad_batch())
        # With half precision an overflow is expected now and then: its scaler skips the update.
        if not (math.isfinite(norm) or self._half_precision):
            ids = ", ".join(name for batch in self._batches for name in batch.ids)
            raise NonFiniteLossError(
                f"the gradient of update {self.global_step} is not finite; utterances: {ids}. Look "
                "at these recordings, or lower optim.lr"
            )

    def _log_update(self, sums: list[float], *, norm: float) -> None:
        loss, added, correct, frames, samples, utterances, mixed = sums
        self.audio_seconds += samples / SAMPLE_RATE
        shown = {"train/loss": loss / frames, "train/accuracy_masked": correct / frames}
        self.log_dict(shown, prog_bar=True)
        self.log_dict(
            {
                "train/added_loss": added / frames,
                "train/gradient_norm": norm,
                "train/lr": self.lr_schedulers().get_last_lr()[0],  # type: ignore[union-attr]
                "train/mixed_share": mixed / utterances,
                "train/masked_frames": frames,
                "train/audio_hours": self.audio_seconds / 3600,
            }
        )

    def _save_bad_batch(self) -> str:
        bad = [not bool(losses.isfinite().all()) for losses in self._losses]
        if not any(bad):
            return (
                f"the loss of update {self.global_step} is not finite on another process, whose "
                "message names the utterances"
            )
        batch = self._batches[bad.index(True)]
        path = Path(self.trainer.default_root_dir) / (
            f"nonfinite-update{self.global_step}-rank{self.global_rank}.pt"
        )
        write_checkpoint(path, batch._asdict())
        return (
            f"the loss of update {self.global_step} is not finite; utterances: "
            f"{', '.join(batch.ids)}. The batch is saved in {path}. Look at these recordings, or "
            "lower optim.lr"
        )

    def on_validation_epoch_start(self) -> None:
        """Validation starts from nothing."""
        for metrics in self.metrics.values():
            metrics.reset()  # type: ignore[operator]

    def validation_step(
        self, batch: PretrainBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch of clean (loader 0) or mixed (loader 1) speech."""
        loss, _ = self(batch)
        targets = batch.labels.flatten(0, 1).index_select(0, batch.masked_places)[:, 0]
        predicted = loss.predicted - self.objective.config.special_classes
        metrics: Any = self.metrics[VALIDATIONS[dataloader_idx]]
        metrics.update(loss, targets, predicted)

    def on_validation_epoch_end(self) -> None:
        """Log both."""
        for name, metrics in self.metrics.items():
            values = metrics.compute()  # type: ignore[operator]
            self.log_dict({f"{name}/{k}": v.float() for k, v in values.items()})

    def configure_optimizers(self) -> Any:
        """AdamW on every parameter, one learning rate for all."""
        optim = self.optim
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=optim.lr,
            betas=optim.betas,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            # A fused step would unscale half-precision gradients after we have read them.
            fused=not self._half_precision,
        )
        return scheduled(optimizer, optim)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of audio."""
        checkpoint["audio_seconds"] = self.audio_seconds

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.audio_seconds = checkpoint["audio_seconds"]
