# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported model: what its run and its results say, and nothing else."""

import json
from pathlib import Path
from typing import Any

from downstream.results import ProbeResult, read_probe_results
from recipes.runs import RESULT
from wavlm_lightning.model.checkpoint import read_checkpoint
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.result import file_sha256

LIBRARIES = ("transformers", "torchaudio")  # layouts that a library of that name reads
UNKNOWN = "not known: no run lies beside the checkpoint"


def model_card(source: Path, model: WavLM, *, layout: str, results: Path) -> str:
    """Markdown with the hub's header.

    Args:
        source: the checkpoint; the run that it belongs to lies two folders above.
        model: what it holds.
        layout: in which it is exported.
        results: folder of results; those with the checkpoint's hash are listed.
    """
    run = _run_of(source)
    done = _progress(source) if run else {}
    config: dict[str, Any] = run.get("config", {})
    counts: dict[str, Any] = run.get("counts", {})
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    own = model.config
    rows = {
        "size": f"{parameters:.1f} million parameters, {own.num_layers} blocks of {own.dim}",
        "input": "16 kHz, one channel"
        + (", zero mean and unit variance" if own.normalize_waveform else ", as it is"),
        "data": _of(counts, "train_hours", f"{Path(str(config.get('data.root'))).name}, {{}} h"),
        "audio trained on": _of(done, "audio_hours", "{:.1f} h"),
        "labels": _labels(config) or UNKNOWN,
        "updates": _of(done, "updates", f"{{}} of {config.get('optim.total_updates')}"),
        "checkpoint": f"sha256 {file_sha256(source)}" if source.is_file() else "a folder",
        "code": run.get("commit", "unknown"),
    }
    lines = [
        "---",
        *(["license: apache-2.0"] if run else []),
        *([f"library_name: {layout}"] if layout in LIBRARIES else []),
        "tags: [wavlm, speech]",
        "---",
        "",
        f"# WavLM, {own.size}",
        "",
        "A self-supervised model of speech (Chen et al. 2022).",
        "Trained with wavlm_lightning. The licence above is that of the code; recordings may set "
        "terms of their own."
        if run
        else "Converted by wavlm_lightning from a checkpoint that was trained elsewhere, whose "
        "licence holds.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "",
        *_scores(source, results),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _run_of(source: Path) -> dict[str, Any]:
    path = source.resolve().parent.parent / RESULT
    if not source.is_file() or not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content if content.get("stage") == "pretrain" else {}


def _progress(source: Path) -> dict[str, float]:
    """How far training was when this very file was written."""
    content = read_checkpoint(source)
    done = {"updates": content["global_step"]}
    if "audio_seconds" in content:
        done["audio_hours"] = content["audio_seconds"] / 3600
    return done


def _of(values: dict[str, Any], key: str, form: str) -> str:
    return form.format(values[key]) if key in values else UNKNOWN


def _labels(config: dict[str, Any]) -> str:
    if config.get("labels.folders"):
        return f"{len(config['labels.folders'])} sets of the person's own"
    if "labels.features" not in config:
        return ""
    layer = f", layer {config['labels.layer']}" if config["labels.features"] == "hidden" else ""
    kind = f"{config['labels.features']}{layer}, {config['labels.num_clusters']} clusters"
    return f"{kind}, after {len(config.get('teachers') or [])} earlier iterations"


def _scores(source: Path, folder: Path) -> list[str]:
    """Those of this very file."""
    if not source.is_file() or not folder.is_dir():
        return ["No scores were found."]
    digest = file_sha256(source)
    found = [r for r in read_probe_results(folder) if r.config.get("upstream.sha256") == digest]
    if not found:
        return ["No scores were found."]
    rows = [
        f"| {r.task} | {_corpus(r)} | {r.headline} | {r.metrics[r.headline]:.2f} |" for r in found
    ]
    return ["| task | corpus | figure | score |", "|---|---|---|--:|", *rows]


def _corpus(result: ProbeResult) -> str:
    return "synthetic, not comparable" if result.kind == "mini" else result.corpus
