# SPDX-License-Identifier: Apache-2.0
"""Frozen upstream, and what is learned on it: one training module for every task.

SUPERB's protocol (Yang et al. 2021, section 3): only the sum's weights and the head are trained.
"""

import math
from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from downstream.cache import FeatureCache
from downstream.config import OptimConfig
from downstream.features import Features
from downstream.gathering import Rows, gathered
from downstream.learner import Learner
from downstream.loss_watch import LossWatch, some
from downstream.pooled import MeansOverTime
from downstream.task import Batch
from downstream.upstream import Frozen
from wavlm_lightning.errors import NonFiniteLossError
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.transfer import to_device

UPSTREAM = "upstream."


class Probe(lightning.LightningModule):
    """Knows no task by name; checkpoints hold weighted sums and heads alone.

    Args:
        upstream: frozen; run once a batch, however many learners there are.
        learners: what is trained; each as if it were alone.
        optim: how they are trained, but for the learning rate.
        cache: of the upstream's features, None to compute them anew each time.
        means: what is kept there in place of the upstream's layers, for heads that need no more.
    """

    def __init__(
        self,
        upstream: Frozen,
        learners: Sequence[Learner],
        optim: OptimConfig,
        *,
        cache: FeatureCache | None = None,
        means: MeansOverTime | None = None,
    ):
        super().__init__()
        self.cache, self.means = cache, means
        self.upstream, self.optim = upstream, optim
        self.learners = nn.ModuleList(learners)
        self.task = learners[0].task  # all have the same one, but for what is drawn and chosen
        self._indexed: dict[str, Rows] = {}  # by learner
        self._place = 0  # of the batch within its update
        self._watch = LossWatch()
        self.latest: dict[str, Tensor] = {}  # figures of the last batch, logged or not
        self.register_load_state_dict_post_hook(_upstream_is_elsewhere)

    def at_work(self) -> list[Learner]:
        """All whose loss has been finite so far."""
        return [learner for learner in self.all_learners() if learner.diverged is None]

    def all_learners(self) -> list[Learner]:
        """In their order."""
        return list(self.learners)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Features:
        """Waveforms (B, T) of a batch -> layers of (B, F, D), for all learners."""
        if self.cache is None:
            features: Features = self.upstream(batch.waveforms, batch.lengths)
            return features
        return self.cache(
            batch.keys,
            batch.waveforms,
            batch.lengths,
            self.means or self.upstream,
            read=batch.read,
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW, a group each: it works on every parameter by itself."""
        # A fused step would unscale half-precision gradients after they are clipped.
        half = self._trainer is not None and str(self.trainer.precision).startswith("16")
        fused = self.device.type in ("cpu", "cuda") and not half
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optim.name]
        return kind(
            [{"params": list(x.parameters()), "lr": x.lr} for x in self.all_learners()],
            betas=self.optim.betas,
            eps=self.optim.eps,
            weight_decay=self.optim.weight_decay,
            fused=fused,
        )

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move what a device computes with; what the host reads stays there."""
        return to_device(batch, device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout depends on the update and the batch's place in it, on nothing before."""
        world = self.trainer.world_size
        per_update = self.trainer.accumulate_grad_batches
        self._place = batch_idx % per_update * world + self.trainer.global_rank

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of all losses: no gradient of one learner holds anything of another."""
        drawn = (self.global_step, self._place)
        try:
            features = self(batch)
            losses = [
                x.loss(features, batch, *drawn) if x.diverged is None else x.no_loss()
                for x in self.all_learners()
            ]
        except torch.OutOfMemoryError as error:
            seconds = float(batch.lengths.max()) / SAMPLE_RATE * len(batch.ids)
            raise torch.OutOfMemoryError(
                f"out of memory on {len(batch.ids)} utterances, {seconds:.0f} s with padding "
                f"({some(batch.ids)}): lower data.batch_size and raise data.batches_per_update"
            ) from error
        together = torch.stack(losses)
        self._watch.add(together, batch.ids)
        self.latest = {"train/loss": _mean_of_finite(together.detach(), self._active())}
        if self._logs():
            self._log_losses(together.detach())
        return together.sum()

    def _active(self) -> list[int]:
        """Places of those at work among all learners."""
        return [i for i, x in enumerate(self.all_learners()) if x.diverged is None]

    def _stop_diverged(self) -> None:
        """Train those no further whose loss is not finite; an error if none is left.

        Raises:
            NonFiniteLossError: naming the batch.
        """
        found = self._watch.look(world=self.trainer.world_size)
        for number, bad in found.items():
            learner = self.all_learners()[number]
            learner.diverged = self.global_step + 1
            about = f"update {learner.diverged}: {bad}: lower optim.lr, or look at these recordings"
            if self.trainer.is_global_zero and learner.name:
                print(f"{learner.name} goes no further, {about}", flush=True)
        if found and not self.at_work():
            raise NonFiniteLossError(about)

    def _logs(self) -> bool:
        """Whether this update's figures go to the loggers; the first is for people too."""
        update = self.global_step + 1
        return update == 1 or update % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def _log_losses(self, losses: Tensor) -> None:
        """Of each; of several their mean too."""
        many, figures = self.trainer.world_size > 1, {}
        for learner, loss in zip(self.all_learners(), losses, strict=True):
            if learner.diverged is None:
                figures[learner.figure("train/loss")] = loss
        figures.setdefault("train/loss", _mean_of_finite(losses, self._active()))
        self.log_dict(figures, on_step=True, sync_dist=many)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave out what diverged, clip the rest."""
        self._stop_diverged()
        self._clip()

    def _clip(self) -> None:
        """Clip each learner over its head and layer weights jointly."""
        for learner in self.all_learners():
            if learner.diverged is not None:  # no step, whatever its batches before have left
                learner.zero_grad(set_to_none=True)
                continue
            norm = nn.utils.clip_grad_norm_(learner.parameters(), self.optim.clip or math.inf)
            if self._logs():
                self.log(learner.figure("train/gradient_norm"), norm)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch of whichever split is being evaluated."""
        features = self(batch)
        for learner in self.at_work():
            indexed = self._indexed.setdefault(learner.name, {})
            for index, name, value in learner.predict(features, batch):
                indexed[index] = (name, value)

    def on_validation_epoch_end(self) -> None:
        """Score dev, and log what the layers weigh."""
        self._gather("dev")
        figures: dict[str, float] = {}
        layers: dict[str, float] = {}
        for learner in self.at_work():
            for key, value in learner.task.score("dev", learner.predictions["dev"]).items():
                figures[learner.figure(f"dev/{key}")] = value
            weights = learner.featurizer.weights()
            for layer, weight in enumerate([] if weights is None else weights.tolist()):
                layers[learner.figure(f"layer_weight/{layer}")] = weight
        monitor, best_of = self.task.monitor, min if self.task.mode == "min" else max
        if monitor not in figures:  # several learners: the best of them
            figures[monitor] = best_of(figures[x.figure(monitor)] for x in self.at_work())
        self.log_dict(figures, rank_zero_only=False)
        # Not by self.log: Lightning looks through all that it has logged at every batch. It counts
        # updates from 0.
        for logger in self.loggers if layers else []:
            logger.log_metrics(layers, self.global_step - 1)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keep predictions; the recipe scores them."""
        self._gather("test")

    def _gather(self, split: str) -> None:
        """Predictions of all processes by id, in the split's own order, to each learner."""
        mine, self._indexed = self._indexed, {}
        names = [learner.name for learner in self.at_work()]
        found = gathered(mine, names, self.trainer.world_size)
        for learner in self.at_work():
            learner.predictions[split] = found[learner.name]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Who goes no further is not seen from the weights."""
        checkpoint["diverged"] = [learner.diverged for learner in self.all_learners()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As it was saved."""
        for learner, update in zip(self.all_learners(), checkpoint["diverged"], strict=True):
            learner.diverged = update


def _upstream_is_elsewhere(module: nn.Module, incompatible: Any) -> None:
    """The upstream's tensors are missing by design; any other missing one stays an error."""
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if not key.startswith(UPSTREAM)
    ]


def _mean_of_finite(losses: Tensor, active: list[int]) -> Tensor:
    """Mean of the losses (N,) at these places that are finite; without a wait for them."""
    own = torch.stack([losses[place] for place in active])
    return torch.where(own.isfinite(), own, torch.nan).nanmean()
