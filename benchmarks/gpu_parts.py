# SPDX-License-Identifier: Apache-2.0
"""Parts of the GPU check, each a function that yields facts; `benchmarks.gpu_check` runs them.

    python -m benchmarks.gpu_parts PART SIZE [--dry]

Prints one JSON line a fact, flushed, so that a part that is cut short keeps what it had.
"""

import contextlib
import importlib.util
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_heads import heads, learners
from benchmarks.gpu_setting import Check, Fact, Step, our_step, our_steps
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.kernels.grouped_convolution import grouped_convolution
from wavlm_lightning.model.layout_configs import transformers_config
from wavlm_lightning.model.operations import BACKWARD, forward_operations
from wavlm_lightning.pretrain.batches import crop_grid
from wavlm_lightning.throughput import matrix_rate

MIN_SAMPLES, MAX_SAMPLES = 32_000, 250_000  # of crops in the published configurations


def machine(check: Check) -> Iterator[Fact]:
    """What it is, and what it multiplies at best."""
    name = "a CPU, dry run" if check.dry else torch.cuda.get_device_name()
    yield {"what": "device", "name": name, "torch": torch.__version__}
    for dtype in (torch.bfloat16, torch.float32):
        rate = matrix_rate(check.device.type, dtype) / 1e12
        yield {"what": "matrix rate", "dtype": str(dtype)[6:], "tflops": round(rate, 1)}


def equality(check: Check) -> Iterator[Fact]:
    """Largest differences of outputs, and relative ones of gradients, from eager attention."""
    waveforms, lengths = check.audio(3.0, rows=3)
    lengths = torch.tensor([48_000, 40_000, 16_400])
    for row, length in enumerate(lengths.tolist()):
        waveforms[row, length:] = 0
    for bf16 in (False, True):
        expected: list[Tensor] = []
        for attention, compiled in (
            ("eager", False), ("sdpa", False), ("chunked", False), ("sdpa", True),
        ):  # fmt: skip
            model = check.model(attention).eval()  # type: ignore[arg-type]
            if compiled and check.dry:
                continue
            if compiled:
                model.compile_regions()
            with torch.autocast(check.device.type, torch.bfloat16, enabled=bf16):
                features = model(waveforms, lengths)
            y = features.output.float()
            valid = torch.arange(y.shape[1])[None] < features.lengths[:, None]
            y = y[valid.to(y.device)]
            direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(5))
            (y * direction.to(y.device)).sum().backward()
            named = ("encoder.position_bias.weight", "encoder.layers.0.attention.gate.weight",
                     "encoder.layers.0.attention.query.weight", "encoder.position.weight_v",
                     "feature_encoder.layers.0.conv.weight")  # fmt: skip
            parameters = dict(model.named_parameters())
            found = [y.detach(), *(parameters[n].grad.float() for n in named)]  # type: ignore[union-attr]
            if not expected:
                expected = found
                continue
            yield {
                "what": "against eager attention",
                "attention": attention,
                "compiled": compiled,
                "bf16": bf16,
                "relative": {
                    name: float((a - b).norm() / b.norm())
                    for name, a, b in zip(("output", *named), found, expected, strict=True)
                },
            }


def position(check: Check) -> Iterator[Fact]:
    """The position embedding's convolution: torch's, and as matrix products."""
    module = check.model().encoder.position
    channels = len(module.bias)
    x = torch.randn(5, 784, channels, device=check.device, dtype=torch.bfloat16)
    weight = module.weight_v.detach().to(torch.bfloat16).requires_grad_()
    x.requires_grad_()

    def torchs() -> Tensor:
        half = weight.shape[2] // 2
        y = nn.functional.conv1d(x.transpose(1, 2), weight, padding=half, groups=module.groups)
        return y.transpose(1, 2)[:, : x.shape[1]]

    def ours() -> Tensor:
        half = weight.shape[2] // 2
        return grouped_convolution(x, weight, groups=module.groups, before=half)

    with torch.no_grad():
        error = float((ours() - torchs()).float().norm() / torchs().float().norm())
    times = {
        name: round(check.milliseconds(lambda f=f: f().sum().backward()), 3)  # type: ignore[misc]
        for name, f in (("torch", torchs), ("products", ours))
    }
    yield {"what": "position convolution", "relative": error, "milliseconds": times}


def steps(check: Check) -> Iterator[Fact]:
    """Time, share of the matrix rate, memory, and waits; ours, compiled and not."""
    rate = matrix_rate(check.device.type, torch.bfloat16)
    for compiled, model, step in our_steps(check):
        for seconds in check.lengths:
            batch = check.audio(seconds)
            took = check.milliseconds(lambda: step(*batch))  # noqa: B023
            one = forward_operations(model.config, batch[0].shape[1])
            work = (1 + BACKWARD) * len(batch[0]) * one
            yield {
                "what": "step",
                "compiled": compiled,
                "rows": len(batch[0]),
                "seconds": seconds,
                "ms": round(took, 1),
                "mfu": round(work / (took / 1e3) / rate, 3),
                "peak_gib": check.peak_gib(),
                "waits": _waits(check, lambda: step(*batch)),  # noqa: B023
            }


def _waits(check: Check, work: Callable[[], Any]) -> int | None:
    """How often the host waits for the device in a step."""
    if check.dry:
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(w.message) for w in caught)


def many_lengths(check: Check) -> Iterator[Fact]:
    """All lengths of the grid of crops, one after the other, as training meets them."""
    grid = crop_grid(MIN_SAMPLES, MAX_SAMPLES)
    grid = grid[:3] if check.dry else grid
    for compiled, _, step in our_steps(check):
        for turn in ("first", "second"):
            start, audio = time.perf_counter(), 0.0
            for samples in grid:
                batch = check.audio(int(samples) / SAMPLE_RATE)
                step(*batch)
                audio += batch[0].numel() / SAMPLE_RATE
            check.wait()
            yield {
                "what": "lengths in a row",
                "turn": turn,
                "compiled": compiled,
                "lengths": len(grid),
                "seconds": round(time.perf_counter() - start, 2),
                "audio_seconds": round(audio),
                "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
            }


def profile(check: Check) -> Iterator[Fact]:
    """What one step starts, and where the device's time goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    for compiled, _, step in our_steps(check):
        for seconds in check.lengths[:: max(1, len(check.lengths) - 1)]:
            batch = check.audio(seconds)
            for _ in range(3):
                step(*batch)
            with profiler(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
                step(*batch)
                check.wait()
            events = found.key_averages()
            top = sorted(events, key=lambda e: -e.self_device_time_total)[:10]
            yield {
                "what": "profile of a step",
                "compiled": compiled,
                "seconds": seconds,
                "launches": sum(e.count for e in events if "LaunchKernel" in e.key),
                "device_ms": round(sum(e.self_device_time_total for e in events) / 1e3, 1),
                "top_ms": {e.key[:70]: round(e.self_device_time_total / 1e3, 2) for e in top},
            }


def graphs(check: Check) -> Iterator[Fact]:
    """The compiled step replayed as CUDA graphs: one shape, caught once."""
    if check.dry:
        yield {"what": "CUDA graphs", "skipped": "they are of a GPU"}
        return
    model = check.model().train()
    model.compile_regions(dynamic=False, mode="reduce-overhead")
    step = our_step(check, model)
    for seconds in check.lengths[:: max(1, len(check.lengths) - 1)]:
        batch = check.audio(seconds)
        took = check.milliseconds(lambda: step(*batch))  # noqa: B023
        yield {"what": "CUDA graphs", "seconds": seconds, "ms": round(took, 1)}


def longest(check: Check) -> Iterator[Fact]:
    """The longest utterance that a training step holds, by doubling."""
    best, seconds = 0, 2 if check.dry else 40
    while seconds <= (4 if check.dry else 2560):
        try:
            step = our_step(check, check.model().train())
            step(*check.audio(seconds, rows=1))
            best, seconds = seconds, 2 * seconds
        except torch.OutOfMemoryError:
            break
    yield {"what": "longest utterance of a step", "seconds": best, "peak_gib": check.peak_gib()}


def peer(check: Check) -> Iterator[Fact]:
    """transformers' WavLM, the same steps."""
    if importlib.util.find_spec("transformers") is None:
        yield {"what": "transformers", "skipped": "it is not installed"}
        return
    from transformers import WavLMConfig as TheirConfig
    from transformers import WavLMModel

    own = check.config()
    options = transformers_config(own) | {"layerdrop": 0.0, "apply_spec_augment": False}
    for compiled in (False,) if check.dry else (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        model: Any = WavLMModel(TheirConfig(**options))
        model = model.to(check.device).train()
        run: Any = torch.compile(model, dynamic=True) if compiled else model
        step = Step(model, lambda x: run(x).last_hidden_state, check.device)  # noqa: B023
        for seconds in check.lengths:
            waveforms, _ = check.audio(seconds)
            took = check.milliseconds(lambda: step(waveforms))  # noqa: B023
            yield {
                "what": "transformers step",
                "compiled": compiled,
                "seconds": seconds,
                "ms": round(took, 1),
                "peak_gib": check.peak_gib(),
            }


def programs(check: Check) -> Iterator[Fact]:
    """A short `make pretrain`, stopped once and gone on with, and one task on what it leaves."""
    needed = ("jsonargparse", "wandb", "espeakng_loader")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        yield {"what": "programs", "skipped": f"{', '.join(missing)} not installed"}
        return
    device = f"--trainer.accelerator={'cpu' if check.dry else 'gpu'}"
    updates = 30 if check.dry else 1000
    with tempfile.TemporaryDirectory() as folder:
        pretrain = [
            "wavlm_lightning.recipes.pretrain", "--config=configs/pretrain/mini.yaml", device,
            f"--run.dir={folder}", "--run.name=check", "--iterations=[]", "--labels.features=mfcc",
            "--labels.max_fit_frames=20000", "--optim.warmup_updates=10", "--wandb.mode=disabled",
            f"--optim.total_updates={updates}", f"--run.validate_updates={updates}",
            "--run.checkpoint_updates=10",
        ]  # fmt: skip
        yield _program(pretrain, stop_at=Path(folder))
        yield _program(pretrain)
        (checkpoint,) = Path(folder).glob("check/latest/checkpoints/last.ckpt")
        superb = [
            "wavlm_lightning.recipes.superb",
            "ks",
            str(checkpoint),
            f"--run.dir={folder}/superb",
            device,
        ]
        yield _program([*superb, "--optim.total_updates=20", "--wandb.mode=disabled"])


def _program(words: list[str], stop_at: Path | None = None) -> Fact:
    """Run a program, told to stop once there is a checkpoint below this folder.

    A failed one is one that ends otherwise than it was told to.
    """
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=output, stderr=output)
        while stop_at is not None and process.poll() is None:
            if next(stop_at.rglob("last.ckpt"), None) is not None:
                process.terminate()
                break
            time.sleep(0.2)
        status = process.wait()
        output.seek(0)
        last = (output.read().strip().splitlines() or [""])[-1]
    fact: Fact = {"what": "program", "program": words[0], "stopped": stop_at is not None}
    fact |= {"seconds": round(time.perf_counter() - start, 1), "last": last}
    wanted = 0 if stop_at is None else 128 + signal.SIGTERM
    return fact if status == wanted else fact | {"failed": f"status {status}: {last}"}


PARTS = {
    part.__name__: part
    for part in (
        machine, equality, position, heads, steps, many_lengths, profile, peer, learners, graphs,
        longest, programs,
    )
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Run one part."""
    name, size, *rest = argv
    check = Check(size, dry="--dry" in rest)
    if not check.dry:
        # Products in float32 keep all their bits: equality is the question here.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    with contextlib.suppress(BrokenPipeError):
        for fact in PARTS[name](check):
            print(json.dumps({"part": name, "size": size, **fact}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
