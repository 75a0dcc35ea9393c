# SPDX-License-Identifier: Apache-2.0
"""What we mean to reach, and what a run reached, side by side."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks.names import (
    AS_IT_COMES,
    COMPUTED,
    EIGHT,
    EIGHT_RUNS,
    HEAD_BF16,
    HEAD_FP32,
    ONE_THREAD,
    OURS,
    OWN_OBJECTIVE,
    PADDED,
    PEERS,
    RECOMPUTING,
    TUNED,
)

Line = dict[str, Any]


class Goal(NamedTuple):
    """One row of the table."""

    what: str
    goal: str
    figure: Callable[[Sequence[Line]], float | None]  # None if it was not measured
    reached: Callable[[float], bool]


def _found(lines: Sequence[Line], **about: Any) -> list[Line]:
    return [x for x in lines if all(x.get(key) == value for key, value in about.items())]


def _fastest(what: str, precision: str, process: str) -> Callable[[Sequence[Line]], float | None]:
    """Times that the fastest peer takes of ours; of one thread its seconds of the processor."""
    key = "cpu_times_ours" if process == ONE_THREAD else "times_ours"

    def figure(lines: Sequence[Line]) -> float | None:
        peers = [
            x[key]
            for name in PEERS
            for x in _found(lines, what=what, precision=precision, contender=name, process=process)
            if key in x
        ]
        return min(peers) if len(peers) == len(PEERS) else None

    return figure


def _times(what: str, contender: str, **about: Any) -> Callable[[Sequence[Line]], float | None]:
    def figure(lines: Sequence[Line]) -> float | None:
        found = [
            x for x in _found(lines, what=what, contender=contender, **about) if "times_ours" in x
        ]
        return min(x["times_ours"] for x in found) if found else None

    return figure


def _memory_share(seconds: float, who: str) -> Callable[[Sequence[Line]], float | None]:
    """Our peak over that of the leaner peer."""

    def figure(lines: Sequence[Line]) -> float | None:
        found = _found(lines, what="training memory", precision="fp32", seconds_each=seconds)
        mib = {x["contender"]: x["mib"] for x in found}
        peers = [mib[name] for name in PEERS if name in mib]
        return mib[who] / min(peers) if peers and who in mib else None

    return figure


def _growth(what: str) -> Callable[[Sequence[Line]], float | None]:
    def figure(lines: Sequence[Line]) -> float | None:
        found = _found(lines, what=f"{what} memory of one utterance")
        mib = {x["seconds_each"]: x["mib"] for x in found}
        return mib[80.0] / mib[20.0] if {20.0, 80.0} <= set(mib) else None

    return figure


def _least(least: float) -> Callable[[float], bool]:
    return lambda x: x >= least


def _most(most: float) -> Callable[[float], bool]:
    return lambda x: x <= most


GOALS = [
    *(
        Goal(
            f"{what}, {precision}, {process}: fastest peer{rest}, times ours",
            f"{least} or more",
            _fastest(what, precision, process),
            _least(least),
        )
        for process, train, infer in (
            (AS_IT_COMES, (1.5, 1.5), (1.5, 1.25)),
            (TUNED, (1.0, 1.1), (1.0, 1.0)),
            (ONE_THREAD, (1.0, 1.1), (1.0, 1.0)),
        )
        for what, rest, precision, least in (
            ("training step", " with our loss", "fp32", train[0]),
            ("training step", " with our loss", "bf16", train[1]),
            ("inference", "", "fp32", infer[0]),
            ("inference", "", "bf16", infer[1]),
        )
    ),
    *(
        Goal(
            f"training step, {precision}: torchaudio's recipe, times ours",
            "2.5 or more",
            _times("training step", OWN_OBJECTIVE, precision=precision),
            _least(2.5),
        )
        for precision in ("fp32", "bf16")
    ),
    *(
        Goal(
            f"memory of a training step, {rows} x {seconds:.0f} s, {who}: "
            "share of the leaner peer's",
            f"{most} or less",
            _memory_share(seconds, who),
            _most(most),
        )
        for who in (OURS, RECOMPUTING)
        for rows, seconds, most in ((4, 10.0, 0.4), (2, 20.0, 0.35), (1, 40.0, 0.25))
    ),
    *(
        Goal(f"{what} memory of 80 s over 20 s", "4.5 or less", _growth(what), _most(4.5))
        for what in ("training", "inference")
    ),
    Goal(
        f"8 utterances of 1.4 to 12.2 s, bf16: {PADDED}, times ours",
        "1.5 or more",
        _times("uneven batch", PADDED),
        _least(1.5),
    ),
    Goal(
        f"step of SUPERB's recognition head, 16 x 5 s: {HEAD_FP32}, times {HEAD_BF16}",
        "1.8 or more",
        _times("published recognition head", HEAD_FP32),
        _least(1.8),
    ),
    *(
        Goal(
            f"epoch of {task}: features computed at each use, times kept",
            "10 or more",
            _times(f"epoch of {task}", COMPUTED),
            _least(10),
        )
        for task in ("er", "asr", "asr, published head")
    ),
    Goal(
        "er, eight learning rates side by side: times one",
        "1.3 or less",
        _times("er", EIGHT),
        _most(1.3),
    ),
    Goal(
        "asr, eight recomputing runs: times eight learning rates side by side",
        "5 or more",
        _times("asr", EIGHT_RUNS),
        _least(5),
    ),
]
COLUMNS = {
    "audio": "audio",
    "process": "process",
    "seconds": "seconds",
    "times_ours": "times ours",
    "cpu_seconds": "CPU seconds",
    "cpu_times_ours": "times ours",
    "mfu": "of the matrix rate",
    "page_faults": "page faults",
    "foreign": "others' load",
    "mib": "MiB",
    "hours_per_hour": "hours of audio an hour",
    "kernels": "kernels",
}


def table_of(lines: Sequence[Line]) -> str:
    """Markdown: the goals, then every figure of time and memory."""
    about = lines[0]
    versions = about["versions"]
    text = [
        f"{about['date']}, {about['device']}, {about['threads']} threads, {about['size']}, "
        f"torch {versions['torch']}",
        "",
        "| what | goal | reached | |",
        "|---|---|---|---|",
    ]
    for goal in GOALS:
        figure = goal.figure(lines)
        if figure is None:
            text.append(f"| {goal.what} | {goal.goal} | not measured | |")
        else:
            mark = "yes" if goal.reached(figure) else "no"
            text.append(f"| {goal.what} | {goal.goal} | {figure:.2f} | {mark} |")
    text += ["", f"| what | precision | who | {' | '.join(COLUMNS.values())} |"]
    text += ["|---" * (3 + len(COLUMNS)) + "|"]
    for x in lines[1:]:
        what = x["what"] + (f", {x['rows']} x {x['seconds_each']:.0f} s" if "mib" in x else "")
        cells = [what, x.get("precision", ""), x.get("contender", "")]
        cells += [str(x.get(key, "")) for key in COLUMNS]
        if "refused" in x:
            cells[5] = f"refused: {x['refused']}"
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text) + "\n"
