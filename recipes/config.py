# SPDX-License-Identifier: Apache-2.0
"""Show the configuration that a program would run with, and what set each key.

wavlm config --config=configs/pretrain/mini.yaml [--key=value ...]
wavlm config [finetune] TASK UPSTREAM [--key=value ...]
"""

import sys

from wavlm_lightning.recipes.run.explain import PRINT


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains."""
    if argv[:1] == ["finetune"]:
        from wavlm_lightning.recipes.finetune.__main__ import main as program

        argv = argv[1:]
    elif argv and not argv[0].startswith("--"):
        from wavlm_lightning.recipes.superb.__main__ import main as program
    else:
        from wavlm_lightning.recipes.pretrain.__main__ import main as program
    return program([*argv, PRINT])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
