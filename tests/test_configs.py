# SPDX-License-Identifier: Apache-2.0
"""Every YAML loads into its schema, and states what it should."""

from pathlib import Path

import pytest

from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.pretrain.settings import read_chain, read_settings

FILES = sorted((Path(__file__).parent.parent / "configs" / "pretrain").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_file_loads_with_all_its_iterations(file: Path) -> None:
    *chain, settings = read_chain([f"--config={file}"])
    assert settings.run.name == file.stem
    hubert = file.stem.startswith("hubert_")
    assert settings.model.size == file.stem.removeprefix("hubert_")
    assert settings.model.position_bias == ("none" if hubert else "gated")
    assert next(iter([*chain, settings])).labels.features == "mfcc"
    assert all(s.mixing.prob == 0 for s in chain)
    assert settings.mixing.prob == (0 if hubert else 0.2)


def test_resolved_configuration_loads_again_and_is_the_same(tmp_path: Path) -> None:
    import yaml

    first = read_settings([f"--config={FILES[0]}", "--optim.lr=1e-5"])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(first.values))
    again = read_settings([f"--config={path}"])
    assert again.values == first.values
    assert again.optim.lr == 1e-5


def test_unknown_key_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"optim\.lrr is not .* the nearest one is optim\.lr"):
        read_settings([f"--config={FILES[0]}", "--optim.lrr=3"])


def test_unknown_key_in_a_teacher_names_the_teacher(tmp_path: Path) -> None:
    argv = [f"--config={FILES[0]}", '--iterations=[{"optim.lrr": 1}]']
    with pytest.raises(ConfigError, match=r"iterations, item 1: optim\.lrr is not"):
        read_chain(argv)


def test_wrong_type_names_key_wanted_and_got() -> None:
    wanted = r"optim\.total_updates must be a whole number \(got many\)"
    with pytest.raises(ConfigError, match=wanted):
        read_settings([f"--config={FILES[0]}", "--optim.total_updates=many"])


def test_wrong_size_lists_the_sizes() -> None:
    with pytest.raises(ConfigError, match="mini, base, base_plus, large"):
        read_settings(["--model.size=huge"])
