# SPDX-License-Identifier: Apache-2.0
"""What loggers lack, found before anything is trained."""

import importlib.util
import os
import warnings

from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.run.sections import WandbSection
from wavlm_lightning.shipped import extras


def check_loggers(wandb: WandbSection, *, tensorboard: bool) -> None:
    """Find what they lack before anything is trained.

    Raises:
        ConfigError: without an account that `wandb.mode=online` needs, or without TensorBoard.
    """
    if wandb.mode == "online" and not has_wandb_account():
        raise ConfigError(
            "wandb.mode=online needs an account and there is none on this machine: wandb login, "
            "or say wandb.mode=offline"
        )
    if tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ConfigError(f"tensorboard=true needs TensorBoard: {extras('tensorboard')}")


def has_wandb_account() -> bool:
    """True if W&B's library finds a key in the environment, its settings or the netrc file."""
    import wandb

    os.environ.setdefault("WANDB_SILENT", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wandb.login(prompt=False)
