# SPDX-License-Identifier: Apache-2.0
"""Our encoder and training step beside transformers' and torchaudio's, interleaved, in one run.

    python benchmarks/encoder.py [--rows 4] [--seconds 10] [--runs 5] [--precision fp32|bf16]

Base size, random weights, the same for all; medians, and ratios run by run. JSON lines on standard
output, one a figure. Needs the test environment (`make setup-dev`).
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torchaudio
from torch import Tensor
from transformers import WavLMConfig as TheirConfig
from transformers import WavLMModel

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.model.checkpoint import to_torchaudio, to_transformers, transformers_config


def encoders(config: WavLMConfig) -> dict[str, tuple[torch.nn.Module, Callable[[Tensor], Tensor]]]:
    """Name -> module, and a call that gives the last layer of waveforms (B, T)."""
    ours = WavLM(config)
    theirs = WavLMModel(TheirConfig(**transformers_config(config)))
    theirs.load_state_dict(to_transformers(ours))
    audio = torchaudio.models.wavlm_base(
        encoder_projection_dropout=0.0,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_drop=0.0,
    )
    audio.load_state_dict(to_torchaudio(ours))
    return {
        "ours": (ours, lambda x: ours(x, torch.full((len(x),), x.shape[1])).layers[-1]),
        "transformers": (theirs, lambda x: theirs(x, output_hidden_states=True).last_hidden_state),
        "torchaudio": (audio, lambda x: audio.extract_features(x)[0][-1]),
    }


def measure(run: Callable[[], None]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Time forward passes, then forward and backward passes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    config = dataclasses.replace(
        WavLMConfig.base(), dropout=0.0, attention_dropout=0.0, input_dropout=0.0, layer_drop=0.0
    )
    waveforms = 0.1 * torch.randn(args.rows, round(args.seconds * 16_000))
    bf16 = args.precision == "bf16"

    def forward(module: torch.nn.Module, call: Callable[[Tensor], Tensor]) -> None:
        module.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            call(waveforms)

    def step(module: torch.nn.Module, call: Callable[[Tensor], Tensor]) -> None:
        module.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = call(waveforms).float().square().mean()
        loss.backward()
        module.zero_grad()

    peers = encoders(config)
    for what, work in (("forward", forward), ("forward and backward", step)):
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        for turn in range(args.runs + 1):
            for name, (module, call) in peers.items():
                took = measure(partial(work, module, call))
                if turn > 0:  # the first is a warm-up
                    seconds[name].append(took)
        for name, times in seconds.items():
            ratios = [a / b for a, b in zip(times, seconds["ours"], strict=True)]
            line = {
                "what": what,
                "precision": args.precision,
                "encoder": name,
                "median_seconds": round(statistics.median(times), 3),
                "times_ours": round(statistics.median(ratios), 2),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
