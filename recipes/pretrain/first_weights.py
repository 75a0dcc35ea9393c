# SPDX-License-Identifier: Apache-2.0
"""The weights that a pre-training begins with, if it does not begin from nothing."""

from pathlib import Path

from wavlm_lightning.checkpoint_file import read_checkpoint
from wavlm_lightning.model.checkpoint import load_wavlm
from wavlm_lightning.pretrain.pretrainer import Pretrainer

HEAD = "objective."


def start_from(module: Pretrainer, source: Path) -> str:
    """Give a module the encoder of `source`, and its head if it predicts the same codes.

    Returns:
        A line on what was taken.
    """
    module.model.load_state_dict(load_wavlm(source).state_dict())
    taken = f"starting from the encoder of {source}"
    content = read_checkpoint(source) if source.suffix == ".ckpt" else {}
    about = content.get("hyper_parameters", {})
    if "objective" not in about:
        return f"{taken}; it has no prediction head: a new one is drawn"
    for key in ("codebooks", "objective"):
        if about.get(key) != module.hparams[key]:
            return f"{taken}; {key} of its prediction head differ: a new head is drawn"
    state = content["state_dict"]
    head = {n.removeprefix(HEAD): t for n, t in state.items() if n.startswith(HEAD)}
    module.objective.load_state_dict(head)
    return f"{taken} and its prediction head"
