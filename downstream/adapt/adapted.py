# SPDX-License-Identifier: Apache-2.0
"""What frozen and tuned upstreams have in common: learners, and how they are evaluated."""

from collections.abc import Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.adapt.gathering import Rows, gathered
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.loss_watch import LossWatch
from wavlm_lightning.downstream.config import OptimConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.runtime import to_device


class Adapted(lightning.LightningModule):
    """Knows no task by name. A subclass gives features and trains.

    Args:
        learners: Weighted sums and heads, all of one task.
    """

    optim: OptimConfig

    def __init__(self, learners: Sequence[Learner]):
        super().__init__()
        self.learners = nn.ModuleList(learners)
        self.task = learners[0].task  # all have the same one, but for what is drawn and chosen
        self._indexed: dict[str, Rows] = {}  # by learner
        self._watch = LossWatch()
        self.latest: dict[str, Tensor] = {}  # figures of the last batch, logged or not

    def forward(self, batch: Batch) -> Features:
        """Waveforms (B, T) of a batch -> layers of (B, F, D), for all learners."""
        raise NotImplementedError

    def portable_state(self, learner: Learner) -> dict[str, Tensor]:
        """What a checkpoint needs to hold for a learner to be evaluated again."""
        raise NotImplementedError

    def load_portable(self, learner: Learner, state: dict[str, Tensor]) -> None:
        """Take what `portable_state` gave."""
        raise NotImplementedError

    @property
    def about(self) -> dict[str, Any]:
        """What stands beside the state in such a checkpoint."""
        return {}

    def active_learners(self) -> list[Learner]:
        """All whose loss has been finite so far."""
        return [learner for learner in self.all_learners() if learner.diverged is None]

    def all_learners(self) -> list[Learner]:
        """All learners in their order."""
        return list(self.learners)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move what a device computes with; what the host reads stays there."""
        return to_device(batch, device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch of whichever split is being evaluated."""
        features = self(batch)
        for learner in self.active_learners():
            indexed = self._indexed.setdefault(learner.name, {})
            for index, name, value in learner.predict(features, batch):
                indexed[index] = (name, value)

    def on_validation_epoch_end(self) -> None:
        """Score dev, and log what the layers weigh."""
        self._gather("dev")
        figures: dict[str, float] = {}
        layers: dict[str, float] = {}
        for learner in self.active_learners():
            for key, value in learner.task.score("dev", learner.predictions["dev"]).items():
                figures[learner.log_key(f"dev/{key}")] = value
            weights = learner.featurizer.weights()
            for layer, weight in enumerate([] if weights is None else weights.tolist()):
                layers[learner.log_key(f"layer_weight/{layer}")] = weight
        monitor, best_of = self.task.monitor, min if self.task.mode == "min" else max
        if monitor not in figures:  # several learners: the best of them
            figures[monitor] = best_of(figures[x.log_key(monitor)] for x in self.active_learners())
        self.log_dict(figures, rank_zero_only=False)
        # Not by self.log: Lightning looks through all that it has logged at every batch. It counts
        # updates from 0.
        for logger in self.loggers if layers else []:
            logger.log_metrics(layers, self.global_step - 1)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch of test."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keep predictions; the recipe scores them."""
        self._gather("test")

    def _gather(self, split: str) -> None:
        """Predictions of all processes by id, in the split's own order, to each learner."""
        mine, self._indexed = self._indexed, {}
        names = [learner.name for learner in self.active_learners()]
        found = gathered(mine, names, self.trainer.world_size)
        for learner in self.active_learners():
            learner.predictions[split] = found[learner.name]

    def _logs(self) -> bool:
        """Whether this update's metrics are logged; those of the first are, as a sign of life."""
        update = self.global_step + 1
        return update == 1 or update % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def _fused(self) -> bool:
        """Whether an optimizer may be; it would unscale half precision's gradients after a clip."""
        half = self._trainer is not None and str(self.trainer.precision).startswith("16")
        return self.device.type in ("cpu", "cuda") and not half
