# SPDX-License-Identifier: Apache-2.0
"""What a model is trained on, to see and to hear: mixes, masks and labels of dev."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from wavlm_lightning.files import replacing
from wavlm_lightning.lengths import HOP, SAMPLE_RATE
from wavlm_lightning.pretrain.data import PretrainBatch
from wavlm_lightning.recipes.run.loggers import with_wandb

PICTURE = "mixes.png"
SHOWN = 2  # utterances
WINDOW, FLOOR_DB = 400, -70.0
MIXED = 1  # index of the loader whose utterances are mixed


class ShowMixes(Callback):
    """Draws the first mixed utterances of dev into the run folder, and gives them to W&B.

    Args:
        folder: Of the training.
    """

    def __init__(self, folder: Path):
        self.path = folder / PICTURE

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: PretrainBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Once a training; a resumed one finds the picture."""
        first = trainer.is_global_zero and batch_idx == 0 and dataloader_idx == MIXED
        if not first or self.path.exists():
            return
        figure = draw_batch(batch)
        with replacing(self.path) as temporary:
            figure.savefig(temporary, dpi=110, format="png")

        def log(run: Any) -> None:
            import wandb

            heard = [
                wandb.Audio(_waveform(batch, row), sample_rate=SAMPLE_RATE, caption=batch.ids[row])
                for row in range(min(SHOWN, len(batch.ids)))
            ]
            run.log({"mixes": heard, "mask_and_labels": wandb.Image(figure)})

        with_wandb(trainer.loggers, log)


def _waveform(batch: PretrainBatch, row: int) -> Any:
    """Samples of a row, none above 1."""
    waveform = batch.waveforms[row, : int(batch.lengths[row])].float().cpu()
    return (waveform / waveform.abs().max().clamp(min=1.0)).numpy()


def draw_batch(batch: PretrainBatch) -> Any:
    """Spectrograms with what is masked darkened, and codes of the first label set below."""
    from matplotlib.figure import Figure

    rows = min(SHOWN, len(batch.ids))
    figure = Figure(figsize=(10, 3.2 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, 1, squeeze=False, height_ratios=[6, 1] * rows)[:, 0]
    for row in range(rows):
        above, below = axes[2 * row], axes[2 * row + 1]
        samples = int(batch.lengths[row])
        seconds = samples / SAMPLE_RATE
        image = decibels(batch.waveforms[row, :samples])
        above.imshow(
            image, origin="lower", aspect="auto", extent=(0, seconds, 0, 8), vmin=FLOOR_DB, vmax=0
        )
        for start, stop in spans(batch.masked[row].cpu().numpy()):
            above.axvspan(
                start * HOP / SAMPLE_RATE, stop * HOP / SAMPLE_RATE, color="k", alpha=0.55
            )
        above.set(title=batch.ids[row], ylabel="kHz", xlim=(0, seconds), xticks=[])
        codes = batch.labels[row, :, 0].cpu().numpy()
        known = np.ma.masked_less(codes[None], 0)
        below.imshow(
            known, aspect="auto", cmap="prism", extent=(0, len(codes) * HOP / SAMPLE_RATE, 0, 1)
        )
        below.set(xlim=(0, seconds), yticks=[], ylabel="label", xlabel="s")
    figure.suptitle("mixed dev speech; dark: masked, to be predicted from what is not")
    return figure


def decibels(waveform: Tensor) -> Any:
    """Spectrogram (frequencies, frames) of samples (T,), over its largest value."""
    spectrum = torch.stft(
        waveform.float().cpu(),
        WINDOW,
        hop_length=HOP // 2,
        window=torch.hann_window(WINDOW),
        return_complex=True,
    ).abs()
    return (20 * (spectrum / spectrum.max().clamp(min=1e-9)).clamp(min=1e-9).log10()).numpy()


def spans(masked: Any) -> list[tuple[int, int]]:
    """First frame and the one after the last, of each run of True in (F,).

    >>> spans(np.array([True, False, True, True]))
    [(0, 1), (2, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], masked.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
