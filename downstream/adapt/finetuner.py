# SPDX-License-Identifier: Apache-2.0
"""Encoder and head, trained together for one task.

fairseq's fine-tuning of wav2vec 2.0 (3d262bb, examples/wav2vec), which HuBERT and WavLM follow: the
convolutions stay as they are, the rest of the encoder joins after some updates, spans of frames and
of channels are masked in training, and every utterance of an update weighs the same.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wavlm_lightning.downstream.adapt.adapted import Adapted
from wavlm_lightning.downstream.adapt.learner import Learner
from wavlm_lightning.downstream.adapt.lora import (
    add_lora,
    last_blocks,
    load_merged,
    load_original,
    merged_state,
)
from wavlm_lightning.downstream.adapt.loss_watch import out_of_memory
from wavlm_lightning.downstream.adapt.optimizer import build_optimizer
from wavlm_lightning.downstream.adapt.policy import ENCODER, AdaptationConfig, InputMasking
from wavlm_lightning.downstream.config import OptimConfig
from wavlm_lightning.downstream.features.frames import Features
from wavlm_lightning.downstream.task import Batch
from wavlm_lightning.lengths import HOP, conv_lengths
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.seeding import generator, seed_torch, torch_generator
from wavlm_lightning.training import NonFiniteLossError, scheduled, zero_loss


class EncoderShape(NamedTuple):
    """What a head is told of an encoder."""

    dim: int
    num_layers: int
    stride: int

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance, as the convolutions count them."""
        return conv_lengths(num_samples)


def shape_of(model: WavLM, layer: int | str | None) -> EncoderShape:
    """Shape of all layers of an encoder, or of the one that is used."""
    count = model.config.num_layers + 1 if layer is None else 1
    return EncoderShape(model.config.dim, count, HOP)


def batch_weight(rows: int, rows_of_update: list[int]) -> float:
    """What makes a mean over an update's batches one over its utterances.

    Lightning and distributed training make means over batches.

    >>> [batch_weight(n, [3, 1]) for n in (3, 1)]
    [1.5, 0.5]
    """
    return rows * len(rows_of_update) / sum(rows_of_update)


class Finetuner(Adapted):
    """An encoder that trains below one head; `load_wavlm` reads what `portable_state` gives.

    Args:
        model: Encoder, with its first weights; changed in place.
        learner: Weighted sum and head.
        optim: Optimizer and schedule.
        adaptation: Which of the encoder's weights train.
        masking: What training hides from the encoder.
        layer: Layer that the head reads, "last" for the last one after the final norm, None for the
            weighted sum of all.
        symbols: Of a head that writes text, kept in checkpoints.
        rows_of_update: Gives the utterances of each batch of an update, by its number.
    """

    def __init__(
        self,
        model: WavLM,
        learner: Learner,
        optim: OptimConfig,
        adaptation: AdaptationConfig,
        masking: InputMasking,
        *,
        layer: int | str | None = None,
        symbols: list[str] | None = None,
        rows_of_update: Callable[[int], list[int]],
    ):
        super().__init__([learner])
        self.rows_of_update = rows_of_update
        about = {"model": asdict(model.config), "task": self.task.name, "seed": learner.seed}
        about |= {"layer": layer, "normalize": learner.featurizer.config.normalize}
        if symbols:
            about["symbols"] = symbols
        # Loggers have the whole configuration, flat.
        self.save_hyperparameters(about, logger=False)
        self.optim, self.adaptation, self.masking, self.layer = optim, adaptation, masking, layer
        self.model = model
        self._freeze(learner.seed)

    def _freeze(self, seed: int) -> None:
        """Let the weights rest that take no part."""
        model, adaptation = self.model, self.adaptation
        if adaptation.encoder == "lora":
            add_lora(model, adaptation.lora, seed=seed, blocks=adaptation.blocks)
        else:
            model.requires_grad_(adaptation.blocks is None)
            for block in last_blocks(model, adaptation.blocks):
                block.requires_grad_(True)
        for part in self._unused():
            part.requires_grad_(False)
        convolutions = adaptation.feature_encoder and adaptation.encoder == "tuned"
        model.feature_encoder.set_trainable(convolutions)

    def _unused(self) -> list[nn.Module | nn.Parameter]:
        """Parts that no loss depends on: distributed training waits for a gradient of the rest."""
        model, config = self.model, self.model.config
        unused: list[nn.Module | nn.Parameter] = []
        if not self.masking.masks_time:
            unused.append(model.mask_embedding)
        if isinstance(self.layer, int):  # blocks above it are not run
            unused += list(model.encoder.layers[self.layer :])
            if self.layer == 0 and model.encoder.position_bias is not None:
                unused.append(model.encoder.position_bias)
        through = self.layer is None or self.layer == config.num_layers
        normed = self.layer == "last" or (through and config.last_layer_normed)
        if config.norm_first and not normed:
            unused.append(model.encoder.norm)
        return unused

    @property
    def learner(self) -> Learner:
        """The only one."""
        return self.all_learners()[0]

    @property
    def about(self) -> dict[str, Any]:
        """What `load_wavlm` and exports need beside the state."""
        return {"hyper_parameters": dict(self.hparams)}

    def portable_state(self, learner: Learner) -> dict[str, Tensor]:
        """The encoder, low-rank updates merged, with the weighted sum and the head."""
        encoder = {f"{ENCODER}{name}": value for name, value in merged_state(self.model).items()}
        return encoder | learner.state_dict()

    def load_portable(self, learner: Learner, state: dict[str, Tensor]) -> None:
        """Take them; an encoder with low-rank updates has none from here on."""
        own = {n.removeprefix(ENCODER): v for n, v in state.items() if n.startswith(ENCODER)}
        load_merged(self.model, own)
        learner.load_state_dict({n: v for n, v in state.items() if not n.startswith(ENCODER)})

    def begin_from(self, state: dict[str, Tensor]) -> None:
        """Take what another training left: its head, and its encoder if that trained.

        Args:
            state: As `portable_state` of a probe or a fine-tuning gives it.
        """
        own = {n.removeprefix(ENCODER): v for n, v in state.items() if n.startswith(ENCODER)}
        if own:
            load_original(self.model, own)
        head = {n: v for n, v in state.items() if not n.startswith(ENCODER)}
        self.learner.load_state_dict(head)

    @property
    def _encoder_learns(self) -> bool:
        return self.global_step >= self.optim.head_updates

    def _encoder(self) -> list[nn.Parameter]:
        """What trains beside the head."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def forward(self, batch: Batch) -> Features:
        """Waveforms (B, T) of a batch -> layers of (B, F, D) that the head reads."""
        return self._features(batch)

    def _features(self, batch: Batch, **masks: Any) -> Features:
        blocks = self.layer if isinstance(self.layer, int) else None
        waveforms = self.model.normalized(batch.waveforms, batch.lengths)
        found = self.model.encode(waveforms, batch.lengths, num_blocks=blocks, **masks)
        if self.layer is None:
            return Features(found.layers, found.lengths)
        only = found.output if self.layer == "last" else found.layers[-1]
        return Features((only,), found.lengths)

    def _masked_features(self, batch: Batch) -> Features:
        """Features with spans masked and, while the encoder rests, without its gradient."""
        # Of the update alone: all processes must drop the same layers, however they share batches.
        layers = torch_generator(self.learner.seed, "layer_drop", self.global_step)
        with torch.set_grad_enabled(self._encoder_learns):
            return self._features(batch, generator=layers, **self._masks(batch))

    def _masks(self, batch: Batch) -> dict[str, Tensor]:
        """Those of `WavLM.encode` that are said; drawn on the host, so that no draw waits."""
        if not (self.masking.masks_time or self.masking.masks_channels):
            return {}
        lengths = conv_lengths(batch.lengths).tolist()

        def draw(what: str, row: int) -> np.random.Generator:
            seed = self.learner.seed
            return generator(seed, f"hidden {what}", batch.epochs[row], batch.indices[row])

        frames, channels = self.masking(lengths, self.model.config.dim, draw)
        masks = {}
        if self.masking.masks_time:
            masks["masked"] = frames.to(self.device, non_blocking=True)
        if self.masking.masks_channels:
            masks["channel_mask"] = channels.to(self.device, non_blocking=True)
        return masks

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Dropout depends on a batch's place in its update, however many processes share it."""
        steps = self.trainer.accumulate_grad_batches
        self._place = batch_idx % steps * self.trainer.world_size + self.global_rank
        seed_torch(self.learner.seed, "encoder dropout", self.global_step, self._place)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss () of a batch, weighted so that the update is a mean over its utterances."""
        try:
            features = self._masked_features(batch)
            loss = self.learner.loss(features, batch, self.global_step, self._place)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(batch.lengths, batch.ids) from error
        self._watch.add(loss[None], batch.ids)
        self.latest = {"train/loss": loss.detach()}
        if self._logs():
            many = self.trainer.world_size > 1
            self.log("train/loss", loss.detach(), on_step=True, sync_dist=many)
        if not self._encoder_learns:  # distributed training waits for a gradient of everything
            loss = loss + zero_loss(self._encoder())
        return loss * self._weight(batch)

    def _weight(self, batch: Batch) -> float:
        return batch_weight(len(batch.ids), self.rows_of_update(self.global_step))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and log the rates.

        Raises:
            NonFiniteLossError: naming the batch.
        """
        for bad in self._watch.look(world=self.trainer.world_size).values():
            raise NonFiniteLossError(
                f"update {self.global_step + 1}: {bad}: lower optim.lr, or look at these recordings"
            )
        # The gradient is zero by now, but Adam would still apply weight decay.
        if not self._encoder_learns:
            self.model.zero_grad(set_to_none=True)
        clip = self.optim.clip or float("inf")
        norm = nn.utils.clip_grad_norm_(self.parameters(), clip)
        if self._logs():
            rates = {f"train/{g['name']}": g["lr"] for g in optimizer.param_groups}
            self.log_dict({"train/gradient_norm": norm, **rates})

    def configure_optimizers(self) -> Any:
        """A group for the head and one for the encoder, each with its rate."""
        optim, head = self.optim, list(self.learner.parameters())
        encoder_lr = self.learner.lr if optim.encoder_lr is None else optim.encoder_lr
        groups = [{"params": head, "lr": self.learner.lr, "name": "lr"}]
        if encoder := self._encoder():
            groups.append({"params": encoder, "lr": encoder_lr, "name": "encoder_lr"})
        return scheduled(build_optimizer(groups, optim, fused=self._fused()), optim)
