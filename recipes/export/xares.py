# SPDX-License-Identifier: Apache-2.0
"""An encoder for X-ARES: one file with a class, and the program of torch.export that it runs.

X-ARES (xares 0.1.3, its audio_encoder_checker) takes a class whose name ends in Encoder, with
`sampling_rate`, `output_dim` and `hop_size_in_ms`, that turns audio (B, T) or (T,) into one
sequence (B, F, output_dim).
"""

from pathlib import Path

from wavlm_lightning.config import ConfigError
from wavlm_lightning.files import write_text
from wavlm_lightning.lengths import HOP, RECEPTIVE_FIELD, SAMPLE_RATE
from wavlm_lightning.model.export import save_exported
from wavlm_lightning.model.wavlm import WavLM

ENCODER, PROGRAM = "encoder.py", "wavlm.pt2"
PIECE_SECONDS, CONTEXT_SECONDS = 60, 5

_TEXT = '''"""WavLM for X-ARES: {what}. Needs torch alone.

python -m xares.run --max-jobs 8 encoder.py src/tasks/*.py

Longer audio than {piece} s is computed in pieces of that length with {context} s around each, since
attention's memory grows with the square of a piece.
"""

from pathlib import Path

import torch

HOP, FIELD = {hop}, {field}
PIECE, CONTEXT = {piece} * {rate} // HOP, {context} * {rate} // HOP  # frames


class WavLMEncoder(torch.nn.Module):
    sampling_rate = {rate}
    output_dim = {dim}
    hop_size_in_ms = {milliseconds}

    def __init__(self):
        super().__init__()
        program = torch.export.load(Path(__file__).with_name("{program}"))
        self.program = program.module()

    @torch.no_grad()
    def forward(self, audio):
        audio = audio[None] if audio.ndim == 1 else audio
        audio = audio.float()
        shortest = FIELD + HOP
        if audio.shape[1] < shortest:
            audio = torch.nn.functional.pad(audio, (0, shortest - audio.shape[1]))
        frames = (audio.shape[1] - FIELD) // HOP + 1
        found = []
        for start in range(0, frames, PIECE):
            stop = min(start + PIECE, frames)
            first, last = max(start - CONTEXT, 0), min(stop + CONTEXT, frames)
            end = audio.shape[1] if last == frames else (last - 1) * HOP + FIELD
            layers = self.program(audio[:, first * HOP : end])
            found.append({output}[:, start - first : stop - first])
        return torch.cat(found, 1)
'''


def save_xares(model: WavLM, out: Path, *, layer: int | None) -> str:
    """Write both files.

    Args:
        model: The encoder.
        out: Folder.
        layer: Which layer is evaluated, 0 enters the first block; None: the mean of all.

    Returns:
        What the class gives.

    Raises:
        ConfigError: for a layer that is not there.
    """
    last = model.config.num_layers
    if layer is not None and not 0 <= layer <= last:
        raise ConfigError(f"layer must be from 0 to {last} (got {layer})")
    what = f"the mean of layers 0 to {last}" if layer is None else f"layer {layer} of 0 to {last}"
    text = _TEXT.format(
        what=what,
        hop=HOP,
        field=RECEPTIVE_FIELD,
        rate=SAMPLE_RATE,
        piece=PIECE_SECONDS,
        context=CONTEXT_SECONDS,
        dim=model.config.dim,
        milliseconds=1000 * HOP // SAMPLE_RATE,
        program=PROGRAM,
        output="torch.stack(layers).mean(0)" if layer is None else f"layers[{layer}]",
    )
    save_exported(model, out / PROGRAM)
    write_text(out / ENCODER, text)
    return what
