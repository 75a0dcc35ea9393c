# SPDX-License-Identifier: Apache-2.0
"""LSTM heads: against PyTorch's own on packed sequences, published sizes, padding."""

import contextlib
import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from wavlm_lightning.downstream.features.frames import Frames
from wavlm_lightning.downstream.heads.bfloat16_lstm import takes_bfloat16
from wavlm_lightning.downstream.heads.recurrent import Blstm, LstmActivity, ProjectedBlstm, reverse
from wavlm_lightning.model.kernels import plain_operations

LENGTHS = [19, 30, 1, 8]


def padded(lengths: list[int], dim: int) -> Frames:
    x = nn.utils.rnn.pad_sequence([torch.randn(n, dim) for n in lengths], batch_first=True)
    return Frames(x, torch.tensor(lengths))


def packed(ours: Blstm, frames: Frames) -> tuple[nn.LSTM, Tensor]:
    """PyTorch's bidirectional layer with the same weights, and its output on packed frames."""
    theirs = copy.deepcopy(ours.lstm)
    sequence = pack_padded_sequence(
        frames.x, frames.lengths, batch_first=True, enforce_sorted=False
    )
    return theirs, pad_packed_sequence(theirs(sequence)[0], batch_first=True)[0]


def recogniser(**changes: float) -> ProjectedBlstm:
    return ProjectedBlstm(
        24, projection=16, hidden=12, num_layers=2, num_symbols=32, dropout=changes.get("p", 0.2)
    )


@pytest.mark.parametrize(
    ("dim", "parameters"), [(768, 42_828_832), (1024, 43_090_976), (240, 42_288_160)]
)
def test_recognition_head_has_the_published_parameter_count(dim: int, parameters: int) -> None:
    with torch.device("meta"):
        head = ProjectedBlstm(
            dim, projection=1024, hidden=1024, num_layers=2, dropout=0.2, num_symbols=32
        )
    assert sum(p.numel() for p in head.parameters()) == parameters


@pytest.mark.parametrize(
    ("dim", "parameters"), [(768, 42_986_605), (1024, 43_248_749), (240, 42_445_933)]
)
def test_slot_head_has_the_published_parameter_count(dim: int, parameters: int) -> None:
    with torch.device("meta"):
        head = ProjectedBlstm(
            dim, projection=1024, hidden=1024, num_layers=2, dropout=0.2, num_symbols=109
        )
    assert sum(p.numel() for p in head.parameters()) == parameters


@pytest.mark.parametrize(
    ("dim", "parameters"), [(768, 2_626_562), (1024, 3_150_850), (240, 1_545_218)]
)
def test_diarization_head_has_the_published_parameter_count(dim: int, parameters: int) -> None:
    with torch.device("meta"):
        head = LstmActivity(dim, hidden=512, num_speakers=2)
    assert sum(p.numel() for p in head.parameters()) == parameters


def test_blstm_matches_pytorch_on_packed_sequences() -> None:
    ours, frames = Blstm(10, 6), padded(LENGTHS, 10)
    torch.testing.assert_close(ours(*frames), packed(ours, frames)[1], rtol=0, atol=1e-6)


def test_gradients_of_blstm_match_pytorch_on_packed_sequences() -> None:
    ours, frames = Blstm(10, 6), padded(LENGTHS, 10)
    theirs, output = packed(ours, frames)
    output.square().sum().backward()
    ours(*frames).square().sum().backward()
    for name, parameter in ours.lstm.named_parameters():
        expected = theirs.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-5, atol=1e-5)


def worked(blstm: Blstm, frames: Frames) -> list[Tensor]:
    """Output, and gradients of the frames and of all weights."""
    x = frames.x.clone().requires_grad_()
    blstm.zero_grad()
    out = blstm(x, frames.lengths).float()
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    (out * direction).sum().backward()
    gradients = [x.grad, *(p.grad for p in blstm.lstm.parameters())]
    return [out.detach(), *(g.clone() for g in gradients if g is not None)]


def test_a_gpus_way_gives_what_a_cpus_does() -> None:
    blstm, frames = Blstm(10, 6), padded(LENGTHS, 10)
    on_cpu = worked(blstm, frames)
    with plain_operations():
        on_gpu = worked(blstm, frames)
    assert len(on_gpu) == 10
    for found, expected in zip(on_gpu, on_cpu, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [LENGTHS, [7], [5, 5, 5], [1, 1]])
def test_bfloat16_kernel_is_as_near_to_float32_as_pytorchs(
    lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    blstm, frames = Blstm(10, 64), padded(lengths, 10)
    exact = worked(blstm, frames)
    with torch.autocast("cpu", torch.bfloat16):
        torchs = worked(blstm, frames)
        monkeypatch.setattr("wavlm_lightning.downstream.heads.bfloat16_lstm.MIN_HIDDEN", 64)
        monkeypatch.setattr(Blstm, "_by_direction", None)
        ours = worked(blstm, frames)
    for found, peer, expected in zip(ours, torchs, exact, strict=True):
        scale = float(expected.norm())
        assert float((found - expected).norm()) <= 2 * float((peer - expected).norm())
        assert float((found - expected).norm()) <= 0.01 * scale


def test_wide_layers_in_bfloat16_alone_take_the_kernel() -> None:
    wide, frames = Blstm(4, 512), padded([3, 2], 4)
    assert not takes_bfloat16(frames.x, wide.lstm.hidden_size)
    with torch.autocast("cpu", torch.bfloat16):
        assert takes_bfloat16(frames.x, wide.lstm.hidden_size)
        assert not takes_bfloat16(frames.x, 511)
        assert not takes_bfloat16(frames.x.to("meta"), wide.lstm.hidden_size)
        assert wide(*frames).dtype == torch.bfloat16


def test_first_weights_and_outputs_are_those_of_two_lstms() -> None:
    """Of one LSTM a direction, which heads had before 0.1.0 was released: the same bits."""
    torch.manual_seed(0)
    onward, back = (nn.LSTM(10, 6, batch_first=True) for _ in range(2))
    torch.manual_seed(0)
    blstm, (x, lengths) = Blstm(10, 6), padded([30, 30], 10)
    expected = torch.cat([onward(x)[0], reverse(back(reverse(x, lengths))[0], lengths)], dim=2)
    assert torch.equal(blstm(x, lengths), expected)


@pytest.mark.parametrize("prefix", ["", "layers.0."])
def test_weights_of_two_lstms_a_layer_load(prefix: str) -> None:
    """Checkpoints from before 0.1.0 was released name each direction by itself."""
    blstm, other, frames = Blstm(10, 6), Blstm(10, 6), padded(LENGTHS, 10)
    kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    old = {
        f"{prefix}{half}.{kind}": other.lstm.get_parameter(kind + suffix).detach()
        for half, suffix in (("onward", ""), ("backward_", "_reverse"))
        for kind in kinds
    }
    module = nn.ModuleDict({"layers": nn.ModuleList([blstm])}) if prefix else blstm
    module.load_state_dict(old)
    assert torch.equal(blstm(*frames), other(*frames))


@pytest.mark.parametrize("way", ["cpu", "gpu", "bfloat16"])
def test_what_stands_on_padding_does_not_reach_valid_frames(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavlm_lightning.downstream.heads.bfloat16_lstm.MIN_HIDDEN", 6)
    blstm, frames = Blstm(10, 6), padded(LENGTHS, 10)
    noisy = frames.x.clone()
    for row, length in enumerate(LENGTHS):
        noisy[row, length:] = 100.0
    with (
        plain_operations() if way == "gpu" else contextlib.nullcontext(),
        torch.autocast("cpu", torch.bfloat16, enabled=way == "bfloat16"),
    ):
        found, expected = blstm(noisy, frames.lengths), blstm(*frames)
    assert float(expected.detach().norm()) > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert all(bool((row[n:] == 0).all()) for row, n in zip(found, LENGTHS, strict=True))


def test_reversing_twice_changes_nothing() -> None:
    x, lengths = padded(LENGTHS, 3)
    torch.testing.assert_close(reverse(reverse(x, lengths), lengths), x, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["recognition", "diarization"])
def test_padding_does_not_change_the_logits(kind: str) -> None:
    head: nn.Module = LstmActivity(24, hidden=12, num_speakers=2)
    if kind == "recognition":
        head = recogniser().eval()
    frames = padded(LENGTHS, 24)
    together = head(frames)
    for row, length in enumerate(LENGTHS):
        alone = head(Frames(frames.x[row : row + 1, :length], torch.tensor([length])))
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-5)


def test_diarization_hears_the_past_alone() -> None:
    head, (x, lengths) = LstmActivity(24, hidden=12, num_speakers=2), padded([20], 24)
    changed = torch.cat([x[:, :12], torch.randn(1, 8, 24)], dim=1)
    torch.testing.assert_close(
        head(Frames(changed, lengths))[:, :12], head(Frames(x, lengths))[:, :12], rtol=0, atol=1e-6
    )


def test_recognition_hears_the_future_too() -> None:
    head, (x, lengths) = recogniser().eval(), padded([20], 24)
    changed = torch.cat([x[:, :2], torch.randn(1, 18, 24)], dim=1)
    moved = (head(Frames(changed, lengths)) - head(Frames(x, lengths)))[0, 0].abs().max()
    assert float(moved.detach()) > 1e-4


def test_dropout_follows_the_last_blstm() -> None:
    head = recogniser(p=1.0)
    logits = head(padded([5], 24))
    torch.testing.assert_close(logits, head.classifier.bias.expand_as(logits), rtol=0, atol=0)
