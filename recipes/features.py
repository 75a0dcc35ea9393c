# SPDX-License-Identifier: Apache-2.0
"""Write features of recordings: one safetensors file for each, of one layer or of all.

wavlm features UPSTREAM --input=FILE|DIR --out=DIR [--layer=9|last|mean|all] [--processes=N]

A file holds `features` (F, D), or with layer=all `layer_0` and so on, and in its header the stride.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from wavlm_lightning.audio import AudioError, sound_of
from wavlm_lightning.config import ConfigError
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.config_stack import Stack
from wavlm_lightning.downstream.features.windows import (
    WindowConfig,
    each_recording,
    frames_in_windows,
)
from wavlm_lightning.files import replacing
from wavlm_lightning.lengths import RECEPTIVE_FIELD, pad_batch
from wavlm_lightning.recipes.run.exit_status import exit_status
from wavlm_lightning.recipes.run.outputs import (
    Outputs,
    add_options,
    join_and_count,
    recordings_in,
    windows_from,
    work_through,
)
from wavlm_lightning.recipes.run.processes import start_all
from wavlm_lightning.recipes.superb.settings import UpstreamSection, upstream_stack

PROGRAM = "wavlm_lightning.recipes.features"


def build_parser() -> Parser:
    """The options."""
    parser = Parser(prog="wavlm features", description=__doc__)
    parser.add_section(UpstreamSection, "upstream")
    add_options(parser)
    parser.add_argument(
        "--layer",
        type=int | Literal["last", "mean", "all"],
        default="last",
        help="0 enters the first block; mean: of all layers",
    )
    parser.add_argument(
        "--dtype",
        type=Literal["float32", "float16"],
        default="float32",
        help="of the files",
    )
    return parser


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return exit_status(lambda: _write_features(argv))


def _write_features(argv: list[str]) -> int:
    if not argv or argv[0].startswith("--"):
        raise ConfigError("the first argument must be an upstream, such as wavlm_base or a file")
    stack = upstream_stack(argv[0]) + Stack.of_overrides(argv[1:])
    resolved = build_parser().resolve(stack)
    values, section = resolved.values, resolved.sections.upstream
    recordings = recordings_in(Path(values["input"]))
    about = {"upstream": str(section.source or section.kind), "layer": str(values["layer"])}
    about |= {key: str(values[key]) for key in ("dtype", "window_seconds", "context_seconds")}
    about |= {"precision": str(section.precision)}
    outputs = Outputs(Path(values["out"]), about, ending="safetensors")
    outputs.check(recordings, Path(values["input"]))
    status = start_all(PROGRAM, argv, count=values["processes"])
    if status is not None:
        return status
    processes, left = join_and_count(outputs, recordings)
    if not left:
        processes.leave()
        return 0
    from wavlm_lightning.downstream.features.upstream import load_upstream

    frozen, digest = load_upstream(section)
    layer = _layer(values["layer"], frozen.num_layers)
    outputs.about["sha256"] = digest  # known once it is loaded: another model may lie there now
    outputs.check(recordings, Path(values["input"]))
    windows = windows_from(values)
    device = values["device"] or ("cuda" if torch.cuda.is_available() else "cpu")
    header = {"upstream": digest, "layer": str(values["layer"]), "stride": str(frozen.stride)}
    written = work_through(
        outputs,
        recordings,
        left,
        processes,
        doing="computing features",
        prepare=_prepared,
        compute=partial(features_of, frozen.to(device), layer, windows, device),
        write=partial(_write, outputs, getattr(torch, values["dtype"]), header),
    )
    if processes.first:
        print(f"features of {section.name} for {written} recordings in {outputs.folder}")
    processes.leave()
    return 0


def _layer(layer: Any, count: int) -> Any:
    """A layer that is there.

    Raises:
        ConfigError: if it is not.
    """
    if isinstance(layer, int) and not 0 <= layer < count:
        raise ConfigError(f"layer must be from 0 to {count - 1} for this upstream (got {layer})")
    return count - 1 if layer == "last" else layer


def _prepared(path: Path) -> Tensor:
    """Samples (T,) of a recording.

    Raises:
        AudioError: if it cannot be read, is silent, or shorter than a frame.
    """
    waveform = sound_of(path)
    if len(waveform) < RECEPTIVE_FIELD:
        raise AudioError(f"{path}: {len(waveform)} samples, at least {RECEPTIVE_FIELD} are needed")
    return waveform


@torch.inference_mode()
def features_of(
    upstream: Any, layer: int | str, windows: WindowConfig, device: str, waveforms: list[Tensor]
) -> list[Tensor]:
    """Features of recordings.

    Args:
        upstream: A frozen one, on the device.
        layer: A number, mean or all.
        windows: How long recordings are cut.
        device: Where it computes.
        waveforms: (T_i,) each.

    Returns:
        (F_i, D) of each, (F_i, L, D) with all layers.
    """

    def compute(pieces: list[Tensor]) -> list[Tensor]:
        padded, lengths = pad_batch(pieces)
        layers, counts, _ = upstream(padded.to(device), lengths)
        if layer == "all":
            chosen = torch.stack(tuple(layers), 2)
        else:
            chosen = torch.stack(tuple(layers)).mean(0) if layer == "mean" else layers[int(layer)]
        return [row[: int(n)].float().cpu() for row, n in zip(chosen, counts, strict=True)]

    def alone(waveform: Tensor) -> Tensor:
        return frames_in_windows(waveform, upstream, compute, windows).x[0]

    return each_recording(waveforms, windows, together=compute, alone=alone)


def _write(
    outputs: Outputs, dtype: torch.dtype, header: dict[str, str], name: str, features: Tensor
) -> None:
    """The file of one recording, whole or not at all."""
    features = features.to(dtype)
    tensors = (
        {"features": features.contiguous()}
        if features.ndim == 2
        else {f"layer_{i}": features[:, i].contiguous() for i in range(features.shape[1])}
    )
    with replacing(outputs.file(name)) as temporary:
        save_file(tensors, temporary, metadata=header | {"recording": name})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
