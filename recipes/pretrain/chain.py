# SPDX-License-Identifier: Apache-2.0
"""All iterations of a pre-training, one after the other, then its result and its table."""

import time
from pathlib import Path

from wavlm_lightning.config import flat
from wavlm_lightning.model.weights import source_sha256
from wavlm_lightning.recipes.pretrain.iteration import Iteration, train_iteration
from wavlm_lightning.recipes.pretrain.label_making import make_labels
from wavlm_lightning.recipes.pretrain.recordings import (
    Recordings,
    prepare_recordings,
    same_recordings,
)
from wavlm_lightning.recipes.pretrain.settings import MINI, Settings
from wavlm_lightning.recipes.run.folder import RESULT, point_to
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.result import write_result
from wavlm_lightning.shipped import command


def run(chain: list[Settings], folder: Path, *, processes: Processes, started: float) -> None:
    """All iterations, the last one in `folder` itself, then the result and the table."""
    settings = chain[-1]
    places = [folder / f"iteration{number}" for number in range(1, len(chain))] + [folder]
    recordings = _recordings(chain, places, processes)
    done: list[Iteration] = []
    for number, (stage, place) in enumerate(zip(chain, places, strict=True), start=1):
        if processes.first:
            about = "" if stage is settings else f" with {settings.iterations[number - 1]}"
            print(f"--- iteration {number} of {len(chain)}, in {place}{about}", flush=True)
        teacher = done[-1].checkpoint if done else None
        own = recordings[number - 1]
        done.append(_iteration(stage, own, place, teacher=teacher, processes=processes))
    if processes.first:
        _finish(settings, recordings, folder, done=done, started=started)


def _recordings(
    chain: list[Settings], places: list[Path], processes: Processes
) -> list[Recordings]:
    """Recordings of each iteration, checked before the first one trains, equal ones once."""
    found: dict[int, Recordings] = {}  # by the place in the chain, the last first
    # The last iteration first: it is the one that mixes noise, so that its recordings serve others.
    for i in reversed(range(len(chain))):
        same = next((j for j in found if same_recordings(chain[i], chain[j])), None)
        if same is None:
            found[i] = prepare_recordings(chain[i], places[i] / "manifests", processes)
        else:
            found[i] = found[same]
    return [found[i] for i in range(len(chain))]


def _iteration(
    settings: Settings,
    recordings: Recordings,
    folder: Path,
    *,
    teacher: Path | None,
    processes: Processes,
) -> Iteration:
    # A finished model that is named wins over the model that training starts from, and that over
    # the iteration before.
    if settings.labels.teacher:
        teacher = Path(settings.labels.teacher)
    elif settings.source is not None:
        teacher = settings.source
    folders = [Path(f) for f in settings.labels.folders]
    if not folders:
        folders = [
            make_labels(
                settings.labels,
                recordings.manifests,
                folder / "labels",
                teacher=teacher,
                seed=settings.seed,
                processes=processes,
            )
        ]
    sources = [path for path in (teacher, settings.source) if path is not None and path.is_file()]
    return train_iteration(
        settings,
        recordings,
        folder,
        label_folders=folders,
        processes=processes,
        sources=list(dict.fromkeys(sources)),
    )


def _finish(
    settings: Settings,
    recordings: list[Recordings],
    folder: Path,
    *,
    done: list[Iteration],
    started: float,
) -> None:
    last = done[-1]
    metrics = dict(last.metrics)
    for number, iteration in enumerate(done, start=1):
        kind = iteration.label_kind
        # Two iterations may cluster the same kind of features: the earlier one says its number.
        if kind in [later.label_kind for later in done[number:]]:
            kind = f"{kind}.iteration{number}"
        for key, value in iteration.label_report.to_dict().items():
            metrics[f"labels.{kind}/{key}"] = value
    seconds = time.perf_counter() - started
    write_result(
        folder / RESULT,
        "pretrain",
        upstream=f"wavlm_{settings.run.name}",
        metrics=metrics,
        selected_on="last",
        config=flat(settings.values) | _hash_of_init(settings),
        checkpoint=last.checkpoint,
        counts=_counts(recordings),
        seconds=seconds,
    )
    point_to(folder)
    print(_table(settings, folder, done, seconds), flush=True)


def _counts(recordings: list[Recordings]) -> dict[str, float]:
    """Counts of the last iteration, and of any other with recordings of its own by its number."""
    counts = dict(recordings[-1].counts)
    for number, own in enumerate(recordings[:-1], start=1):
        if own is not recordings[-1]:
            counts |= {f"iteration{number}: {name}": value for name, value in own.counts.items()}
    return counts


def _hash_of_init(settings: Settings) -> dict[str, str]:
    return {"init.sha256": source_sha256(settings.source)} if settings.source else {}


def _table(settings: Settings, folder: Path, done: list[Iteration], seconds: float) -> str:
    """The summary that a run ends with."""
    last = done[-1].metrics
    majority = last["dev/majority"]
    rows = []
    for split, name in (("dev", "clean"), ("dev_mixed", "mixed")):
        accuracy = last[f"{split}/accuracy_masked"]
        rows.append(
            f"masked accuracy, {name} dev speech   {accuracy:.3f}   "
            f"{accuracy / majority:.1f} times the majority label's {majority:.3f}"
        )
    for number, iteration in enumerate(done, start=1):
        pnmi = iteration.label_report.pnmi
        known = "no alignments" if pnmi is None else f"{pnmi:.3f}"
        rows.append(f"PNMI of labels, iteration {number} ({iteration.label_kind})   {known}")
    hours = sum(iteration.metrics["audio_hours"] for iteration in done)
    return "\n".join(
        [
            "",
            *rows,
            f"audio trained on   {hours:.2f} h, all iterations",
            f"seconds   {seconds:.0f}, this start",
            f"checkpoint   {done[-1].checkpoint}",
            f"curves       {folder / 'curves.png'}",
            _next(settings, done[-1].checkpoint),
        ]
    )


def _next(settings: Settings, checkpoint: Path) -> str:
    """What to do with the model."""
    if settings.data.root == MINI:
        return f"next: your own recordings:  {command()} pretrain data.root=DIR data.noise=DIR"
    return f"next: evaluate it:  {command()} superb TASK=asv UPSTREAM={checkpoint}"
