# SPDX-License-Identifier: Apache-2.0
"""Upstreams: WavLM of any origin, HuBERT and wav2vec 2.0 by transformers, filter banks, chance.

`Frozen` wraps any of them: eval mode, no gradient, absent from checkpoints.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from downstream.features import Features, Upstream
from wavlm_lightning.fields import Checked, seed
from wavlm_lightning.files import read_json
from wavlm_lightning.lengths import (
    HOP,
    RECEPTIVE_FIELD,
    SAMPLE_RATE,
    conv_lengths,
    padding_mask,
    similar_lengths,
)
from wavlm_lightning.model.checkpoint import CONFIG, load_wavlm, local_path
from wavlm_lightning.model.config import WavLMConfig
from wavlm_lightning.model.layouts import some
from wavlm_lightning.model.wavlm import WavLM, normalize_waveforms
from wavlm_lightning.model.weights import check_finite_weights, mapping, source_sha256
from wavlm_lightning.precision import computes_bfloat16
from wavlm_lightning.seeding import torch_seed
from wavlm_lightning.threads import threads

DELTA_WINDOW = 5  # frames; s3prl ec8064b5, upstream/baseline/fbank.yaml, as are the two below
NUM_MELS = 80
GROUP_RATIO = 0.8  # shortest over longest of the rows that run together
LARGE = 2**14  # weights of a layer that is worth rounding before it is used
FBANK_STRIDE = 160  # samples, 10 ms
NEVER_READ = {"masked_spec_embed"}  # weights of transformers that evaluation does without
TRANSFORMERS_TYPES = ("hubert", "wav2vec2")  # of models that transformers runs
# Of the code that computes features: raised when they change, so that older kept ones are not used.
FEATURES_VERSION = 6


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig(Checked):
    """Which upstream, and where it lies.

    Args:
        kind: wavlm (a checkpoint or folder of any layout), transformers (HuBERT, wav2vec 2.0),
            fbank, or random: a WavLM that was never trained, as a control.
        source: file or folder; for transformers also a hub id, if `download` allows it.
        size: of a random WavLM.
        seed: of a random WavLM's weights.
        masked_group_norm: Base's group norm leaves padding out; false is the released behaviour.
        precision: of the frozen forward pass; auto is bfloat16 where the device computes in it.
        download: fetch a hub id that is not on this machine yet.
        cmvn: filter banks have zero mean and unit variance over each utterance. Heads that average
            over time learn nothing from those: the mean is zero.
    """

    kind: Literal["wavlm", "transformers", "fbank", "random"]
    source: str | None = None
    size: str = "mini"
    seed: int = seed(default=0)
    masked_group_norm: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    download: bool = False
    cmvn: bool = True


class Frozen(nn.Module):
    """Any upstream, kept in eval mode, run without gradient, left out of checkpoints.

    Rows of very different lengths are run in several groups: padding costs time and, for upstreams
    in which an utterance does not depend on its batch, changes nothing.

    Args:
        upstream: what is frozen.
        precision: of its forward pass: auto, float32 or bfloat16.
        grouped: false for an upstream whose features depend on the batch.
    """

    def __init__(self, upstream: Upstream, *, precision: str = "float32", grouped: bool = True):
        super().__init__()
        assert isinstance(upstream, nn.Module)
        self.upstream = upstream.requires_grad_(False).eval()
        self.dim, self.num_layers, self.stride = upstream.dim, upstream.num_layers, upstream.stride
        self.precision, self.grouped = precision, grouped
        self.threads = 0  # of torch in the forward pass, if it has others elsewhere
        self._rounded = False

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance of so many samples."""
        frames: int = self.upstream.num_frames(num_samples)
        return frames

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in eval mode, whatever a Trainer says."""
        return super().train(False)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing of it."""
        return kwargs.get("destination", args[0] if args else {})

    def _round_weights(self) -> None:
        """Round large weights as autocast would at each use, once; small ones may be used else."""
        self._rounded = True
        for module in self.upstream.modules():
            if isinstance(module, nn.Linear) and module.weight.numel() >= LARGE:
                module.to(torch.bfloat16)

    def in_bfloat16(self, device: str) -> bool:
        """Whether the forward pass computes in it."""
        if self.precision == "auto":
            return computes_bfloat16(device)
        return self.precision == "bfloat16"

    def _autocast(self, device: str) -> Any:
        # Entered in float32 too: a Trainer's own autocast must not reach the upstream.
        return torch.autocast(device, torch.bfloat16, enabled=self.in_bfloat16(device))

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> layers of (B, F, D) and their lengths (B,).

        Both lengths are on the host.
        """
        lengths = lengths.cpu()
        if self.in_bfloat16(waveforms.device.type) and not self._rounded:
            self._round_weights()
        with self._autocast(waveforms.device.type), threads(self.threads):
            groups = _groups(lengths) if self.grouped else [torch.arange(len(lengths))]
            parts = [
                self.upstream(waveforms[rows, : int(lengths[rows].max())], lengths[rows])
                for rows in groups
            ]
        return parts[0] if len(parts) == 1 else _joined(parts, groups)


def _groups(lengths: Tensor) -> list[Tensor]:
    """Rows of about the same length together; in their own order if one group holds all."""
    groups = similar_lengths(lengths.tolist(), ratio=GROUP_RATIO)
    if len(groups) == 1:
        return [torch.arange(len(lengths))]
    return [torch.tensor(rows) for rows in groups]


def _joined(parts: list[Features], groups: list[Tensor]) -> Features:
    """The rows of all groups in the order of the batch, zero on padding."""
    rows = torch.cat(groups)
    lengths = torch.cat([part.lengths for part in parts])
    layers = []
    for pieces in zip(*(part.layers for part in parts), strict=True):
        x = pieces[0].new_zeros(len(rows), pieces[0].shape[1], pieces[0].shape[2])
        for piece, where in zip(pieces, groups, strict=True):
            x[where, : piece.shape[1]] = piece
        layers.append(x)
    return Features(tuple(layers), torch.empty_like(lengths).index_copy_(0, rows, lengths))


class WavLMUpstream(nn.Module):
    """All layers of a WavLM."""

    stride = HOP

    def __init__(self, model: WavLM):
        super().__init__()
        self.model = model
        self.dim, self.num_layers = model.config.dim, model.config.num_layers + 1

    def num_frames(self, num_samples: int) -> int:
        """As the convolutions count them."""
        return conv_lengths(num_samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> num_layers + 1 of (B, F, D), lengths (B,)."""
        features = self.model(waveforms, lengths)
        return Features(features.layers, features.lengths)


class TransformersUpstream(nn.Module):
    """All layers of a HuBERT or wav2vec 2.0 of transformers.

    Their base models normalise the first convolution over time, padding included: rows of such a
    model are run one by one unless they are equally long, so that none depends on another.
    """

    stride = HOP

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        config: Any = model.config
        self.dim, self.num_layers = config.hidden_size, config.num_hidden_layers + 1
        self.over_time = config.feat_extract_norm == "group"
        self.pre_norm = bool(getattr(config, "do_stable_layer_norm", False))

    def num_frames(self, num_samples: int) -> int:
        """As the convolutions count them, which are WavLM's."""
        return conv_lengths(num_samples)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> num_layers + 1 of (B, F, D), lengths (B,)."""
        return self.encode(self.normalized(waveforms, lengths), lengths)

    def normalized(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) -> (B, T): the models with layer norm were trained on normalised waveforms."""
        return waveforms if self.over_time else normalize_waveforms(waveforms, lengths)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """As `forward`, of what is normalised."""
        frames = conv_lengths(lengths)
        if bool((lengths == waveforms.shape[1]).all()):
            return Features(self.layers(waveforms, None), frames)
        if self.over_time:
            rows = [
                self.layers(row[None, : int(n)], None)
                for row, n in zip(waveforms, lengths, strict=True)
            ]
            padded = (
                nn.utils.rnn.pad_sequence([x[0] for x in layer], batch_first=True)
                for layer in zip(*rows, strict=True)
            )
            return Features(tuple(padded), frames)
        padding = padding_mask(lengths, waveforms.shape[1], waveforms.device)
        return Features(self.layers(waveforms, (~padding).long()), frames)

    def layers(self, waveforms: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """All layers (B, F, D) of waveforms (B, T) that are normalised where the model wants it."""
        out = self.model(waveforms, attention_mask=mask, output_hidden_states=True)
        layers: tuple[Tensor, ...] = out.hidden_states
        if self.pre_norm:  # the last state after the final norm, as SUPERB has it
            layers = (*layers[:-1], out.last_hidden_state)
        return layers


class Fbank(nn.Module):
    """80 log mel energies with first and second differences, 240 dimensions.

    Kaldi's filter banks (25 ms windows every 10 ms), differences over 5 frames, zero mean and unit
    variance of each dimension over the utterance: the baseline of SUPERB (Yang et al. 2021) as in
    s3prl ec8064b5, upstream/baseline. Each row is computed alone, so padding does not matter.

    Args:
        cmvn: Zero mean and unit variance.
    """

    dim, num_layers, stride = 3 * NUM_MELS, 1, FBANK_STRIDE

    def __init__(self, *, cmvn: bool = True):
        super().__init__()
        self.cmvn = cmvn

    def num_frames(self, num_samples: int) -> int:
        """Windows of 25 ms that fit whole."""
        return max(0, (num_samples - RECEPTIVE_FIELD) // FBANK_STRIDE + 1)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Waveforms (B, T) with lengths (B,) -> one layer (B, F, 240), lengths (B,)."""
        rows = [self._row(w[: int(n)]) for w, n in zip(waveforms, lengths, strict=True)]
        x, frames = nn.utils.rnn.pad_sequence(rows, batch_first=True), [len(r) for r in rows]
        return Features((x,), torch.tensor(frames))

    def _row(self, waveform: Tensor) -> Tensor:
        from torchaudio.compliance import kaldi
        from torchaudio.functional import compute_deltas

        mels = kaldi.fbank(
            waveform[None],
            num_mel_bins=NUM_MELS,
            frame_length=25.0,
            frame_shift=10.0,
            sample_frequency=SAMPLE_RATE,
        ).T  # (80, F)
        first = compute_deltas(mels, DELTA_WINDOW)
        x = torch.cat([mels, first, compute_deltas(first, DELTA_WINDOW)]).T  # (F, 240)
        if not self.cmvn:
            return x
        return (x - x.mean(0)) / (x.std(0, correction=min(1, len(x) - 1)) + 1e-10)


def fingerprint(config: UpstreamConfig, digest: str, device: str) -> str:
    """What features depend on beside the samples: code, weights, settings, number format."""
    wanted = config.precision
    if wanted == "auto":
        wanted = "bfloat16" if computes_bfloat16(device) else "float32"
    own = {"random": f"{config.size} {config.seed}", "fbank": f"cmvn {config.cmvn}"}
    about = f"{config.kind} {digest} {own.get(config.kind, '')}"
    return f"{FEATURES_VERSION} {about} {config.masked_group_norm} {wanted}"


def load_upstream(config: UpstreamConfig) -> tuple[Frozen, str]:
    """The frozen upstream, and the SHA-256 of its weights ("none" where it has none).

    Raises:
        ValueError: naming the key, for a source that is missing or does not fit.
        FileNotFoundError: naming the source.
    """
    if config.kind == "fbank":
        return Frozen(Fbank(cmvn=config.cmvn), precision="float32"), "none"
    if config.kind == "random":
        with _seeded(config.seed):
            random = WavLM(WavLMConfig.preset(config.size))
        return _frozen_wavlm(random, config), "none"
    if not config.source:
        raise ValueError(f"upstream.kind={config.kind} wants upstream.source: a file or folder")
    if config.kind == "transformers":
        model, digest = load_transformers(config.source, download=config.download)
        return Frozen(TransformersUpstream(model), precision=config.precision), digest
    try:
        path = local_path(config.source, download=config.download)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}: say UPSTREAM=FILE, or upstream.source=FILE"
            + ("; make pretrain makes this one" if "runs/pretrain" in config.source else "")
        ) from error
    return _frozen_wavlm(load_wavlm(path), config), source_sha256(path)


def _frozen_wavlm(model: WavLM, config: UpstreamConfig) -> Frozen:
    if not config.masked_group_norm:
        model.config = replace(model.config, masked_group_norm=False)
        model.frontend.masked = False
    return Frozen(
        WavLMUpstream(model), precision=config.precision, grouped=config.masked_group_norm
    )


def kind_of(path: Path) -> str:
    """`wavlm` or `transformers`: by the model type of a folder's config.json; files are WavLM."""
    if path.is_dir() and (path / CONFIG).is_file():
        about = mapping(read_json(path / CONFIG), str(path / CONFIG))
        if about.get("model_type") in TRANSFORMERS_TYPES:
            return "transformers"
    return "wavlm"


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
    here = not download
    try:
        # The file alone, before anything else: what it says of code to run is not looked at.
        about, _ = PretrainedConfig.get_config_dict(source, local_files_only=here)
        kind = about.get("model_type")
        if kind not in TRANSFORMERS_TYPES:
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
    """Of weights that lie in a hub's cache: their names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch's global generator at this seed within the block, and as it was after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, "random upstream"))
        yield
