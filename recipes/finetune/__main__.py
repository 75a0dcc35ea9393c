# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a WavLM for a task: encoder and head together, in one stage or several.

wavlm finetune TASK UPSTREAM [--config=FILE] [--key=value ...]
"""

import sys

from wavlm_lightning.recipes.finetune.settings import keys_of, read_stages
from wavlm_lightning.recipes.run.program import run_program
from wavlm_lightning.recipes.superb.job import TaskJob
from wavlm_lightning.recipes.superb.settings import task_and_upstream

PROGRAM = "wavlm_lightning.recipes.finetune"


def finetune_job(argv: list[str]) -> TaskJob:
    """The job that the command line asks for."""
    task, upstream, overrides = task_and_upstream(argv)
    return TaskJob(PROGRAM, task, read_stages(task, upstream, overrides))


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    return run_program(finetune_job, argv, about=__doc__ or "", keys=keys_of)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
