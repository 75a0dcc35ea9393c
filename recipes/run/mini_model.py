# SPDX-License-Identifier: Apache-2.0
"""The mini WavLM: trained when something that starts from it is asked for and it is not there.

Programs call this after they have checked all else, so that a mistyped word costs no training.
"""

import sys
from pathlib import Path

from recipes.run.exit_status import run_child
from recipes.run.folder import RESULT
from recipes.run.signals import STOPPED, StopSignal
from wavlm_lightning.config import ConfigError

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
    print("the mini model is not trained yet: training it first, as make pretrain does", flush=True)
    command = [sys.executable, "-m", "recipes.pretrain", f"--config={MINI_CONFIG}"]
    status = run_child(command)
    if status == STOPPED:
        raise StopSignal("stopped while training the mini model")
    if status:
        raise ConfigError(f"the mini model could not be trained (status {status}), see above")
