# SPDX-License-Identifier: Apache-2.0
"""Search the settings of a task or of pre-training, as a file in configs/sweeps says.

    wavlm sweep TASK|FILE [--upstream=NAME] [--count=N] [--local] [--seed=N] \\
        [-- --key=value ...]

On W&B, which needs an account, or here with --local. What stands behind `--` is configuration that
all trials share; --seed is of the search, not of training.
"""

import os
import sys
from pathlib import Path
from typing import Any

import yaml

from wavlm_lightning.config import ConfigError, one_line, read_yaml
from wavlm_lightning.config_parser import Parser
from wavlm_lightning.downstream import load_task, task_names
from wavlm_lightning.downstream.trained_task import TrainedTask
from wavlm_lightning.recipes.pretrain.settings import read_settings
from wavlm_lightning.recipes.run.logger_checks import has_wandb_account
from wavlm_lightning.recipes.run.mini_model import is_missing, train_mini
from wavlm_lightning.recipes.superb.settings import read_probe_settings
from wavlm_lightning.recipes.sweep.local import DEFAULT_COUNT, check_config, search_here
from wavlm_lightning.recipes.sweep.trials import OWN_FOLDERS
from wavlm_lightning.shipped import command, config_file, config_names, named_file

ANY = "any"  # the file for tasks that have none of their own
RUNS = Path("runs") / "sweeps"
# The words that name a program in a sweep's command: of `wavlm`, and of `python -m`.
SUPERB = {"superb", "recipes.superb"}  # a task and an upstream follow
PRETRAINING = {"pretrain", "recipes.pretrain"}


def main(argv: list[str]) -> int:
    """Returns the exit status: 0 done, 1 an error that the last line explains, 143 stopped."""
    # A trial's command starts the words wavlm or python: those of this environment come first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        split = argv.index("--") if "--" in argv else len(argv)
        options, overrides = _options(argv[:split]), argv[split + 1 :]
        name, content = sweep_of(options.sweep)
        resume = not any(_is_new(word) for word in overrides)
        overrides = [word for word in overrides if not _is_new(word)]
        config = complete(content, options.upstream, overrides, name=name, local=options.local)
        source = check_trial(config, name)
        if not options.local:
            check_account(options.sweep)
        if is_missing(source):
            train_mini()
        if options.local:
            parent, count = RUNS / Path(name).stem, options.count
            return search_here(config, parent, count=count, seed=options.seed, resume=resume)
        return search_on_wandb(config, count=options.count)
    except (ValueError, OSError) as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1


def _options(argv: list[str]) -> Any:
    if not argv or argv[0].startswith("--"):
        raise ConfigError(
            f"the first argument must be a sweep: {', '.join(_names())}, or a file of your own"
        )
    parser = Parser(prog="wavlm sweep", description=__doc__)
    parser.add_argument("sweep", type=str, help="name in configs/sweeps, or a file")
    parser.add_argument("--upstream", type=str, default="", help="in place of the file's")
    parser.add_argument("--count", type=int | None, default=None, help="trials")
    parser.add_argument("--local", action="store_true", help="search here, without an account")
    parser.add_argument("--seed", type=int, default=0, help="of a random or Bayesian search here")
    options = parser.parse_args(argv)
    if options.count is not None and options.count < 1:
        raise ConfigError(f"--count must be at least 1 (got {options.count})")
    if options.seed < 0:
        raise ConfigError(f"--seed must be at least 0 (got {options.seed})")
    return options


def _names() -> list[str]:
    files = config_names("sweeps") - {ANY}
    trained = {name for name in task_names() if issubclass(load_task(name), TrainedTask)}
    return sorted(files | trained)


def sweep_of(name: str) -> tuple[str, dict[str, Any]]:
    """A sweep in W&B's format, and what errors call it.

    Args:
        name: A file, the name of one in configs/sweeps, or a task.

    Raises:
        ConfigError: if there is no such sweep.
    """
    path = config_file("sweeps", f"{name}.yaml")
    if name != ANY and path.is_file():
        return str(path), read_yaml(path)
    if named_file(name).is_file():
        return name, read_yaml(named_file(name))
    if name not in _names():
        raise ConfigError(f"no sweep {name}: neither a file nor one of {', '.join(_names())}")
    task, config = load_task(name), read_yaml(config_file("sweeps", f"{ANY}.yaml"))
    goal = {"min": "minimize", "max": "maximize"}[task.mode]
    command = [str(item).replace("TASK", name) for item in config["command"]]
    return name, {**config, "command": command, "metric": {"name": task.monitor, "goal": goal}}


def _is_new(word: str) -> bool:
    key, _, value = word.partition("=")
    return key == "--run.resume" and yaml.safe_load(value) is False


def complete(
    config: dict[str, Any], upstream: str, overrides: list[str], *, name: str, local: bool
) -> dict[str, Any]:
    """A sweep with another upstream and fixed overrides in its command.

    Args:
        config: Of W&B's format.
        upstream: Takes the place of the one behind `superb TASK`; "" keeps that.
        overrides: Appended to the command, such as `--optim.total_updates=50`.
        name: What errors call it.
        local: Without the account that `--wandb.mode=online` in the command would need.

    Raises:
        ConfigError: if they do not fit.
    """
    if local:
        check_config(config)
    if "command" not in config or not isinstance(config.get("parameters"), dict):
        raise ConfigError(f"{name} is no sweep of ours: it must have command and parameters")
    command = [str(item) for item in config["command"]]
    if upstream:
        place = _place(SUPERB, command[:-2])
        if place is None:
            raise ConfigError(f"{name} searches no task on an upstream: leave upstream out")
        command[place + 2] = upstream
    if local:
        command = [item for item in command if not item.startswith("--wandb.mode=")]
    for word in overrides:
        key, equals, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals:
            raise ConfigError(f"an argument behind -- must be --key=value (got {word})")
        if key in config["parameters"]:
            raise ConfigError(f"{key} is searched by {name}: it cannot be set as well")
        if local and key in OWN_FOLDERS:
            raise ConfigError(f"{key} cannot be set here: each trial has its own, in {RUNS}")
    return {**config, "command": command + overrides}


def check_trial(config: dict[str, Any], name: str) -> str | None:
    """Read the configuration that a trial would have, as the trial will; its upstream's source.

    Raises:
        ConfigError: naming the sweep file and what is wrong.
    """
    command = [str(item) for item in config["command"]]
    values = {k: _some_value(v) for k, v in config["parameters"].items()}
    overrides = [item for item in command if item.startswith("--")]
    overrides += [f"--{key}={value}" for key, value in values.items() if value is not None]
    try:
        place = _place(SUPERB, command)
        if place is not None:
            task, upstream = command[place + 1 :][:2]
            return read_probe_settings(task, upstream, overrides).upstream.source
        if _place(PRETRAINING, command) is not None:
            read_settings(overrides)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    return None


def _place(program: set[str], command: list[str]) -> int | None:
    """Where a command names a program."""
    return next(
        (i for i, word in enumerate(command) if word.removeprefix("wavlm_lightning.") in program),
        None,
    )


def _some_value(parameter: dict[str, Any]) -> Any:
    """One that a search may draw; None where the file says it in another way."""
    if parameter.get("values"):
        return parameter["values"][0]
    return parameter.get("value", parameter.get("min"))


def check_account(name: str) -> None:
    """Find out before anything is trained.

    Raises:
        ConfigError: without an account.
    """
    if not has_wandb_account():
        raise ConfigError(
            f"no W&B account on this machine: wandb login, or {command()} sweep "
            f"TASK={name} LOCAL=1 searches here without one"
        )


def search_on_wandb(config: dict[str, Any], *, count: int | None) -> int:
    """Register the sweep with W&B and work on it here; others may join with `wandb agent`.

    Raises:
        ConfigError: if W&B refuses.
    """
    import wandb

    try:
        if count is None and config["method"] != "grid":
            count = DEFAULT_COUNT
        sweep = wandb.sweep(config, project=config.get("project"))
        wandb.agent(sweep, project=config.get("project"), count=count)
    except wandb.Error as error:
        raise ConfigError(f"W&B: {error}") from error
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
