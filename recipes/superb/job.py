# SPDX-License-Identifier: Apache-2.0
"""A task on an upstream, as programs run it: frozen or tuned, in one stage or several."""

from pathlib import Path

from wavlm_lightning.downstream import load_task
from wavlm_lightning.downstream.features.frames import ConvolutionFraming
from wavlm_lightning.downstream.features.upstream import load_upstream
from wavlm_lightning.downstream.task import Sources
from wavlm_lightning.recipes.run.explain import config_text
from wavlm_lightning.recipes.run.processes import Processes
from wavlm_lightning.recipes.superb.settings import (
    TaskSettings,
    read_probe_settings,
    stem,
    task_and_upstream,
)
from wavlm_lightning.recipes.superb.sources import sources_of

PROGRAM = "wavlm_lightning.recipes.superb"  # what probes a frozen upstream


class TaskJob:
    """One task on one upstream, all its variants and stages, and its result.

    Args:
        program: Module that further processes run.
        task: Name of the task.
        stages: Settings of its trainings, in their order.
    """

    def __init__(self, program: str, task: str, stages: list[TaskSettings]):
        self.program, self.task, self.stages = program, load_task(task), stages

    @property
    def settings(self) -> TaskSettings:
        """Those of the last stage."""
        return self.stages[-1]

    @property
    def name(self) -> str:
        """Upstream and task."""
        task = stem(self.task.name, self.settings, self.settings.seed)
        return f"{self.settings.upstream.name}/{task}"

    @property
    def starts_from(self) -> str | None:
        """The upstream."""
        return self.settings.upstream.source

    def config(self) -> str:
        """Configuration of each stage."""
        texts = [config_text(stage.values, stage.sources) for stage in self.stages]
        if len(texts) == 1:
            return texts[0]
        return "\n\n".join(f"stage {n}\n{text}" for n, text in enumerate(texts, start=1))

    def check(self) -> None:
        """Nothing more: reading the configuration has looked at it all."""

    def check_recordings(self) -> None:
        """Build the task in all its variants."""
        where = self._sources(Processes(0, 1, 1))
        for variant in self.task.variants(where) or [""]:
            self.task(
                self.settings.task,
                where,
                framing=ConvolutionFraming(),  # no matter which: nothing is trained
                seed=self.settings.seed,
                variant=variant or None,
            )

    def _sources(self, processes: Processes) -> Sources:
        settings, corpus = self.settings, self.task.corpus
        return sources_of(
            settings.kind, settings.paths, settings.data, corpus=corpus, processes=processes
        )

    def prepare(self, processes: Processes) -> None:
        """Load the upstream and find the recordings."""
        self.upstream, digest = load_upstream(self.settings.upstream)
        self.where = self._sources(processes)
        self.stages = [stage.with_hash(digest) for stage in self.stages]

    def run(self, folder: Path, processes: Processes, *, started: float) -> None:
        """Train all heads and write the results."""
        if processes.first:
            print(self._corpus(), flush=True)
        # Lightning takes longer to import than all before: what is wrong is said by now.
        from wavlm_lightning.recipes.superb.variants import train_heads

        train_heads(
            self.stages, self.upstream, self.task, self.where, folder, processes, started=started
        )

    def _corpus(self) -> str:
        settings, corpus = self.settings, self.task.corpus
        if settings.kind == "mini":
            return (
                f"corpus: the mini {corpus}, synthetic, not comparable with published scores; for "
                f"the real one say paths.{corpus}=DIR"
            )
        known = settings.published_lr.get(settings.upstream.name, settings.optim.lr)
        hint = ""
        if settings.heads.lr is None and known != settings.optim.lr:
            hint = f"; published scores of this upstream are known to need LR={known:g}"
        folder = settings.data.manifest or self.where.folder(corpus)
        return f"corpus: {folder}; {settings.protocol} protocol{hint}"


def task_job(argv: list[str]) -> TaskJob:
    """The job that a command line asks for: task, upstream, overrides."""
    task, upstream, overrides = task_and_upstream(argv)
    return TaskJob(PROGRAM, task, [read_probe_settings(task, upstream, overrides)])
