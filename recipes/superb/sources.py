# SPDX-License-Identifier: Apache-2.0
"""Where the recordings of a task lie; the mini corpora are made when they are first wanted."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, Protocol

from wavlm_lightning.downstream.corpora.layouts import load_layout
from wavlm_lightning.downstream.corpora.lengths import Reader
from wavlm_lightning.downstream.corpora.manifest import Manifest
from wavlm_lightning.downstream.task import Sources
from wavlm_lightning.recipes.mini import superb_corpus
from wavlm_lightning.recipes.run.counter import counter
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.superb.settings import PathsSection

MINI_CACHE = Path(".cache/mini")


class Reading(Protocol):
    """What a section `data` says of reading recordings."""

    @property
    def manifest(self) -> str | None: ...
    @property
    def layout(self) -> str | None: ...
    @property
    def check(self) -> Literal["auto", "full", "header", "none"]: ...
    @property
    def bad_files(self) -> Literal["error", "drop"]: ...


def sources_of(
    kind: str, section: PathsSection, data: Reading, *, corpus: str, processes: Processes
) -> Sources:
    """Folders of corpora; the first process makes the mini corpus if it is wanted.

    Args:
        kind: mini, official or manifest.
        section: folders that are named.
        data: a user's own folder, and how recordings are looked at.
        corpus: of the task.
        processes: all of them call this.
    """
    paths: dict[str, str | None] = asdict(section)
    if kind == "mini":
        if processes.first:
            show = counter(f"making the mini {corpus}")
            paths[corpus] = str(superb_corpus(corpus, MINI_CACHE, progress=show))
        paths = processes.from_first(paths)
    check = data.check
    if check == "auto":
        check = "full" if kind == "manifest" else "header"
    own = None
    if data.manifest is not None:
        layout = Manifest if data.layout is None else load_layout(data.layout)
        own = layout(Path(data.manifest))
    sources = Sources(kind, paths, own)
    told = counter("reading recordings") if processes.first else None
    reader = Reader(check=check, bad_files=data.bad_files, cache=sources.cache, progress=told)
    return replace(sources, lengths=reader)


def tell_unusable(sources: Sources) -> None:
    """Print what was left out."""
    if bad := sources.lengths.unusable:
        reasons = list(bad.values())
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        print(f"left out, unusable: {len(bad)} files ({'; '.join(reasons[:3])}{more})", flush=True)
