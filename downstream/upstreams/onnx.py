# SPDX-License-Identifier: Apache-2.0
"""A WavLM that `make export TO=onnx` wrote, `UPSTREAM=wavlm.onnx`: what 8 bits cost in a score."""

from pathlib import Path

from torch import Tensor, nn

from wavlm_lightning.downstream.features.config import UpstreamConfig
from wavlm_lightning.downstream.features.frozen import Frozen
from wavlm_lightning.downstream.upstreams.python import OwnUpstream
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.lengths import HOP, conv_lengths
from wavlm_lightning.model.onnx import INPUT, check_installed, run, session_of
from wavlm_lightning.shipped import command


def load(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The file at `upstream.source`, which runs on the processor, and its hash.

    Raises:
        FileNotFoundError: naming the key.
        ModuleNotFoundError: without ONNX Runtime.
        ValueError: if it is no such file.
    """
    path = Path(str(config.source))
    if not path.is_file():
        raise FileNotFoundError(
            f"upstream.source={path} is no file: {command()} export TO=onnx writes one"
        )
    check_installed()
    layers = OnnxLayers(path)
    frozen = Frozen(OwnUpstream(layers, layers), precision="float32", grouped=False)
    return frozen, file_sha256(path)


def depends_on(config: UpstreamConfig) -> str:
    """Nothing beside the file."""
    return ""


def recognizes(path: Path) -> bool:
    """A file whose name ends in .onnx."""
    return path.suffix == ".onnx"


class OnnxLayers(nn.Module):
    """Layers of a file's session.

    Args:
        path: The file.
    """

    def __init__(self, path: Path):
        super().__init__()
        try:
            self._session = session_of(path)
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:  # of the runtime, which has classes of its own for each
            raise ValueError(f"{path} is no file that ONNX Runtime reads ({error})") from error
        if [i.name for i in inputs] != [INPUT] or not all(len(o.shape) == 3 for o in outputs):
            raise ValueError(
                f"{path} must take {INPUT} and give layers: {command()} export TO=onnx"
            )
        self.num_layers, self.dim, self.stride = len(outputs), int(outputs[0].shape[2]), HOP

    def num_frames(self, num_samples: int) -> int:
        """Frames of so many samples."""
        return int(conv_lengths(num_samples))

    def forward(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """Waveforms (B, T), all as long as that, with lengths (B,) -> layers of (B, F, D)."""
        return run(self._session, waveforms.float().cpu())
