# SPDX-License-Identifier: Apache-2.0
"""LSTM heads: against PyTorch's own on packed sequences, published sizes, padding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from downstream.features import Frames
from downstream.heads.recurrent import Blstm, LstmActivity, ProjectedBlstm, reverse

LENGTHS = [19, 30, 1, 8]


def padded(lengths: list[int], dim: int) -> Frames:
    x = nn.utils.rnn.pad_sequence([torch.randn(n, dim) for n in lengths], batch_first=True)
    return Frames(x, torch.tensor(lengths))


def packed(ours: Blstm, frames: Frames) -> tuple[nn.LSTM, Tensor]:
    """PyTorch's bidirectional layer with the same weights, and its output on packed frames."""
    theirs = nn.LSTM(frames.x.shape[2], ours.onward.hidden_size, bidirectional=True)
    theirs.batch_first = True
    weights = dict(ours.onward.named_parameters())
    weights |= {f"{name}_reverse": p for name, p in ours.backward_.named_parameters()}
    theirs.load_state_dict(weights)
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
    for suffix, half in (("", ours.onward), ("_reverse", ours.backward_)):
        for name, parameter in half.named_parameters():
            wanted = theirs.get_parameter(name + suffix).grad
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-5, atol=1e-5)


def test_what_stands_on_padding_does_not_reach_valid_frames() -> None:
    blstm, frames = Blstm(10, 6), padded(LENGTHS, 10)
    noisy = frames.x.clone()
    for row, length in enumerate(LENGTHS):
        noisy[row, length:] = 100.0
    torch.testing.assert_close(blstm(noisy, frames.lengths), blstm(*frames), rtol=0, atol=1e-6)


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
