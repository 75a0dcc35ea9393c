# SPDX-License-Identifier: Apache-2.0
"""Files that other machines run name what is there. They are not run here: that needs a network."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def test_the_workflow_runs_every_supported_python_on_both_systems() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["all-tests"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least, below = map(int, re.findall(r"3\.(\d+)", project["requires-python"]))
    assert job["strategy"]["matrix"]["python"] == [f"3.{n}" for n in range(least, below)]
    assert len(job["strategy"]["matrix"]["os"]) == 2
    assert (ROOT / job["steps"][-1]["run"]).stat().st_mode & 0o111


def test_the_image_copies_what_is_there_and_sets_up_with_make() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert len(copied) > 5
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert lines.index("RUN make setup") > lines.index("COPY configs configs")
    assert json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())["postCreateCommand"]


def test_the_site_is_built_without_anything_from_elsewhere() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    assert re.search(r"^strict: true$", text, re.MULTILINE)
    assert "font: false" in text
    assert "http" not in text


def test_no_file_of_the_site_names_a_folder_of_a_machine() -> None:
    files = [*(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    assert len(files) > 10
    wrong = [f.name for f in files if re.search(r"(?<![\w.])/(home|tmp|root|work)/", f.read_text())]
    assert wrong == []


@pytest.mark.slow
def test_the_site_builds_strictly_and_explains_every_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "configuration" / "index.html").read_text()
    for key in ("optim.lr", "mixing.prob", "task.held_out_speakers", "adaptation.lora.rank"):
        assert f"<code>{key}</code>" in page
    questions = (tmp_path / "site" / "questions" / "index.html").read_text()
    assert questions.count("<h3 ") >= 30
    tour = (tmp_path / "site" / "quick_tour" / "index.html").read_text()
    assert tour.count("data:image/png;base64,") == 2


def test_every_mutation_still_has_its_line() -> None:
    """One that does not is noticed by nobody until `make mutate`, which takes an hour."""
    entries = yaml.safe_load((ROOT / "tests/mutations.yaml").read_text())
    assert len(entries) > 100
    wrong = [e for e in entries if (ROOT / e["file"]).read_text().count(e["old"]) != 1]
    assert wrong == []
    tests = {test.split("::")[0] for e in entries for test in e["tests"].split()}
    assert [test for test in sorted(tests) if not (ROOT / test).exists()] == []
