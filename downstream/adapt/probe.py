# SPDX-License-Identifier: Apache-2.0
"""Frozen upstream, and what is learned on it: one training module for every task.

SUPERB's protocol (Yang et al. 2021, section 3): only the sum's weights and the head are trained.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.loss_watch import out_of_memory
from wavlm_lightning.downstream.adapt.optimizer import build_optimizer
from wavlm_lightning.downstream.adapt.pooled import MeansOverTime
from wavlm_lightning.downstream.config import OptimConfig
from wavlm_lightning.downstream.features.cache import FeatureCache
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.training import NonFiniteLossError, scheduled

UPSTREAM = "upstream."


class Probe(Adapted):
    """Heads on a frozen upstream; checkpoints hold weighted sums and heads alone.

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
        super().__init__(learners)
        self.cache, self.means = cache, means
        self.upstream, self.optim = upstream, optim
        self._place = 0  # of the batch within its update
        self.register_load_state_dict_post_hook(_upstream_is_elsewhere)

    def portable_state(self, learner: Learner) -> dict[str, Tensor]:
        """Its weighted sum and head."""
        return learner.state_dict()

    def load_portable(self, learner: Learner, state: dict[str, Tensor]) -> None:
        """Take them."""
        learner.load_state_dict(state)

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

    def configure_optimizers(self) -> Any:
        """Adam or AdamW, a group each: it works on every parameter by itself."""
        groups = [{"params": list(x.parameters()), "lr": x.lr} for x in self.all_learners()]
        optimizer = build_optimizer(groups, self.optim, fused=self._fused())
        return optimizer if self.optim.constant else scheduled(optimizer, self.optim)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout depends on the update and the batch's place in it, on nothing before."""
        world = self.trainer.world_size
        per_update = self.trainer.accumulate_grad_batches
        self._place = batch_idx % per_update * world + self.trainer.global_rank

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum () of all losses: no gradient of one learner holds anything of another."""
        drawn = (self.global_step, self._place)
        try:
            features = self(batch)
            losses = [
                x.loss(features, batch, *drawn) if x.diverged is None else x.no_loss()
                for x in self.all_learners()
            ]
        except torch.OutOfMemoryError as error:
            raise out_of_memory(batch.lengths, batch.ids) from error
        # Looked at once an update, on the host: here it would wait for the device at every batch.
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
            learner.drop(self.global_step + 1)
            about = f"update {learner.diverged}: {bad}: lower optim.lr, or look at these recordings"
            if self.trainer.is_global_zero and learner.name:
                print(f"{learner.name} goes no further, {about}", flush=True)
        if found and not self.active_learners():
            raise NonFiniteLossError(about)

    def _log_losses(self, losses: Tensor) -> None:
        """Log the loss of each learner, and of several their mean."""
        many, figures = self.trainer.world_size > 1, {}
        for learner, loss in zip(self.all_learners(), losses, strict=True):
            if learner.diverged is None:
                figures[learner.log_key("train/loss")] = loss
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
                self.log(learner.log_key("train/gradient_norm"), norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Who goes no further is not seen from the weights."""
        checkpoint["diverged"] = [learner.diverged for learner in self.all_learners()]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back the learners that had diverged."""
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
