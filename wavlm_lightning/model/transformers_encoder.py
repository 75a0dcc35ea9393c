# SPDX-License-Identifier: Apache-2.0
"""Speech encoders as transformers has them: teachers of labels, and upstreams."""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from wavlm_lightning.files import read_json
from wavlm_lightning.lengths import conv_lengths, padding_mask
from wavlm_lightning.model.checkpoint import CONFIG, EXTRACTOR
from wavlm_lightning.model.layouts import some
from wavlm_lightning.model.wavlm import normalize_waveforms
from wavlm_lightning.model.weights import check_finite_weights, mapping, source_sha256
from wavlm_lightning.shipped import extras

NEVER_READ = {"masked_spec_embed"}  # weights of transformers that evaluation does without
# Model types of config.json, and their classes: those that read waveforms, and spectrograms.
WAVEFORM_TYPES = {
    "hubert": "HubertModel",  # mHuBERT too
    "wav2vec2": "Wav2Vec2Model",  # XLS-R and MMS too
    "wav2vec2-conformer": "Wav2Vec2ConformerModel",
    "data2vec-audio": "Data2VecAudioModel",
    "unispeech": "UniSpeechModel",
    "unispeech-sat": "UniSpeechSatModel",
}
SPECTROGRAM_TYPES = {"wav2vec2-bert": "Wav2Vec2BertModel", "whisper": "WhisperModel"}
TYPES = WAVEFORM_TYPES | SPECTROGRAM_TYPES
# In these a padded row gives what it gives alone: padding is masked wherever frames meet.
MASKED_THROUGHOUT = ("hubert", "wav2vec2")


class Loaded(NamedTuple):
    """A model of transformers, and what goes with it."""

    model: nn.Module
    type: str  # of config.json
    sha256: str  # of its weights
    normalize: bool | None  # waveforms, as its feature extractor's file says; None if it is silent


class TransformersEncoder(nn.Module):
    """All layers of an encoder that reads waveforms.

    Models that normalise the first convolution over time, padding included, and those that let
    padding into the convolution between frames, run rows one by one unless they are equally long,
    so that none depends on another.

    Args:
        model: Of one of `WAVEFORM_TYPES`.
        normalize: Whether it was trained on waveforms of zero mean and unit variance; None: those
            with layer norm in their convolutions were.
    """

    def __init__(self, model: nn.Module, *, normalize: bool | None = None):
        super().__init__()
        self.model = model
        config: Any = model.config
        self.dim, self.num_layers = config.hidden_size, config.num_hidden_layers + 1
        self.kernels, self.strides = tuple(config.conv_kernel), tuple(config.conv_stride)
        self.stride = math.prod(self.strides)
        over_time = getattr(config, "feat_extract_norm", "layer") == "group"
        kind = config.model_type
        # The files of HuBERT and wav2vec 2.0 say it of Base's too, which were trained without.
        by_norm = normalize is None or kind in MASKED_THROUGHOUT
        self.normalize = not over_time if by_norm else bool(normalize)
        self.alone = over_time or kind not in MASKED_THROUGHOUT
        stable = bool(getattr(config, "do_stable_layer_norm", False))
        self.pre_norm = stable or kind == "wav2vec2-conformer"

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance, as the convolutions count them."""
        return conv_lengths(num_samples, self.kernels, self.strides)

    def normalized(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) -> (B, T), of zero mean and unit variance where the model was trained so."""
        return normalize_waveforms(waveforms, lengths) if self.normalize else waveforms

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Normalized waveforms (B, T) with lengths (B,) -> num_layers + 1 of (B, F, D)."""
        if bool((lengths == waveforms.shape[1]).all()):
            return self.layers(waveforms, None)
        if self.alone:
            rows = [
                self.layers(row[None, : int(n)], None)
                for row, n in zip(waveforms, lengths, strict=True)
            ]
            return padded_layers(rows)
        padding = padding_mask(lengths, waveforms.shape[1], waveforms.device)
        return self.layers(waveforms, (~padding).long())

    def layers(self, waveforms: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """All layers (B, F, D) of waveforms (B, T) that are normalised where the model needs it."""
        out = self.model(waveforms, attention_mask=mask, output_hidden_states=True)
        layers: tuple[Tensor, ...] = out.hidden_states
        if self.pre_norm:  # the last state after the final norm, as SUPERB has it
            layers = (*layers[:-1], out.last_hidden_state)
        return layers


def padded_layers(rows: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Layers (1, F_i, D) of each row -> layers (B, F, D) of all, zero on padding."""
    return tuple(
        nn.utils.rnn.pad_sequence([x[0] for x in layer], batch_first=True)
        for layer in zip(*rows, strict=True)
    )


def is_transformers(path: Path) -> bool:
    """Whether a folder's config.json is of one of these models."""
    if not (path.is_dir() and (path / CONFIG).is_file()):
        return False
    about = mapping(read_json(path / CONFIG), str(path / CONFIG))
    return about.get("model_type") in TYPES


def load_transformers(source: str, *, download: bool) -> Loaded:
    """A model of transformers; of an encoder with a decoder, the encoder.

    Raises:
        FileNotFoundError: if there is nothing at the source.
        ModuleNotFoundError: without transformers.
        ValueError: naming the source, if it is another model or does not fit.
    """
    try:
        import transformers
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"upstream.kind=transformers needs transformers: {extras('hf')}"
        ) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # its report of weights that do not fit is our error below
    here = not download
    try:
        # The file alone, before anything else: what it says of code to run is not looked at.
        about, _ = transformers.PretrainedConfig.get_config_dict(source, local_files_only=here)
    except OSError as error:
        hint = "" if download else ": the same command with upstream.download=true fetches a hub id"
        raise FileNotFoundError(f"no transformers model at {source}{hint}") from error
    kind = str(about.get("model_type"))
    if kind not in TYPES:
        raise ValueError(
            f"{source} is a {kind}: {', '.join(TYPES)} are read this way, a WavLM with "
            "upstream.kind=wavlm"
        )
    cls: Any = getattr(transformers, TYPES[kind])
    try:
        model, loaded = cls.from_pretrained(
            source,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=here,
            output_loading_info=True,
        )
    except Exception as error:  # on rubbish, transformers fails in any way
        raise ValueError(f"{source} does not load as a {kind}: {error}") from error
    _check_loaded(model, loaded, cls.base_model_prefix, source)
    check_finite_weights(model.state_dict(), source)
    path = Path(source)
    digest = source_sha256(path) if path.exists() else digest_of_tensors(model)
    encoder = model.encoder if kind == "whisper" else model
    return Loaded(encoder, kind, digest, _normalizes(path / EXTRACTOR))


def _normalizes(extractor: Path) -> bool | None:
    """What a folder's file of the feature extractor says of waveforms."""
    if not extractor.is_file():
        return None
    said = mapping(read_json(extractor), str(extractor)).get("do_normalize")
    return None if said is None else bool(said)


def _check_loaded(model: nn.Module, loaded: Mapping[str, Any], prefix: str, source: str) -> None:
    """Refuse weights of another encoder, which transformers would pass over with a warning.

    A head is left over as it should be.
    """
    own = {name.partition(".")[0] for name in model.state_dict()}
    lacking = sorted(set(loaded["missing_keys"]) - NEVER_READ)
    names = (name.removeprefix(f"{prefix}.") for name in loaded["unexpected_keys"])
    over = sorted(name for name in names if name.partition(".")[0] in own)
    if lacking or over:
        raise ValueError(
            f"{source} does not fit its configuration: missing {some(lacking) or 'nothing'}; left "
            f"over {some(over) or 'nothing'}"
        )


def digest_of_tensors(model: nn.Module) -> str:
    """Hash of weights that lie in no file of ours: their names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
