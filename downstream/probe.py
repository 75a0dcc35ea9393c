# SPDX-License-Identifier: Apache-2.0
"""Frozen upstream, learned weighted sum, a task's head: one training module for every task.

SUPERB's protocol (Yang et al. 2021, section 3): only the sum's weights and the head are trained.
"""

from dataclasses import dataclass
from typing import Any, Literal

import lightning
import torch
import torch.distributed as dist
from torch import Tensor, nn

from downstream.cache import FeatureCache
from downstream.features import Frames
from downstream.featurizer import Featurizer, FeaturizerConfig
from downstream.task import Batch, Task
from downstream.upstream import Frozen
from wavlm_lightning.errors import NonFiniteLossError
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.seeding import torch_seed

UPSTREAM = "upstream."


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How head and layer weights are trained.

    Args:
        name: adam, or adamw with its decoupled weight decay.
        lr: learning rate, constant.
        betas: of the moments.
        eps: of the division.
        weight_decay: per update, times the learning rate.
        clip: largest gradient norm over head and layer weights.
        total_updates: of the training.
    """

    name: Literal["adam", "adamw"]
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip: float
    total_updates: int


class Probe(lightning.LightningModule):
    """Knows no task by name; checkpoints hold the weighted sum and the head alone.

    Args:
        upstream: frozen.
        task: gives head, loss, predictions and score.
        featurizer: how layers become one.
        optim: how it is trained.
        seed: of the head's first weights and of dropout.
        cache: of the upstream's features, None to compute them anew each time.
    """

    def __init__(
        self,
        upstream: Frozen,
        task: Task[Any],
        featurizer: FeaturizerConfig,
        optim: OptimConfig,
        *,
        seed: int,
        cache: FeatureCache | None = None,
    ):
        super().__init__()
        self.cache = cache
        self.upstream, self.task, self.optim, self.seed = upstream, task, optim, seed
        self.featurizer = Featurizer(
            featurizer, num_layers=upstream.num_layers, stride=upstream.stride
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "head"))
            self.head = task.head(upstream.dim, upstream.stride)
        self.predictions: dict[str, dict[str, Any]] = {}  # by split and id, of the last evaluation
        self._indexed: dict[int, tuple[str, Any]] = {}
        self._place = 0  # of the batch within its update
        self.register_load_state_dict_post_hook(_upstream_is_elsewhere)

    def forward(self, batch: Batch) -> Frames:
        """Waveforms (B, T) of a batch -> frames (B, F, D), what the head is given."""
        if self.cache is None or batch.keys is None:
            features = self.upstream(batch.waveforms, batch.lengths)
        else:
            features = self.cache(batch.keys, batch.waveforms, batch.lengths, self.upstream)
        frames: Frames = self.featurizer(features, batch.lengths)
        return frames

    def trained(self) -> list[nn.Parameter]:
        """Parameters of the weighted sum and the head."""
        return [*self.featurizer.parameters(), *self.head.parameters()]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam or AdamW with a constant learning rate."""
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optim.name]
        return kind(
            self.trained(),
            lr=self.optim.lr,
            betas=self.optim.betas,
            eps=self.optim.eps,
            weight_decay=self.optim.weight_decay,
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout depends on the update and the batch's place in it, on nothing before."""
        world = self.trainer.world_size
        per_update = self.trainer.accumulate_grad_batches
        self._place = batch_idx % per_update * world + self.trainer.global_rank
        torch.manual_seed(torch_seed(self.seed, "dropout", self.global_step, self._place))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The task's loss."""
        try:
            loss = self.task.loss(self.head, self(batch), batch)
        except torch.OutOfMemoryError as error:
            seconds = float(batch.lengths.max()) / SAMPLE_RATE * len(batch.ids)
            raise torch.OutOfMemoryError(
                f"out of memory on {len(batch.ids)} utterances, {seconds:.0f} s with padding "
                f"({_some(batch.ids)}): lower data.batch_size and raise data.batches_per_update"
            ) from error
        if not bool(torch.isfinite(loss)):
            raise NonFiniteLossError(
                f"update {self.global_step + 1}: the loss is {float(loss)} on {_some(batch.ids)}: "
                "lower optim.lr, or look at these recordings"
            )
        self.log("train/loss", loss.detach(), on_step=True, sync_dist=self.trainer.world_size > 1)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip over head and layer weights jointly."""
        norm = nn.utils.clip_grad_norm_(self.trained(), self.optim.clip)
        self.log("train/gradient_norm", norm)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch of whichever split is being evaluated."""
        predicted = self.task.predict(self.head, self(batch), batch)
        rows = zip(batch.indices, batch.ids, predicted, strict=True)
        self._indexed |= {index: (name, value) for index, name, value in rows}

    def on_validation_epoch_end(self) -> None:
        """Score dev, and log what the layers weigh."""
        predictions = self.gathered()
        self.predictions["dev"] = predictions
        for key, value in self.task.score("dev", predictions).items():
            self.log(f"dev/{key}", value, rank_zero_only=False)
        weights = self.featurizer.weights()
        if weights is not None:
            for layer, weight in enumerate(weights.tolist()):
                self.log(f"layer_weight/{layer}", weight)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keep predictions; the recipe scores them."""
        self.predictions["test"] = self.gathered()

    def gathered(self) -> dict[str, Any]:
        """Predictions of all processes by id, in the split's own order; the store is emptied."""
        mine, self._indexed = self._indexed, {}
        if self.trainer.world_size > 1:
            parts: list[Any] = [None] * self.trainer.world_size
            dist.all_gather_object(parts, mine)
            mine = {index: value for part in parts for index, value in part.items()}
        return {name: value for _, (name, value) in sorted(mine.items())}


def _upstream_is_elsewhere(module: nn.Module, incompatible: Any) -> None:
    """The upstream's tensors are missing by design; any other missing one stays an error."""
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if not key.startswith(UPSTREAM)
    ]


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
