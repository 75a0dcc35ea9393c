# SPDX-License-Identifier: Apache-2.0
"""The mini WavLM: trained when something that starts from it is asked for and it is not there.

Programs call this after they have checked all else, so that a mistyped word costs no training.
"""

import sys
from pathlib import Path

from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.run.exit_status import run_child
from wavlm_lightning.recipes.run.folder import RESULT
from wavlm_lightning.recipes.run.signals import STOPPED, StopSignal
from wavlm_lightning.shipped import command

MINI_NAME = "wavlm_mini"  # as configs/upstream calls it
MINI_CONFIG = "configs/pretrain/mini.yaml"
MINI_RUN = Path("runs/pretrain/mini/latest")
MINI_CHECKPOINT = MINI_RUN / "checkpoints" / "last.ckpt"


def is_missing(source: str | None) -> bool:
    """Whether a source is the mini model, and that is not trained to its end."""
    return (
        source is not None and Path(source) == MINI_CHECKPOINT and not (MINI_RUN / RESULT).is_file()
    )


def train_mini() -> None:
    """Train it, as `make pretrain` does.

    Raises:
        StopSignal: if that was stopped; it goes on from there.
        ConfigError: if it failed; the reason is printed above.
    """
    print(
        f"the mini model is not trained yet: training it first, as {command()} pretrain does",
        flush=True,
    )
    words = [sys.executable, "-m", "wavlm_lightning.recipes.pretrain", f"--config={MINI_CONFIG}"]
    status = run_child(words)
    if status == STOPPED:
        raise StopSignal("stopped while training the mini model")
    if status:
        raise ConfigError(f"the mini model could not be trained (status {status}), see above")
