# SPDX-License-Identifier: Apache-2.0
"""Everything in one run: time, memory and growth beside transformers and torchaudio.

python -m benchmarks.bench [--size=base] [--runs=5] [--device=cpu] [--parts=time,memory,...]

Prints JSON lines, one a figure, and a table with the goals; leaves both and a picture in `--out`.
Contenders have a process each and run in turn, one at a time; first all of them as Python starts
them, then all with the allocator and the threads that our programs set (recipes/__init__.py).
Ratios are medians of those of single rounds, of seconds on the clock and of the processor. A round
in which other processes took more than a tenth of the processors is tried again, and a row with no
other rounds says so in place of figures.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import Setting, config, kernels
from benchmarks.goals import table_of
from benchmarks.host import processor
from benchmarks.loading import loading
from benchmarks.names import AS_IT_COMES, ONE_THREAD, OURS, OWN_OBJECTIVE, PEERS, RECOMPUTING, TUNED
from benchmarks.picture import draw
from benchmarks.probing import probing
from benchmarks.recognition import recognition
from benchmarks.timing import Child, Timed, figures, interleaved
from wavlm_lightning.lengths import SAMPLE_RATE
from wavlm_lightning.model.operations import BACKWARD, forward_operations
from wavlm_lightning.result import versions
from wavlm_lightning.runtime import threads
from wavlm_lightning.throughput import matrix_rate

# Rows and seconds of each: always the same audio, for the square of the length to show.
STEPS = ((4, 10.0), (2, 20.0), (1, 40.0))
GROWTH = (5.0, 10.0, 20.0, 40.0, 80.0)
SIZES = ("base", "large")

Line = dict[str, Any]


def times(args: argparse.Namespace) -> Iterator[Line]:
    """Steps and passes of all contenders, in both precisions."""
    for bf16 in (False, True):
        setting = Setting(args.size, bf16=bf16, device=args.device)
        precision = "bf16" if bf16 else "fp32"
        rate = matrix_rate(args.device, torch.bfloat16 if bf16 else torch.float32) / 1e9
        yield {"what": "matrix rate", "precision": precision, "gflop_per_second": round(rate)}
        one = forward_operations(config(args.size), round(setting.seconds * SAMPLE_RATE))
        gflop = setting.rows * one / 1e9
        for process, what, group in (
            (AS_IT_COMES, "training", [OURS, *PEERS]),
            (AS_IT_COMES, "training", [OURS, RECOMPUTING, OWN_OBJECTIVE]),
            (AS_IT_COMES, "inference", [OURS, *PEERS]),
            (TUNED, "training", [OURS, *PEERS]),
            (TUNED, "inference", [OURS, *PEERS]),
            (ONE_THREAD, "training", [OURS, *PEERS]),
            (ONE_THREAD, "inference", [OURS, *PEERS]),
        ):
            work = (1 + BACKWARD) * gflop if what == "training" else gflop
            own = setting
            if process == ONE_THREAD:  # one utterance is enough for it; its rate is not measured
                own = replace(setting, rows=1)
            found = _timed(group, what, own, process=process, runs=args.runs)
            for name, timed in found.items():
                known = timed.rounds > 0 and process != ONE_THREAD
                share = round(work / timed.seconds / rate, 2) if known else None
                yield {
                    "what": "training step" if what == "training" else what,
                    "precision": precision,
                    "contender": name,
                    "process": process,
                    "audio": f"{own.rows} x {own.seconds:g} s",
                    **figures(timed),
                    **({"mfu": share} if known else {}),
                    **({"kernels": kernels(own, what)} if name == OURS else {}),
                }


def _timed(
    names: list[str], what: str, setting: Setting, *, process: str, runs: int
) -> dict[str, Timed]:
    """Each in a process of its own, all at once; a few at a time, for the memory."""
    children = {name: Child(name, what, setting, process=process) for name in names}
    try:
        return interleaved(children, runs=runs, ours=OURS)
    finally:
        for child in children.values():
            child.close()


def memory(args: argparse.Namespace) -> Iterator[Line]:
    """Peaks of a training step at one amount of audio, and of one utterance as it grows."""
    for rows, seconds in STEPS:
        for bf16 in (False, True):
            setting = Setting(args.size, rows, seconds, bf16, args.device)
            for name in (OURS, RECOMPUTING, *PEERS):
                yield _peak("training memory", name, "training", setting)
    for seconds in GROWTH:
        for what in ("training", "inference"):
            setting = Setting(args.size, 1, seconds, False, args.device)
            yield _peak(f"{what} memory of one utterance", OURS, what, setting)


def _peak(label: str, name: str, what: str, setting: Setting) -> Line:
    """Peak of two turns: the first one of training makes the optimizer's state."""
    child = Child(name, what, setting)
    child()
    mib = child().mib
    child.close()
    return {
        "what": label,
        "precision": "bf16" if setting.bf16 else "fp32",
        "contender": name,
        "rows": setting.rows,
        "seconds_each": setting.seconds,
        "mib": round(mib),
    }


def tasks(args: argparse.Namespace) -> Iterator[Line]:
    """SUPERB tasks with features kept or computed at each use, with one head or eight."""
    yield from probing(args.size, runs=args.runs)


def loader(args: argparse.Namespace) -> Iterator[Line]:
    """What the loader of pre-training gives alone, to compare with what a step takes."""
    yield from loading(args.root, args.noise)


def recognising(args: argparse.Namespace) -> Iterator[Line]:
    """Uneven utterances through a frozen upstream, and SUPERB's recognition head, one thread.

    Of a processor alone: what it compares are kernels of one. Heads on a GPU are `gpu-check`'s.
    """
    if args.device != "cpu":
        return
    with threads(1):
        yield from recognition(args.size, runs=args.runs)


PARTS = {
    "time": times,
    "memory": memory,
    "loading": loader,
    "recognition": recognising,
    "probing": tasks,
}


def main(argv: list[str]) -> int:
    """Run the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--runs", type=int, default=5, help="turns, after one that does not count")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--root", default="mini", help="recordings for the part loading")
    parser.add_argument("--noise", default="mini", help="noise for the part loading")
    parser.add_argument("--out", default="", help="a folder; runs/bench/<time> if not said")
    args = parser.parse_args(argv)
    unknown = set(args.parts.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"parts: there are {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    out = Path(args.out or f"runs/bench/{time.strftime('%Y%m%d-%H%M%S')}")
    out.mkdir(parents=True, exist_ok=True)
    lines = [_about(args)]
    print(json.dumps(lines[0]), flush=True)
    with (out / "bench.jsonl").open("w", encoding="utf-8") as file:
        file.write(json.dumps(lines[0]) + "\n")
        for part in args.parts.split(","):
            for line in PARTS[part](args):
                lines.append(line)
                print(json.dumps(line), flush=True)
                file.write(json.dumps(line) + "\n")
                file.flush()
    text = table_of(lines)
    (out / "table.md").write_text(text, encoding="utf-8")
    draw(lines, out / "bench.png")
    print(f"\n{text}\n{out}/: bench.jsonl, table.md, bench.png")
    return 0


def _about(args: argparse.Namespace) -> Line:
    device = processor()
    if args.device == "cuda":
        device = torch.cuda.get_device_name()
    return {
        "what": "about",
        "date": time.strftime("%Y-%m-%d"),
        "device": device,
        "threads": torch.get_num_threads(),
        "size": args.size,
        "versions": versions(),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
