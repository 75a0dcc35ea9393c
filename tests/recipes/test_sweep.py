# SPDX-License-Identifier: Apache-2.0
"""A search on this machine, with a program of milliseconds in place of a training."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from wavlm_lightning.config import ConfigError
from wavlm_lightning.recipes.run.signals import STOPPED
from wavlm_lightning.recipes.sweep.__main__ import check_trial, complete, main, sweep_of
from wavlm_lightning.recipes.sweep.local import STATE, search_here
from wavlm_lightning.recipes.sweep.trials import trial_command

# Leaves what a run leaves: a locked folder, config.yaml, metrics.csv, result.json. The loss falls
# to (x - 0.3)^2. x=8 fails; x=9 waits for the file `go`; from x=1 on it takes its time.
TOY = """
import fcntl, json, os, signal, sys, time
from pathlib import Path
words = dict(word.removeprefix("--").split("=", 1) for word in sys.argv[1:])
x, run = float(words["x"]), Path(words["run.dir"]) / "toy" / "run"
logs = run / "logs" / "version_0"
logs.mkdir(parents=True, exist_ok=True)
lock = (run / ".lock").open("wb")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
(run / "config.yaml").touch()
def stop(*_):
    (run / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
with (run / "starts").open("a") as file:
    file.write("x")
if x == 8 and not Path(__file__).with_name("mended").exists():
    print("error: x=8 is too much", file=sys.stderr)
    print("and more", file=sys.stderr)
    sys.exit(1)
while x == 9 and not Path(__file__).with_name("go").exists():
    time.sleep(0.01)
with (logs / "metrics.csv").open("w") as file:
    file.write("step,epoch,dev/loss,train/loss\\n")
    for step in range(8):
        loss = (x - 0.3) ** 2 + 0.5 ** step
        file.write(f"{step},0,{loss},\\n{step},0,,1.0\\n")
        file.flush()
        time.sleep(0.1 if x >= 1 else 0)
metrics = {"dev/loss": (x - 0.3) ** 2}
(run / "result.json").write_text(json.dumps({"metrics": metrics}))
Path(words["run.results"]).mkdir()
"""


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Makes the config of a search of the toy program, of `x` unless other parameters are said."""
    (tmp_path / "toy.py").write_text(TOY)
    words = ["--run.dir=a", "--run.results=b", "${args}"]

    def make(method: str, x: dict[str, Any], **rest: Any) -> dict[str, Any]:
        return {
            "method": method,
            "command": ["${env}", "${interpreter}", str(tmp_path / "toy.py"), *words],
            "metric": {"name": "dev/loss", "goal": "minimize"},
            "parameters": {"x": x},
            **rest,
        }

    return make


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., int]:
    """`search_here` in tmp_path, with frequent looks."""

    def run(config: dict[str, Any], **options: Any) -> int:
        return search_here(config, tmp_path / "search", poll_seconds=0.02, **options)

    return run


def trials(folder: Path, number: int = -1) -> list[dict[str, Any]]:
    """State of the newest search below a folder, or of another one."""
    path = sorted(p for p in folder.glob(f"*/{STATE}") if not p.parent.is_symlink())[number]
    return json.loads(path.read_text())["trials"]


def tried(folder: Path, number: int = -1) -> list[Any]:
    return [trial["parameters"]["x"] for trial in trials(folder, number)]


def starts(folder: Path) -> list[int]:
    """How often each trial's program was started."""
    files = sorted((folder / "latest").resolve().glob("trial*/toy/run/starts"))
    return [len(file.read_text()) for file in files]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_grid_tries_all_and_shows_the_best(toy, search, tmp_path, capsys) -> None:
    assert search(toy("grid", {"values": [0.0, 0.25, 0.5]})) == 0
    assert tried(tmp_path / "search") == [0.0, 0.25, 0.5]
    out = capsys.readouterr().out
    marked = [line.split() for line in out.splitlines() if line.endswith("finished, best")]
    assert marked == [["2", "0.25", "0.0025", "finished,", "best"]]
    again = out.splitlines()[-1]
    assert again.endswith("toy.py --x=0.25")
    assert again.split()[1].endswith("python")


def test_count_bounds_a_grid_and_a_larger_one_goes_on(toy, search, tmp_path) -> None:
    config = toy("grid", {"values": [0.0, 0.25, 0.5]})
    assert search(config, count=1) == 0
    assert tried(tmp_path / "search") == [0.0]
    assert search(config, count=2) == 0
    assert tried(tmp_path / "search") == [0.0, 0.25]
    assert starts(tmp_path / "search") == [1, 1]


def test_larger_figure_wins_where_that_is_the_goal(toy, search, capsys) -> None:
    metric = {"name": "dev/loss", "goal": "maximize"}
    assert search(toy("grid", {"values": [0.0, 0.25, 0.9]}, metric=metric)) == 0
    marked = [x for x in capsys.readouterr().out.splitlines() if x.endswith("finished, best")]
    assert [line.split()[:3] for line in marked] == [["3", "0.9", "0.36"]]


def test_random_search_draws_as_many_as_are_wanted(toy, search, tmp_path) -> None:
    config = toy("random", {"distribution": "log_uniform_values", "min": 0.001, "max": 0.9})
    assert search(config, count=4) == 0
    drawn = tried(tmp_path / "search")
    assert len(set(drawn)) == 4
    assert all(0.001 <= x <= 0.9 for x in drawn)


def test_bayes_search_comes_close_to_the_optimum(toy, search, tmp_path) -> None:
    assert search(toy("bayes", {"min": 0.0, "max": 0.99}), count=8) == 0
    assert min(abs(x - 0.3) for x in tried(tmp_path / "search")) < 0.05


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_search_in_two_goes_tries_the_same_as_in_one(method, toy, search, tmp_path) -> None:
    config = toy(method, {"min": 0.0, "max": 0.99})
    search(config, count=2)
    search(config, count=4)
    search(config, count=4, resume=False)
    search(config, count=4, seed=1)
    two_goes, one, other = (tried(tmp_path / "search", number) for number in range(3))
    assert two_goes == one
    assert not set(one) & set(other)


def test_hyperband_stops_a_trial_that_falls_behind(toy, search, tmp_path, capsys) -> None:
    early = {"type": "hyperband", "min_iter": 2, "eta": 3}
    config = toy("grid", {"values": [0.3, 1.0, 0.5]}, early_terminate=early)
    assert search(config) == 0
    states = [trial["state"] for trial in trials(tmp_path / "search")]
    assert states == ["finished", "stopped early", "finished"]
    stopped = trials(tmp_path / "search")[1]
    assert 3 <= len(stopped["history"]) < 8
    assert stopped["value"] == min(stopped["history"])
    run = (tmp_path / "search" / "latest").resolve() / "trial002" / "toy" / "run"
    assert (run / "saved").exists()
    assert "stopped early" in capsys.readouterr().out
    assert search(config) == 0
    assert starts(tmp_path / "search") == [1, 1, 1]


def test_search_goes_on_after_a_failed_trial_and_tries_it_once_more(
    toy, search, tmp_path, capsys
) -> None:
    config = toy("grid", {"values": [8, 0.5]})
    assert search(config) == 0
    assert "failed: error: x=8 is too much" in capsys.readouterr().out
    assert [t["state"] for t in trials(tmp_path / "search")] == ["failed", "finished"]
    (tmp_path / "mended").touch()
    assert search(config) == 0
    assert [t["state"] for t in trials(tmp_path / "search")] == ["finished", "finished"]
    assert starts(tmp_path / "search") == [2, 1]


def test_search_without_a_finished_trial_fails(toy, search, capsys) -> None:
    assert search(toy("grid", {"values": [8]})) == 1
    assert "no trial finished" in capsys.readouterr().out


def test_result_without_the_metric_is_a_failed_trial(toy, search, capsys) -> None:
    metric = {"name": "dev/eer", "goal": "minimize"}
    assert search(toy("grid", {"values": [0.5]}, metric=metric)) == 1
    assert "no dev/eer in" in capsys.readouterr().out


def test_stopped_search_lets_the_trial_save_and_goes_on(toy, search, tmp_path, capsys) -> None:
    config, folder = toy("grid", {"values": [0.5, 9, 0.7]}), tmp_path / "search"

    def interrupt() -> None:
        wait_for(lambda: bool(list(folder.glob("*/trial002/toy/run/starts"))))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status = search(config)
    thread.join()
    assert status == STOPPED
    assert "the same command goes on from there" in capsys.readouterr().err
    assert [t["state"] for t in trials(folder)] == ["finished", "unfinished"]
    assert ((folder / "latest").resolve() / "trial002/toy/run/saved").exists()
    (tmp_path / "go").touch()
    assert search(config) == 0
    assert "continuing" in capsys.readouterr().out
    assert tried(folder) == [0.5, 9, 0.7]
    assert starts(folder) == [1, 2, 1]


def test_killed_search_waits_for_the_trial_that_outlived_it(toy, search, tmp_path, capsys) -> None:
    config, folder = toy("grid", {"values": [0.5, 9]}), tmp_path / "search"
    process = multiprocessing.get_context("fork").Process(target=search, args=(config,))
    process.start()
    wait_for(lambda: bool(list(folder.glob("*/trial002/toy/run/starts"))))
    process.kill()
    process.join()
    threading.Timer(0.3, (tmp_path / "go").touch).start()
    assert search(config) == 0
    assert "trial002 is still at work from before" in capsys.readouterr().out
    assert [t["state"] for t in trials(folder)] == ["finished", "finished"]
    assert starts(folder) == [1, 1]


def test_macros_expand_as_wandbs_agent_expands_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SHELF", "left")
    command = ["${env}", "${interpreter}", "${program}", "${envvar:SHELF}", "${args_no_hyphens}"]
    config = {"program": "a.py", "command": [*command, "--run.dir=x", "${args_json_file}"]}
    got = trial_command(config, {"optim.lr": 1e-05, "flag": True}, tmp_path)
    args_json = tmp_path / "args.json"
    words = ["a.py", "left", "optim.lr=1e-05", "flag=True", f"--run.dir={tmp_path}"]
    assert got == ["/usr/bin/env", sys.executable, *words, str(args_json)]
    assert json.loads(args_json.read_text()) == {"optim.lr": 1e-05, "flag": True}


def test_unknown_macro_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"\$\{argz\} is no macro"):
        trial_command({"command": ["${argz}"]}, {}, tmp_path)


def test_command_line_searches_a_file_with_fixed_words(toy, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(toy("grid", {"values": [0.5, 0.7]})))
    argv = ["toy.yaml", "--local", "--count=1", "--", "--optim.steps=5"]
    assert main(argv) == 0
    assert "toy.py --x=0.5 --optim.steps=5" in capsys.readouterr().out
    assert main([*argv, "--run.resume=false"]) == 0
    assert len(list(Path("runs/sweeps/toy").glob("*/trial001"))) == 3  # two searches and `latest`


def test_upstream_takes_the_place_of_the_files(monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    name, config = sweep_of("asv")
    command = complete(config, "wavlm_base", ["--seed=3"], name=name, local=False)["command"]
    assert command[1:5] == ["wavlm", "superb", "asv", "wavlm_base"]
    assert command[-1] == "--seed=3"


@pytest.mark.parametrize(
    "program",
    [
        ["wavlm", "superb"],
        ["python", "-m", "recipes.superb"],
        ["python", "-m", "wavlm_lightning.recipes.superb"],
    ],
)
def test_a_file_may_start_the_program_in_either_way(program, monkeypatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    config = dict(sweep_of("asv")[1])
    config["command"] = ["${env}", *program, "asv", "wavlm_mini", "--run.dir=x", "${args}"]
    changed = complete(config, "fbank", [], name="own", local=False)
    assert changed["command"][-4:-2] == ["asv", "fbank"]
    assert check_trial(changed, "own") is None
    changed["command"][-3] = "nothing"
    with pytest.raises(ConfigError, match="own: no upstream nothing"):
        check_trial(changed, "own")


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        ([], "the first argument must be a sweep: asr, asv, er, "),
        (["avs"], "no sweep avs: neither a file nor one of asr, asv"),
        (["asv", "--count=0"], "--count must be at least 1 (got 0)"),
        (["asv", "--seed=-1"], "--seed must be at least 0 (got -1)"),
        (["asv", "--optim.lr=1"], "optim.lr is not a configuration key"),
        (["asv", "--local", "--", "--optim.lr=1"], "optim.lr is searched by asv"),
        (["asv", "--local", "--", "--run.dir=x"], "run.dir cannot be set here: each trial has"),
        (
            ["asv", "--local", "--", "seed=1"],
            "an argument behind -- must be --key=value (got seed=1)",
        ),
        (["pretrain", "--upstream=a"], "pretrain.yaml searches no task on an upstream"),
    ],
)
def test_wrong_words_end_in_one_line(argv, error, monkeypatch, capsys) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {error}") or error in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("method", "hope", "'hope' is not one of"),
        ("run_cap", 5, "'run_cap' was unexpected"),
        ("metric", None, "metric is missing"),
        ("command", ["a", "${args}"], "command has no --run.dir"),
        ("parameters", {"run.dir": {"values": ["a"]}}, "run.dir cannot be searched"),
    ],
)
def test_what_is_no_sweep_is_refused(key, value, error, toy, search) -> None:
    config = toy("grid", {"values": [0.5]}) | {key: value}
    if value is None:
        del config[key]
    with pytest.raises(ConfigError, match=error):
        search(config)


@pytest.fixture
def _no_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    wandb.teardown()  # an offline run of this process would be remembered
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))


@pytest.mark.usefixtures("_no_account")
def test_without_an_account_there_is_one_line_that_says_what_to_do(capsys) -> None:
    assert main(["asv"]) == 1
    assert capsys.readouterr().err == (
        "error: no W&B account on this machine: wandb login, or make sweep TASK=asv LOCAL=1 "
        "searches here without one\n"
    )


@pytest.mark.usefixtures("_no_account")
def test_with_an_account_wandb_gets_the_file_and_the_words(monkeypatch) -> None:
    import wandb

    calls: list[Any] = []
    monkeypatch.setattr("wavlm_lightning.recipes.sweep.__main__.has_wandb_account", lambda: True)
    monkeypatch.setattr(wandb, "sweep", lambda config, project: calls.append(config) or "id7")
    monkeypatch.setattr(
        wandb, "agent", lambda sweep, project, count: calls.append((sweep, project, count))
    )
    monkeypatch.setenv("PATH", os.environ["PATH"])
    assert main(["asr", "--upstream=wavlm_base", "--", "--seed=3"]) == 0
    config, agent = calls
    assert config["command"][4] == "wavlm_base"
    assert config["command"][-1] == "--seed=3"
    assert "--wandb.mode=online" in config["command"]
    assert agent == ("id7", "wavlm_lightning", 10)
