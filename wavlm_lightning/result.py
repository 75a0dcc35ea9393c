# SPDX-License-Identifier: Apache-2.0
"""One JSON file a run: its figures, and what is needed to doubt them."""

import importlib.metadata
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from wavlm_lightning.files import write_text
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.shipped import version

PACKAGES = (
    "torch",
    "torchaudio",
    "lightning",
    "torchmetrics",
    "jiwer",
    "pyannote.metrics",
    "numpy",
    "scikit-learn",
    "soundfile",
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run leaves for tables and for other programs.

    Args:
        stage: "pretrain", or the name of a task.
        upstream: name of the model that was trained or evaluated.
        metrics: flat, keys such as "dev/accuracy_masked".
        selected_on: the figure that chose the checkpoint, or "last".
        config: flat, as the run used it.
        checkpoint: path of the checkpoint.
        checkpoint_sha256: hash of that file.
        counts: utterances, hours, dropped ones.
        seconds: wall time of the start that finished the run.
        commit: of the code; the version where it was installed without a tree; or "unknown".
        versions: of Python and packages.
    """

    stage: str
    upstream: str
    metrics: dict[str, float]
    selected_on: str
    config: dict[str, Any]
    checkpoint: str
    checkpoint_sha256: str
    counts: dict[str, float]
    seconds: float
    commit: str
    versions: dict[str, str]


def write_result(
    path: Path,
    stage: str,
    *,
    upstream: str,
    metrics: Mapping[str, float],
    selected_on: str,
    config: Mapping[str, Any],
    checkpoint: Path,
    counts: Mapping[str, float],
    seconds: float,
) -> Result:
    """Fill in what can be looked up and write the file.

    Raises:
        ValueError: naming a metric that is not finite.
    """
    check_finite(path, metrics)
    result = Result(
        stage=stage,
        upstream=upstream,
        metrics=dict(metrics),
        selected_on=selected_on,
        config=dict(config),
        checkpoint=str(checkpoint),
        checkpoint_sha256=file_sha256(checkpoint),
        counts=dict(counts),
        seconds=round(seconds, 1),
        commit=commit(),
        versions=versions(),
    )
    write_text(path, json.dumps(asdict(result), indent=2) + "\n")
    return result


def check_finite(path: Path, metrics: Mapping[str, float]) -> None:
    """Refuse figures that are NaN or infinite.

    Raises:
        ValueError: naming them and the file they were meant for.
    """
    if wrong := [k for k, v in metrics.items() if not math.isfinite(v)]:
        raise ValueError(f"{path}: not finite: {', '.join(wrong)}")


def commit() -> str:
    """The commit of the source tree, with "+changes" if files differ from it.

    Without a tree, the version that is installed, such as "version 0.1.0".
    """
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():  # a repository further up is somebody else's
        return f"version {version()}"
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        state = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    except OSError:
        return "unknown"
    if head.returncode:
        return "unknown"
    return head.stdout.strip() + ("+changes" if state.stdout.strip() else "")


def versions() -> dict[str, str]:
    """Python and the packages that numbers depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    found["torch"] = torch.__version__  # with its build: +cpu, +cu130
    return {"python": platform.python_version(), **found}
