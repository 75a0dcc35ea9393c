# SPDX-License-Identifier: Apache-2.0
"""The encoder for ONNX Runtime: any batch, any length, no padding; also with weights of 8 bits."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.export import exported
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.shipped import extras

INPUT = "waveforms"
# Products of matrices alone: the convolutions of the feature encoder lose more than they gain.
QUANTIZED = ("MatMul", "Gemm")
CHECKED_SECONDS = (1.0, 2.5, 6.25)  # of noise, on which the change by 8 bits is measured


def check_installed() -> None:
    """Find out before a model is loaded.

    Raises:
        ModuleNotFoundError: naming the command that installs what is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"ONNX needs {error.name}: {extras('onnx')}") from error


def save_onnx(model: WavLM, path: Path, *, int8: bool = False) -> str:
    """Write a file that takes `waveforms` (B, T) and gives layer_0 ... layer_N (B, F, D).

    Args:
        model: The encoder.
        path: File to write.
        int8: Whether weights of matrix products are kept in 8 bits.

    Returns:
        What is known of the file: its size, and the change by 8 bits.
    """
    if not int8:
        _export(model, path)
        return f"{path.stat().st_size / 1e6:.1f} MB"
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / path.name
        _export(model, whole)
        _quantize(whole, path)
        share = path.stat().st_size / whole.stat().st_size
    return (
        f"{path.stat().st_size / 1e6:.1f} MB, {share:.2f} of float32's; layers differ by at most "
        f"{largest_change(model, path):.1%} of their largest value, on noise of "
        f"{', '.join(f'{s:g}' for s in CHECKED_SECONDS)} s"
    )


def _export(model: WavLM, path: Path) -> None:
    names = [f"layer_{i}" for i in range(model.config.num_layers + 1)]
    with _quiet():
        program = torch.onnx.export(
            exported(model),
            (),
            dynamo=True,
            verbose=False,
            input_names=[INPUT],
            output_names=names,
        )
        assert program is not None
        program.save(path)


def _quantize(whole: Path, path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            whole, path, op_types_to_quantize=list(QUANTIZED), weight_type=QuantType.QInt8
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without remarks of the exporter on packages that it does without."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def session_of(path: Path) -> Any:
    """A session of ONNX Runtime on a processor, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


@torch.no_grad()
def largest_change(model: WavLM, path: Path) -> float:
    """Largest difference of a file's layers from the model's, over a layer's largest value ()."""
    session, found = session_of(path), 0.0
    for seconds in CHECKED_SECONDS:
        generator = torch.Generator().manual_seed(0)
        waveforms = 0.1 * torch.randn(1, int(seconds * SAMPLE_RATE), generator=generator)
        wanted = model(waveforms).layers
        for layer, ours in zip(run(session, waveforms), wanted, strict=True):
            found = max(found, float((layer - ours).abs().max() / ours.abs().max()))
    return found


def run(session: Any, waveforms: Tensor) -> list[Tensor]:
    """Waveforms (B, T) -> layers (B, F, D)."""
    return [torch.from_numpy(layer) for layer in session.run(None, {INPUT: waveforms.numpy()})]
