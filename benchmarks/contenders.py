# SPDX-License-Identifier: Apache-2.0
"""Who is compared: our WavLM and those of transformers and torchaudio, random weights, one size.

A contender is made in a function, so that a process that measures memory makes one alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wavlm_lightning import WavLM, WavLMConfig
from wavlm_lightning.lengths import conv_lengths
from wavlm_lightning.model.attention import choose
from wavlm_lightning.model.feature_encoder import FeatureEncoder
from wavlm_lightning.model.kernels.linear import by_onednn
from wavlm_lightning.model.layout_configs import transformers_config
from wavlm_lightning.pretrain.objective import (
    MaskedPrediction,
    ObjectiveConfig,
    feature_penalty,
    frames_to_predict,
)

NUM_CODES = 500
OBJECTIVE = ObjectiveConfig(projection_dim=256, temperature=0.1, feature_penalty=10.0)

Work = Callable[[], Any]


def config(size: str) -> WavLMConfig:
    """A preset with its own dropouts, without LayerDrop: the same work in every step."""
    return dataclasses.replace(WavLMConfig.preset(size), layer_drop=0.0)


@dataclasses.dataclass
class Setting:
    """What is run.

    Args:
        size: of the model.
        rows: utterances.
        seconds: of each.
        bf16: autocast, as recipes do it.
        device: where.
    """

    size: str = "base"
    rows: int = 4
    seconds: float = 10.0
    bf16: bool = False
    device: str = "cpu"

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """Waveforms (B, T), masks (B, F) of 65 % in spans of ten frames, labels (B, F, 1)."""
        generator = torch.Generator().manual_seed(0)
        samples = round(self.seconds * 16_000)
        waveforms = 0.1 * torch.randn(self.rows, samples, generator=generator)
        frames = int(conv_lengths(samples))
        spans = torch.rand(self.rows, -(-frames // 10), generator=generator) < 0.65
        masked = spans.repeat_interleave(10, 1)[:, :frames]
        labels = torch.randint(NUM_CODES, (self.rows, frames, 1), generator=generator)
        return waveforms.to(self.device), masked.to(self.device), labels.to(self.device)

    def autocast(self) -> Any:
        """bfloat16 where it is wanted."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


class Ours(nn.Module):
    """This project's encoder and head."""

    def __init__(self, setting: Setting):
        super().__init__()
        own = config(setting.size)
        self.encoder = WavLM(own)
        self.head = MaskedPrediction(own.dim, (NUM_CODES,), OBJECTIVE)

    def infer(self, waveforms: Tensor) -> Any:
        return self.encoder(waveforms).layers

    def loss(self, waveforms: Tensor, masked: Tensor, labels: Tensor) -> Tensor:
        found = self.encoder(waveforms, masked=masked)
        out = self.head(found.output, labels, frames_to_predict(labels, masked))
        return out.loss + 10 * out.frames * feature_penalty(found.conv_features)


class Recomputing(Ours):
    """Ours with `recompute=true`: blocks are run again when going back."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.encoder.recompute_blocks(True)


class Transformers(nn.Module):
    """transformers' WavLMModel under our loss: what is left to compare is the encoder."""

    def __init__(self, setting: Setting):
        super().__init__()
        from transformers import WavLMConfig as TheirConfig
        from transformers import WavLMModel

        own = config(setting.size)
        self.encoder = WavLMModel(
            TheirConfig(**transformers_config(own) | {"layerdrop": 0.0, "apply_spec_augment": True})
        )
        self.head = MaskedPrediction(own.dim, (NUM_CODES,), OBJECTIVE)

    def infer(self, waveforms: Tensor) -> Any:
        return self.encoder(waveforms, output_hidden_states=True).hidden_states

    def loss(self, waveforms: Tensor, masked: Tensor, labels: Tensor) -> Tensor:
        found = self.encoder(waveforms, mask_time_indices=masked)
        out = self.head(found.last_hidden_state, labels, frames_to_predict(labels, masked))
        return out.loss + 10 * out.frames * feature_penalty(found.extract_features)


class Torchaudio(nn.Module):
    """torchaudio's WavLM under our loss; it takes no masks, so all frames stay visible."""

    def __init__(self, setting: Setting):
        super().__init__()
        import torchaudio

        own = config(setting.size)
        make = {"base": torchaudio.models.wavlm_base, "large": torchaudio.models.wavlm_large}
        self.encoder = make[setting.size](
            encoder_projection_dropout=own.input_dropout,
            encoder_attention_dropout=own.attention_dropout,
            encoder_ff_interm_dropout=own.activation_dropout,
            encoder_dropout=own.dropout,
            encoder_layer_drop=0.0,
        )
        self.head = MaskedPrediction(own.dim, (NUM_CODES,), OBJECTIVE)

    def infer(self, waveforms: Tensor) -> Any:
        return self.encoder.extract_features(waveforms)[0]

    def loss(self, waveforms: Tensor, masked: Tensor, labels: Tensor) -> Tensor:
        features, _ = self.encoder.feature_extractor(waveforms, None)
        hidden = self.encoder.encoder(features)
        out = self.head(hidden, labels, frames_to_predict(labels, masked))
        return out.loss + 10 * out.frames * feature_penalty(features)


class TorchaudioHubert(nn.Module):
    """torchaudio's HuBERTPretrainModel with its own objective, as its recipe trains it.

    HuBERT has no position bias, so this encoder has less to do than WavLM's.
    """

    def __init__(self, setting: Setting):
        super().__init__()
        import torchaudio

        make = {
            "base": torchaudio.models.hubert_pretrain_base,
            "large": torchaudio.models.hubert_pretrain_large,
        }
        rest = {"encoder_layer_drop": 0.0} if setting.size == "base" else {}
        self.model = make[setting.size](num_classes=NUM_CODES, mask_prob=0.8, **rest)

    def loss(self, waveforms: Tensor, masked: Tensor, labels: Tensor) -> Tensor:
        hidden, _, penalty = self.model(waveforms, labels[..., 0])
        target = torch.zeros(len(hidden), dtype=torch.long, device=hidden.device)
        loss = nn.functional.cross_entropy(hidden.float(), target, reduction="sum")
        return loss + 10 * len(hidden) * penalty


CONTENDERS: dict[str, type[Any]] = {
    "ours": Ours,
    "ours, recompute=true": Recomputing,
    "transformers": Transformers,
    "torchaudio": Torchaudio,
    "torchaudio HuBERT, own objective": TorchaudioHubert,
}


def kernels(setting: Setting, what: str) -> str:
    """What our model runs there: attention, convolutions, linear layers."""
    if setting.device != "cpu":
        return "plain operations"
    own, waveforms = config(setting.size), torch.zeros(setting.rows, round(setting.seconds * 16000))
    x = torch.zeros(setting.rows, int(conv_lengths(waveforms.shape[1])), own.dim)
    with torch.set_grad_enabled(what == "training"), setting.autocast():
        attention = choose("auto", x, own.num_heads, kernels=True)
        products = FeatureEncoder(own).takes_kernel(waveforms)
        onednn = by_onednn(nn.Linear(1, 1), x)
    return (
        f"attention {attention}, convolutions as {'products' if products else 'conv1d'}, "
        f"linear by {'oneDNN' if onednn else 'torch'}"
    )


def inference(name: str, setting: Setting) -> Work:
    """A pass that gives all hidden states."""
    torch.manual_seed(0)
    module = CONTENDERS[name](setting).to(setting.device).eval()
    waveforms, _, _ = setting.batch()

    def run() -> Any:
        with torch.no_grad(), setting.autocast():
            return module.infer(waveforms)

    return run


def training(name: str, setting: Setting) -> Work:
    """A pre-training step: forward with masks, loss over 500 codes, backward, AdamW."""
    torch.manual_seed(0)
    module = CONTENDERS[name](setting).to(setting.device).train()
    batch = setting.batch()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=True)

    def run() -> None:
        with setting.autocast():
            loss = module.loss(*batch)
        (loss / 1000).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run
