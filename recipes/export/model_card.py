# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported model: what its run and its results say, and nothing else."""

from pathlib import Path
from typing import Any

from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.downstream.results import ProbeResult, read_probe_results
from wavlm_lightning.files import read_json
from wavlm_lightning.hashing import file_sha256
from wavlm_lightning.model.wavlm import WavLM
from wavlm_lightning.recipes.report.scores import score_of
from wavlm_lightning.recipes.run.folder import RESULT

LIBRARIES = ("transformers", "torchaudio")  # layouts that a library of that name reads
UNKNOWN = "not known: no run lies beside the checkpoint"
RUN_ABOVE = 4  # folders, at most, from a checkpoint to its run: variant, head, checkpoints
SYNTHETIC = "synthetic, not comparable"
Rows = dict[str, str]


def model_card(source: Path, model: WavLM, *, layout: str, results: Path) -> str:
    """Markdown with the hub's header.

    Args:
        source: the checkpoint; the run that it belongs to lies above.
        model: the encoder that it holds, or that its head was trained on.
        layout: in which it is exported.
        results: folder of results; those with the checkpoint's hash are listed.
    """
    run = _run_of(source)
    trained, rows = _about(source, run)
    ours = run.get("stage") == "pretrain"
    licence = (
        "The licence above is that of the code; recordings may set terms of their own."
        if ours
        else "The licence of what it was trained from holds."
    )
    lines = [
        "---",
        *(["license: apache-2.0"] if ours else []),
        *([f"library_name: {layout}"] if layout in LIBRARIES else []),
        "tags: [wavlm, speech]",
        "---",
        "",
        f"# WavLM, {model.config.size}",
        "",
        f"A self-supervised model of speech (Chen et al. 2022). {trained} {licence}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in (_of_model(model) | rows).items()),
        "",
        *_scores(source, run, results),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _run_of(source: Path) -> dict[str, Any]:
    """The result of the run that wrote a checkpoint, {} for any other file."""
    if source.suffix != ".ckpt" or not source.is_file():
        return {}
    for folder in list(source.resolve().parents)[1 : RUN_ABOVE + 1]:
        if (folder / RESULT).is_file():
            content: dict[str, Any] = read_json(folder / RESULT)
            return content
    return {}


def _of_model(model: WavLM) -> Rows:
    own, parameters = model.config, sum(p.numel() for p in model.parameters()) / 1e6
    normalised = ", zero mean and unit variance" if own.normalize_waveform else ", as it is"
    return {
        "encoder": f"{parameters:.1f} million parameters, {own.num_layers} blocks of {own.dim}",
        "input": f"16 kHz, one channel{normalised}",
    }


def _about(source: Path, run: dict[str, Any]) -> tuple[str, Rows]:
    """A sentence on how it came about, and rows of the table."""
    config: dict[str, Any] = run.get("config", {})
    rows = {"checkpoint": f"sha256 {file_sha256(source)}" if source.is_file() else "a folder"}
    rows["code"] = run.get("commit", "unknown")
    if run.get("stage") == "pretrain":
        return "Trained with wavlm_lightning.", _pretrained(source, run) | rows
    if "task" in run:
        start = f"{config['upstream.name']}, sha256 {config['upstream.sha256']}"
        data = _corpus_of_run(run)
        if config.get("adaptation.encoder", "frozen") != "frozen":
            rows = {"started from": start, "data": data, "updates": _chosen(run)} | rows
            return f"Fine-tuned for {run['task']} with wavlm_lightning.", rows
        rows = {"encoder was frozen": start, "data": data} | rows
        return f"A head for {run['task']}, trained with wavlm_lightning.", rows
    unknown = {"data": UNKNOWN, "labels": UNKNOWN, "updates": UNKNOWN}
    return "Converted by wavlm_lightning from a checkpoint that it knows no run of.", unknown | rows


def _pretrained(source: Path, run: dict[str, Any]) -> Rows:
    config, done = run["config"], read_checkpoint(source)
    hours = done["audio_seconds"] / 3600
    rows = {
        "data": f"{Path(str(config['data.root'])).name}, {_hours(run)}",
        "audio trained on": f"{hours:.1f} h",
        "labels": _labels(config),
        **_updates(source, config),
    }
    if config.get("init"):
        rows["started from"] = f"{Path(config['init']).name}, sha256 {config['init.sha256']}"
    return rows


def _hours(run: dict[str, Any]) -> str:
    return f"{run['counts']['train_hours']} h"


def _corpus_of_run(run: dict[str, Any]) -> str:
    """Recordings that a task was trained on."""
    name = SYNTHETIC if run["kind"] == "mini" else run["corpus"]
    if run["kind"] == "official" and run["config"].get("task.train"):
        name = ", ".join(run["config"]["task.train"])
    return f"{name}, {_hours(run)}"


def _chosen(run: dict[str, Any]) -> str:
    """The update whose weights were taken; of variants, of each."""
    config = run["config"]
    total = config["optim.total_updates"]
    if config["adaptation.take"] == "last":
        return f"{total} of {total}"
    if config["adaptation.take"] == "average":
        return f"average of the last {config['adaptation.average']} validations of {total} updates"
    updates = ", ".join(f"{best['update']:.0f}" for best in run["best"].values())
    return f"{updates} of {total}"


def _updates(source: Path, config: dict[str, Any]) -> Rows:
    """How far training was when this very file was written."""
    done = read_checkpoint(source)["global_step"]
    return {"updates": f"{done} of {config['optim.total_updates']}"}


def _labels(config: dict[str, Any]) -> str:
    if config.get("labels.folders"):
        return f"{len(config['labels.folders'])} sets of the user's own"
    layer = f", layer {config['labels.layer']}" if config["labels.features"] == "hidden" else ""
    kind = f"{config['labels.features']}{layer}, {config['labels.num_clusters']} clusters"
    earlier = (
        0 if config.get("init") else len(config.get("iterations") or config.get("teachers") or [])
    )
    return f"{kind}, after {earlier} earlier iterations"


def _scores(source: Path, run: dict[str, Any], folder: Path) -> list[str]:
    """Scores of the run itself, and results of this very file."""
    own = run.get("metrics", {}) if run.get("stage") != "pretrain" else {}
    rows = [f"| {key} | {value:.2f} |" for key, value in own.items()]
    table = ["| figure of this run | |", "|---|--:|", *rows, ""] if rows else []
    found = []
    if source.is_file() and folder.is_dir():
        digest = file_sha256(source)
        found = [r for r in read_probe_results(folder) if r.config.get("upstream.sha256") == digest]
    if not found:
        return table or ["No scores were found."]
    of_seeds: dict[tuple[str, str, str], list[float]] = {}
    for r in found:
        of_seeds.setdefault((r.task, _corpus(r), r.headline), []).append(r.metrics[r.headline])
    lines = []
    for about, values in of_seeds.items():
        score = score_of(values).text(2, count=len(values) > 1)
        lines.append(f"| {' | '.join(about)} | {score} |")
    return [*table, "| task | corpus | figure | score |", "|---|---|---|--:|", *lines]


def _corpus(result: ProbeResult) -> str:
    return SYNTHETIC if result.kind == "mini" else result.corpus
