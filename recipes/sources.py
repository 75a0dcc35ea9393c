# SPDX-License-Identifier: Apache-2.0
"""Where the recordings of a task lie; the mini corpora are made when they are first wanted."""

from dataclasses import asdict
from pathlib import Path

from downstream.task import Sources
from recipes.callbacks import counter
from recipes.mini import superb_corpus
from recipes.probe_settings import PathsSection
from recipes.processes import Processes

MINI_CACHE = Path(".cache/mini")


def sources_of(
    kind: str, section: PathsSection, manifest: str | None, *, corpus: str, processes: Processes
) -> Sources:
    """Folders of corpora; the first process makes the mini corpus if it is wanted.

    Args:
        kind: mini, official or manifest.
        section: folders that a person named.
        manifest: a person's own.
        corpus: of the task.
        processes: all of them call this.
    """
    paths: dict[str, str | None] = asdict(section)
    if kind == "mini":
        if processes.first:
            show = counter(f"making the mini {corpus}")
            paths[corpus] = str(superb_corpus(corpus, MINI_CACHE, progress=show))
        paths = processes.from_first(paths)
    return Sources(kind, paths, Path(manifest) if manifest else None)
