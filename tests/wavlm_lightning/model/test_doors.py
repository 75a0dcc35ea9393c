# SPDX-License-Identifier: Apache-2.0
"""Features, files and uploads in one call each."""

import sys
from pathlib import Path

import pytest
import torch

from wavlm_lightning import WavLM, load_wavlm


@pytest.fixture(params=["base", "large"])
def model(request: pytest.FixtureRequest, tiny, build) -> WavLM:
    return build(tiny(request.param))


def test_one_recording_needs_no_length(model: WavLM, batch) -> None:
    waveforms, lengths = batch(8000)
    found = model.extract(waveforms[0])
    with torch.no_grad():
        wanted = model(waveforms, lengths)
    assert len(found.layers) == 3
    for one, other in zip(found.layers, wanted.layers, strict=True):
        assert one.shape == (1, 24, 64)
        assert torch.equal(one, other)
        assert not one.requires_grad


def test_a_list_of_recordings_is_padded(model: WavLM, batch) -> None:
    long, short = batch(8000)[0][0], batch(5000, seed=1)[0][0]
    found = model.extract([long, short])
    assert found.lengths.tolist() == [24, 15]
    for row, waveform in enumerate((long, short)):
        alone = model.extract(waveform)
        frames = int(alone.lengths)
        for one, other in zip(found.layers, alone.layers, strict=True):
            torch.testing.assert_close(one[row, :frames], other[0], atol=2e-5, rtol=1e-5)


def test_a_batch_of_equal_lengths_is_taken_as_it_is(model: WavLM, batch) -> None:
    waveforms, lengths = batch(8000, 8000)
    found = model.extract(waveforms)
    with torch.no_grad():
        wanted = model(waveforms, lengths)
    assert torch.equal(found.layers[-1], wanted.layers[-1])
    assert not torch.equal(found.layers[-1][0], found.layers[-1][1])


@pytest.mark.parametrize("training", [True, False])
def test_extracting_leaves_the_mode_as_it_was(model: WavLM, batch, training: bool) -> None:
    waveforms = batch(8000)[0]
    wanted = model.eval().extract(waveforms).layers[-1]
    model.train(training)
    assert torch.equal(model.extract(waveforms).layers[-1], wanted)  # without dropout
    assert model.training is training
    with pytest.raises(ValueError, match="400"):
        model.extract(torch.randn(300))
    assert model.training is training


def test_what_was_saved_is_read_back_and_by_transformers(
    tmp_path: Path, model: WavLM, batch
) -> None:
    transformers = pytest.importorskip("transformers")
    waveforms = batch(8000)[0]
    wanted = model.extract(waveforms).layers[-1]
    model.save_pretrained(tmp_path / "new" / "folder")
    ours = WavLM.from_pretrained(tmp_path / "new" / "folder")
    assert not ours.training
    assert torch.equal(ours.extract(waveforms).layers[-1], wanted)
    theirs = transformers.WavLMModel.from_pretrained(tmp_path / "new" / "folder")
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in model.parameters())


def test_a_model_to_train_further_is_in_training_mode(tmp_path: Path, model: WavLM) -> None:
    model.save_pretrained(tmp_path)
    assert load_wavlm(tmp_path, train=True).training
    assert not load_wavlm(tmp_path).training


def test_a_folder_is_uploaded_under_its_name(
    monkeypatch: pytest.MonkeyPatch, model: WavLM, batch
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    errors = pytest.importorskip("huggingface_hub.errors")
    waveforms, uploaded = batch(8000)[0], {}

    class Address(str):
        repo_id = "someone/model"

    class Api:
        def whoami(self) -> None:
            if not logged_in:
                raise errors.LocalTokenNotFoundError("no token")

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> Address:
            uploaded["asked"] = (name, private, exist_ok)
            return Address("https://hub/someone/model")

        def upload_folder(self, *, repo_id: str, folder_path: Path) -> None:
            uploaded["id"], uploaded["model"] = repo_id, load_wavlm(folder_path)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    logged_in = False
    with pytest.raises(PermissionError, match="nobody is logged in here: hf auth login"):
        model.push_to_hub("model")
    logged_in = True
    assert model.push_to_hub("model", private=True) == "https://hub/someone/model"
    assert uploaded["asked"] == ("model", True, True)
    assert uploaded["id"] == "someone/model"
    found = uploaded["model"].extract(waveforms).layers[-1]
    assert torch.equal(found, model.extract(waveforms).layers[-1])


def test_an_upload_without_the_hub_says_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, model: WavLM
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match="make setup EXTRAS=hf"):
        model.push_to_hub("model")
