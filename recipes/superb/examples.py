# SPDX-License-Identifier: Apache-2.0
"""What W&B gets at the end of a run: layer weights as a picture, examples to listen to."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning

from wavlm_lightning.downstream.task import Example, Task
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.recipes.run.curves import draw_layer_weights
from wavlm_lightning.recipes.run.loggers import with_wandb, working_wandb

EXAMPLES = 20  # in the table, worst first
HEARD = 5  # of them also beside it, where a page plays them at once


def log_examples(
    trainer: lightning.Trainer,
    task: Task[Any],
    predictions: Mapping[str, Any],
    examples: Sequence[Example],
    *,
    metrics: Mapping[str, float],
    layer_weights: Sequence[float],
) -> None:
    """Figures, picture and table; nothing where W&B is not asked for."""
    if working_wandb(trainer.loggers) is None:
        return
    by_id = {example.id: example for example in examples}
    worst = task.hardest_examples("test", predictions)[:EXAMPLES]
    waveforms = [task.load(by_id[row["id"]], None).waveform.numpy() for row in worst]

    def log(run: Any) -> None:
        import wandb

        run.summary.update(dict(metrics))
        if layer_weights:
            run.log({"layer_weights": wandb.Image(draw_layer_weights({"": layer_weights}))})
        table = wandb.Table(columns=["id", "audio", "reference", "hypothesis", "error"])
        heard: list[wandb.Audio] = []
        for row, waveform in zip(worst, waveforms, strict=True):
            audio = wandb.Audio(waveform, sample_rate=SAMPLE_RATE)
            table.add_data(row["id"], audio, row["reference"], row["hypothesis"], row["error"])
            if len(heard) < HEARD:
                caption = f"{row['reference']} | {row['hypothesis']}"
                heard.append(wandb.Audio(waveform, sample_rate=SAMPLE_RATE, caption=caption))
        run.log({"examples": table, "worst": heard})

    with_wandb(trainer.loggers, log)
