# SPDX-License-Identifier: Apache-2.0
"""How examples become batches and how heads and encoders are trained: what a configuration may say.

Apart from the classes that do it, which import Lightning: a program reads its configuration, and
says what is wrong with it, before it waits for that.
"""

from dataclasses import dataclass, field
from typing import Literal

from wavlm_lightning.fields import Checked, number, seed, whole
from wavlm_lightning.training import Schedule


@dataclass(frozen=True, kw_only=True)
class DataConfig(Checked):
    """How examples become batches.

    Args:
        batch_size: Examples in a batch; about the average where batches are bucketed. 0 where
            seconds_per_batch says it.
        batches_per_update: Batches whose gradients make one update; 0 likewise.
        seconds_per_batch: Seconds of audio in a batch, about, in place of batch_size.
        seconds_per_update: Seconds of audio in an update, about, in place of batches_per_update;
            over all processes and accumulated batches.
        repeat_updates: Train on the first so many updates over and over, to see whether they can be
            learned by heart; null for all examples.
        order: random, or bucketed: examples of nearly one length, the same seconds in each batch.
        eval_seconds: Most seconds of audio in a batch of evaluation.
        num_workers: Loading processes; 0 loads in the training process.
        seed: Random seed of order, crops and mixtures; null for the seed of the run.
        check: "full" decodes every recording once, and remembers it; "header" reads headers; "none"
            reads those of recordings that it does not remember; "auto" is full for a manifest,
            else header.
        bad_files: An unusable recording ends in an error, or is left out and counted.
    """

    batch_size: int = whole(0, 10**6, default=0)
    batches_per_update: int = whole(0, 10**6, default=0)
    seconds_per_batch: float | None = number(0, 10**6, above=True, default=None)
    seconds_per_update: float | None = number(0, 10**9, above=True, default=None)
    repeat_updates: int | None = whole(1, default=None)
    order: Literal["random", "bucketed"]
    eval_seconds: float = number(0, 10**6, above=True, default=120.0)
    num_workers: int = whole(0, 1024, default=1)
    seed: int | None = seed(default=None)
    check: Literal["auto", "full", "header", "none"] = "auto"
    bad_files: Literal["error", "drop"] = "error"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "batches_per_update"):
            if self.seconds_per_batch is None and getattr(self, name) == 0:
                raise ValueError(
                    f"data.{name} must be at least 1 (got 0). Set it, or data.seconds_per_batch"
                )
        if self.seconds_per_update is not None and self.seconds_per_batch is None:
            raise ValueError("data.seconds_per_update needs data.seconds_per_batch: set both")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(Checked):
    """How a head, layer weights and an encoder are trained.

    Args:
        name: adam, or adamw with its decoupled weight decay.
        lr: Peak learning rate of head and layer weights.
        encoder_lr: Peak learning rate of an encoder that trains; null for that of the head.
        betas: Decay of Adam's two averages.
        eps: Adam's epsilon.
        weight_decay: Decay per update, times the learning rate.
        clip: Largest L2 norm of the gradient of all that trains together, 0 for no clipping.
        total_updates: Updates of the training.
        head_updates: Updates at the start in which an encoder that trains still rests.
        schedule: Course of the learning rate.
        warmup_updates: Updates over which the rate rises, for all schedules but tri_stage.
    """

    name: Literal["adam", "adamw"]
    lr: float = number(0, 1000, above=True)
    encoder_lr: float | None = number(0, 1000, above=True, default=None)
    betas: tuple[float, float] = number(0, 1, below=True)
    eps: float = number(0, 1, above=True)
    weight_decay: float = number(0, 1000)
    clip: float = number(0, 10**9)
    total_updates: int = whole(1)
    head_updates: int = whole(0, default=0)
    schedule: Schedule = field(default_factory=Schedule)
    warmup_updates: int = whole(0, default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("head_updates", "warmup_updates"):
            if getattr(self, name) > self.total_updates:
                raise ValueError(
                    f"optim.{name} must be at most optim.total_updates={self.total_updates} (got "
                    f"{getattr(self, name)})"
                )

    @property
    def constant(self) -> bool:
        """Whether the rate is the same at every update."""
        return self.schedule.name == "constant" and self.warmup_updates == 0
