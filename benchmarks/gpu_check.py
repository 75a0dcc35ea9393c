# SPDX-License-Identifier: Apache-2.0
"""Is it right, how fast is it, and what fits, on one GPU: `make gpu-check`, under six minutes.

    python -m benchmarks.gpu_check [--sizes=base,large] [--seconds=340] [--out=FOLDER] [--dry]

Prints JSON lines as they are found and a table at the end, and leaves both in `--out`. Each part is
a process of its own: one that fails, hangs or runs out of memory is said and does not end the
others. Needs torch, torchaudio, lightning, torchmetrics, numpy and safetensors; what else is
missing is skipped, and said. `--dry` runs all of it with the mini model on a CPU.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

Fact = dict[str, Any]
# What is wanted most comes first: time may run out.
PLAN = (
    ("machine", "first"), ("equality", "first"), ("position", "first"), ("steps", "all"),
    ("peer", "all"), ("heads", "first"), ("many_lengths", "first"), ("profile", "first"),
    ("learners", "first"), ("graphs", "first"), ("longest", "first"), ("programs", "first"),
)  # fmt: skip
LONGEST_PART = 150.0  # seconds


def run_part(part: str, size: str, *, dry: bool, seconds: float) -> Iterator[Fact]:
    """Facts of one part, and one more if it ends badly."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_parts", part, size]
    process = subprocess.Popen(
        [*command, *(["--dry"] if dry else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr or []), daemon=True)
    reader.start()
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.start()
    for line in process.stdout or []:
        yield json.loads(line)
    status = process.wait()
    timer.cancel()
    reader.join(1)
    if status:
        last = (said or ["no message"])[-1].strip()
        why = f"ended after {seconds:.0f} s" if late.is_set() else last
        yield {"part": part, "size": size, "what": part, "failed": why[:300]}


def check(sizes: list[str], *, seconds: float, dry: bool) -> Iterator[Fact]:
    """All facts, within so many seconds."""
    deadline = time.monotonic() + seconds
    for part, which in PLAN:
        for size in sizes if which == "all" else sizes[:1]:
            left = deadline - time.monotonic()
            if left < 5:
                yield {"part": part, "size": size, "what": part, "skipped": "no time left"}
                continue
            yield from run_part(part, size, dry=dry, seconds=min(left, LONGEST_PART))


def table(facts: list[Fact]) -> str:
    """Steps beside transformers' in Markdown, other times, what failed or was skipped."""
    lines = ["| size | seconds | ours, compiled | ours | transformers, compiled | transformers | "
             "share of matrix rate | waits |", "|---|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    rows = sorted({(f["size"], -f["seconds"]) for f in facts if f["what"] == "step"})
    for size, minus in rows:
        own = {}
        for f in facts:
            if f.get("seconds") == -minus and f["size"] == size:
                own[f["what"], f.get("compiled")] = f
        best = own.get(("step", True)) or own["step", False]
        cells = [
            str(own[key]["ms"]) if key in own else ""
            for key in [(w, c) for w in ("step", "transformers step") for c in (True, False)]
        ]
        share = f"{best['mfu']:.1%}"
        lines.append(
            f"| {size} | {-minus:g} | {' | '.join(cells)} | {share} | {best['waits'] or 0} |"
        )
    for f in facts:
        if f["what"] == "learners" and "ms" in f:
            way = ", a stream each" if f["a_stream_each"] else ""
            lines.append(f"\nrecognition heads on a frozen {f['size']}, {f['learners']}{way}: "
                         f"{f['ms']} ms a step")  # fmt: skip
        if f["what"] == "CUDA graphs" and "ms" in f:
            lines.append(f"\n{f['size']}, {f['seconds']:g} s, as CUDA graphs: {f['ms']} ms a step")
        for word in ("failed", "skipped"):
            if word in f:
                lines.append(f"\n{f['what']} ({f['size']}) {word}: {f[word]}")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print facts and the table; 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--sizes", default="base,large")
    parser.add_argument("--seconds", type=float, default=340.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--dry", action="store_true", help="on a CPU, with the mini model")
    options = parser.parse_args(argv)
    if not options.dry and not torch.cuda.is_available():
        print("error: torch sees no GPU here; make gpu-check DRY=1 runs it on a CPU")
        return 2
    facts = []
    for fact in check(options.sizes.split(","), seconds=options.seconds, dry=options.dry):
        facts.append(fact)
        print(json.dumps(fact), flush=True)
    shown = table(facts)
    print(shown)
    options.out.mkdir(parents=True, exist_ok=True)
    name = f"{datetime.now(UTC):%Y-%m-%d}-{'dry' if options.dry else 'gpu'}"
    (options.out / f"{name}.jsonl").write_text("".join(f"{json.dumps(f)}\n" for f in facts))
    (options.out / f"{name}.md").write_text(f"{facts[0].get('name', '')}\n\n{shown}\n")
    print(f"written: {options.out / name}.jsonl and .md")
    return int(any("failed" in fact for fact in facts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
