# SPDX-License-Identifier: Apache-2.0
"""Encoder and head, trained together: for one task, from a pre-trained encoder.

fairseq's fine-tuning of wav2vec 2.0 (3d262bb, examples/wav2vec), which HuBERT and WavLM follow:
the front end stays as it is, the rest of the encoder joins after some updates, spans of frames and
of channels are hidden in training, and every utterance of an update weighs the same.
"""

from dataclasses import asdict
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from downstream.config import FinetuneOptim, HiddenSpans
from downstream.data import TrainPlan
from downstream.features import Frames
from downstream.gathering import Rows, gathered
from downstream.loss_watch import LossWatch
from downstream.task import Batch, Task
from wavlm_lightning.errors import NonFiniteLossError
from wavlm_lightning.freezing import zero_loss
from wavlm_lightning.lengths import HOP, conv_lengths
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.seeding import generator, seed_torch, torch_generator, torch_seed
from wavlm_lightning.transfer import to_device


def batch_weight(rows: int, rows_of_update: list[int]) -> float:
    """What makes a mean over an update's batches one over its utterances.

    Lightning and distributed training make means over batches.

    >>> [batch_weight(n, [3, 1]) for n in (3, 1)]
    [1.5, 0.5]
    """
    return rows * len(rows_of_update) / sum(rows_of_update)


class Finetuner(lightning.LightningModule):
    """For `lightning.Trainer.fit`; its checkpoints are read by `load_wavlm`.

    Args:
        model: the encoder's configuration; its front end is frozen.
        task: gives head, loss, predictions and score.
        optim: optimizer and schedule.
        spans: what training hides.
        seed: of the head's weights, dropout, LayerDrop and spans.
        symbols: of the head's outputs, kept in checkpoints.
    """

    def __init__(
        self,
        model: WavLMConfig,
        task: Task[Any],
        optim: FinetuneOptim,
        spans: HiddenSpans,
        *,
        seed: int,
        symbols: list[str],
    ):
        super().__init__()
        self.save_hyperparameters(
            {"model": asdict(model), "task": task.name, "symbols": symbols, "seed": seed},
            logger=False,  # loggers have the whole configuration, flat
        )
        self.task, self.optim, self.spans, self.seed = task, optim, spans, seed
        task.num_frames = conv_lengths
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "head"))
            self.model = WavLM(model)
            self.head = task.head(model.dim, HOP)
        self.model.frontend.requires_grad_(False)
        self.model.frontend.grad_scale = 0.0
        self.predictions: dict[str, dict[str, Any]] = {}  # by split and id
        self._rows: Rows = {}
        self._watch = LossWatch()

    @property
    def _encoder_learns(self) -> bool:
        return self.global_step >= self.optim.head_updates

    def _encoder(self) -> list[Tensor]:
        """What trains beside the head."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def forward(self, batch: Batch) -> Frames:
        """Last layer of a batch."""
        features = self.model(batch.waveforms, batch.lengths)
        return Frames(features.output, features.lengths)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move what a device computes with; what the host reads stays there."""
        return to_device(batch, device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout depends on a batch's place in its update, however many processes share it."""
        steps = self.trainer.accumulate_grad_batches
        place = batch_idx % steps * self.trainer.world_size + self.global_rank
        seed_torch(self.seed, "dropout", self.global_step, place)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch, weighted so that the update is a mean over its utterances."""
        frames = self._hidden_frames(batch)
        loss = self.task.loss(self.head, frames, batch)
        self._watch.add(loss[None], batch.ids)
        self.log("train/loss", loss.detach(), sync_dist=self.trainer.world_size > 1)
        if not self._encoder_learns:  # distributed training wants a gradient of everything
            loss = loss + zero_loss(self._encoder())
        return loss * self._weight(batch)

    def _hidden_frames(self, batch: Batch) -> Frames:
        lengths = conv_lengths(batch.lengths).tolist()

        def draw(what: str, row: int) -> np.random.Generator:
            return generator(self.seed, f"hidden {what}", batch.epochs[row], batch.indices[row])

        masked, silenced = self.spans(lengths, self.model.config.dim, draw)
        layers = torch_generator(self.seed, "layer_drop", self.global_step)
        with torch.set_grad_enabled(self._encoder_learns):
            features = self.model.encode(
                self.model.normalized(batch.waveforms, batch.lengths),
                batch.lengths,
                masked=masked.to(self.device),
                silenced=silenced.to(self.device),
                generator=layers,
            )
        return Frames(features.output, features.lengths)

    def _weight(self, batch: Batch) -> float:
        plan: TrainPlan = self.trainer.datamodule.plan  # type: ignore[attr-defined]
        rows = [len(places) for places in plan.update(self.global_step)]
        return batch_weight(len(batch.ids), rows)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and log the rate.

        Raises:
            NonFiniteLossError: naming the batch.
        """
        for bad in self._watch.look(world=self.trainer.world_size).values():
            raise NonFiniteLossError(
                f"update {self.global_step + 1}: {bad}: lower optim.lr, or look at these recordings"
            )
        if not self._encoder_learns:
            self.model.zero_grad(set_to_none=True)
        clip = self.optim.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), clip)
        rate = self.lr_schedulers().get_last_lr()[0]  # type: ignore[union-attr]
        self.log_dict({"train/gradient_norm": norm, "train/lr": rate})

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict a batch of whichever split is being evaluated."""
        predicted = self.task.predict(self.head, self(batch), batch)
        for index, name, value in zip(batch.indices, batch.ids, predicted, strict=True):
            self._rows[index] = (name, value)

    def on_validation_epoch_end(self) -> None:
        """Score dev."""
        scores = self.task.score("dev", self._gather("dev"))
        self.log_dict({f"dev/{k}": v for k, v in scores.items()}, rank_zero_only=False)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        self.validation_step(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Keep predictions; the recipe scores them."""
        self._gather("test")

    def _gather(self, split: str) -> dict[str, Any]:
        mine, self._rows = {"": self._rows}, {}
        self.predictions[split] = gathered(mine, [""], self.trainer.world_size)[""]
        return self.predictions[split]

    def configure_optimizers(self) -> Any:
        """Adam on all that trains, one rate for all."""
        half = str(self.trainer.precision).startswith("16")
        optimizer = torch.optim.Adam(
            [p for p in self.parameters() if p.requires_grad],
            lr=self.optim.lr,
            betas=self.optim.betas,
            eps=self.optim.eps,
            # A fused step would unscale half-precision gradients after they are clipped.
            fused=not half,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda n: self.optim.schedule(n, self.optim.total_updates)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }
