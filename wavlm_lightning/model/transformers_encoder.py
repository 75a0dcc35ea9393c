# SPDX-License-Identifier: Apache-2.0
"""HuBERT and wav2vec 2.0 as transformers has them: teachers of labels, and upstreams."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from wavlm_lightning.files import read_json
from wavlm_lightning.lengths import padding_mask
from wavlm_lightning.model.checkpoint import CONFIG
from wavlm_lightning.model.layouts import some
from wavlm_lightning.model.wavlm import normalize_waveforms
from wavlm_lightning.model.weights import check_finite_weights, mapping, source_sha256

NEVER_READ = {"masked_spec_embed"}  # weights of transformers that evaluation does without
TYPES = ("hubert", "wav2vec2")


class TransformersEncoder(nn.Module):
    """All layers of a HuBERT or wav2vec 2.0 of transformers.

    Their base models normalise the first convolution over time, padding included: rows of such a
    model are run one by one unless they are equally long, so that none depends on another.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        config: Any = model.config
        self.dim, self.num_layers = config.hidden_size, config.num_hidden_layers + 1
        self.over_time = config.feat_extract_norm == "group"
        self.pre_norm = bool(getattr(config, "do_stable_layer_norm", False))

    def normalized(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) -> (B, T): the models with layer norm were trained on normalised waveforms."""
        return waveforms if self.over_time else normalize_waveforms(waveforms, lengths)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Normalized waveforms (B, T) with lengths (B,) -> num_layers + 1 of (B, F, D)."""
        if bool((lengths == waveforms.shape[1]).all()):
            return self.layers(waveforms, None)
        if self.over_time:
            rows = [
                self.layers(row[None, : int(n)], None)
                for row, n in zip(waveforms, lengths, strict=True)
            ]
            padded = (
                nn.utils.rnn.pad_sequence([x[0] for x in layer], batch_first=True)
                for layer in zip(*rows, strict=True)
            )
            return tuple(padded)
        padding = padding_mask(lengths, waveforms.shape[1], waveforms.device)
        return self.layers(waveforms, (~padding).long())

    def layers(self, waveforms: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """All layers (B, F, D) of waveforms (B, T) that are normalised where the model needs it."""
        out = self.model(waveforms, attention_mask=mask, output_hidden_states=True)
        layers: tuple[Tensor, ...] = out.hidden_states
        if self.pre_norm:  # the last state after the final norm, as SUPERB has it
            layers = (*layers[:-1], out.last_hidden_state)
        return layers


def is_transformers(path: Path) -> bool:
    """Whether a folder's config.json is of a HuBERT or wav2vec 2.0."""
    if not (path.is_dir() and (path / CONFIG).is_file()):
        return False
    about = mapping(read_json(path / CONFIG), str(path / CONFIG))
    return about.get("model_type") in TYPES


def load_transformers(source: str, *, download: bool) -> tuple[nn.Module, str]:
    """A HuBERT or wav2vec 2.0 of transformers, and the SHA-256 of its weights.

    Raises:
        FileNotFoundError: if there is nothing at the source.
        ModuleNotFoundError: without transformers.
        ValueError: naming the source, if it is another model or does not fit.
    """
    try:
        from transformers import HubertModel, PretrainedConfig, Wav2Vec2Model
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "upstream.kind=transformers needs transformers: make setup EXTRAS=hf"
        ) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # its report of weights that do not fit is our error below
    here = not download
    try:
        # The file alone, before anything else: what it says of code to run is not looked at.
        about, _ = PretrainedConfig.get_config_dict(source, local_files_only=here)
        kind = about.get("model_type")
        if kind not in TYPES:
            raise ValueError(
                f"{source} is a {kind}: HuBERT and wav2vec 2.0 are read this way, a WavLM with "
                "upstream.kind=wavlm"
            )
    except OSError as error:
        hint = "" if download else "; upstream.download=true fetches a hub id"
        raise FileNotFoundError(f"no transformers model at {source}{hint}") from error
    cls = HubertModel if kind == "hubert" else Wav2Vec2Model
    try:
        model, loaded = cast(Any, cls).from_pretrained(
            source,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=here,
            output_loading_info=True,
        )
    except Exception as error:  # on rubbish, transformers fails in any way
        raise ValueError(f"{source} does not load as a {kind}: {error}") from error
    _check_loaded(model, loaded, kind, source)
    check_finite_weights(model.state_dict(), source)
    path = Path(source)
    return model, source_sha256(path) if path.exists() else _digest_of_tensors(model)


def _check_loaded(model: nn.Module, loaded: Mapping[str, Any], kind: str, source: str) -> None:
    """Refuse weights of another encoder, which transformers would pass over with a warning.

    A head is left over as it should be.
    """
    own = {name.partition(".")[0] for name in model.state_dict()}
    lacking = sorted(set(loaded["missing_keys"]) - NEVER_READ)
    names = (name.removeprefix(f"{kind}.") for name in loaded["unexpected_keys"])
    over = sorted(name for name in names if name.partition(".")[0] in own)
    if lacking or over:
        raise ValueError(
            f"{source} does not fit its configuration: missing {some(lacking) or 'nothing'}; left "
            f"over {some(over) or 'nothing'}"
        )


def _digest_of_tensors(model: nn.Module) -> str:
    """Hash of weights that lie in a hub's cache: their names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
