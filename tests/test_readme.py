# SPDX-License-Identifier: Apache-2.0
"""The Python of the README does what it says, as it stands there."""

import re
from pathlib import Path

import pytest
import soundfile
import torch

from wavlm_lightning import WavLM, WavLMConfig, load_wavlm

README = Path(__file__).parent.parent / "README.md"


def test_examples_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = WavLMConfig.mini()
    state = {f"model.{name}": tensor for name, tensor in WavLM(config).state_dict().items()}
    checkpoint = tmp_path / "runs/pretrain/mini/latest/checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    content = {"state_dict": state, "hyper_parameters": {"model": config.to_dict()}}
    torch.save(content, checkpoint)
    for name, seconds in (("speech.wav", 2), ("other.flac", 3)):
        noise = 0.1 * torch.randn(8_000 * seconds, generator=torch.Generator().manual_seed(seconds))
        soundfile.write(tmp_path / name, noise.numpy(), 8_000)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    # The others are run by tests/recipes/test_predict.py and test_api.py.
    examples = [e for e in examples if "Predictor" not in e and "evaluate" not in e]
    assert len(examples) == 3
    found: dict[str, object] = {}
    exec(examples[0], found)
    layers = found["features"].layers  # type: ignore[attr-defined]
    assert [layer.shape for layer in layers] == [(1, 99, 192)] * 5
    again = load_wavlm(tmp_path / "my-wavlm").extract(found["waveform"])  # type: ignore[arg-type]
    torch.testing.assert_close(again.layers, layers)
    exec(examples[1], found)
    assert found["maps"].weights[0].shape == (1, 3, 99, 99)  # type: ignore[attr-defined]
    exec(examples[2], found)
    assert found["features"].lengths.tolist() == [99, 149]  # type: ignore[attr-defined]
