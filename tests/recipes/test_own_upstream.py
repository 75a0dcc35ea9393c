# SPDX-License-Identifier: Apache-2.0
"""The upstream of docs/extend.md, a class of a user's own, is evaluated by its name."""

import json
import re
from pathlib import Path

import pytest

from wavlm_lightning.recipes.finetune.__main__ import main as finetune
from wavlm_lightning.recipes.superb.__main__ import main as superb

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    text = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"such as `my_upstream\.py`:\n\n```python\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "my_upstream.py"
    path.write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


def test_a_task_is_evaluated_on_it(module: Path, probe_words: list[str], tmp_path: Path) -> None:
    assert superb(["ks", "my_upstream:Energies", *probe_words]) == 0
    result = json.loads((tmp_path / "results/my_upstream.Energies/ks.json").read_text())
    assert result["upstream"] == "my_upstream.Energies"
    assert len(result["layer_weights"]) == 2
    assert result["config"]["upstream.kind"] == "python"


def test_it_cannot_be_fine_tuned_and_that_is_said(
    module: Path, probe_words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(["ks", "my_upstream:Energies", *probe_words]) == 1
    assert "upstream.kind must be wavlm or random to train it (got python)" in (
        capsys.readouterr().err
    )
