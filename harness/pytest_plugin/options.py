"""pytest's options of harness with their ini twins, and the keys of what the plugin's modules share.

Read in every pytest run on a machine that has harness installed, so that it imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.agents.registry import AGENTS
from harness.tasks.formats.marks import is_marked

if TYPE_CHECKING:
    from harness.runs.options import Options

SESSION = pytest.StashKey[Any]()
"""The run's `RunSession` in this process; `run_plugin.start_session` makes it."""
CONTROLLER = pytest.StashKey[Any]()
"""The run's `RunController`, in the process that the user has started; `controller_plugin.controller_of` makes it."""
STARTING = pytest.StashKey[Any]()
"""The `StartingServer` of a run on this machine; `plugin` starts it."""
DATASET = pytest.StashKey[str]()
"""The folder with the tasks of `--dataset`."""
_SEED = pytest.StashKey[int]()
_ROOT = pytest.StashKey[Path]()

_OPTIONS: tuple[tuple[str, str | None, str, dict[str, Any]], ...] = (
    ("agent", "claude", "who does the tasks: " + ", ".join(f"{name} ({entry.about})" for name, entry in AGENTS.items()),
     {"choices": tuple(AGENTS)}),
    ("sandbox", "auto", "where: e2b (as E2B's variables say), local, or auto (e2b when E2B_API_KEY is set)",
     {"choices": ("auto", "e2b", "local")}),
    ("isolation", None, "tier of the local sandbox: namespaces, landlock or unsafe (default: the best)",
     {"choices": ("namespaces", "landlock", "unsafe", "bubblewrap")}),
    ("model-source", "auto", "its replies: api (needs a key), replay (recorded), or auto (api when a key is set)",
     {"choices": ("auto", "api", "replay")}),
    ("model-key", "auto", "where the model's key is: the platform puts it on requests outside the sandbox, or it is in "
     "the sandbox; auto knows who can", {"choices": ("auto", "platform", "sandbox")}),
    ("replay", None, "replay the transcripts of this earlier run instead of the tasks' own", {"metavar": "RUN"}),
    ("trials", "1", "how often each task is tried with each variant", {"metavar": "N"}),
    ("max-trials", "20", "how many of them at most, with --until-decided", {"metavar": "N"}),
    ("variant", None, "only this variant; may be given several times, the first is the baseline (default: all)",
     {"action": "append", "metavar": "NAME"}),
    ("variants", None, "the file that declares the variants (default: the variants.toml nearest to each task)",
     {"metavar": "FILE"}),
    ("seed", None, "draws the order of the variants of each task and index (default: a new one)", {"metavar": "N"}),
    ("concurrency", None, "how many trials run at once (default: 20 on e2b, one a core on local)", {"metavar": "N"}),
    ("retries", "2", "new attempts after an infrastructure fault", {"metavar": "N"}),
    ("baseline", None, "compare with this variant, run, records file or git:REF:PATH (default: the first variant)",
     {"metavar": "WHAT"}),
    ("fail-on", None, "let verdicts, not failed trials, decide: regression[@population][=METRIC[:MARGIN]],broken,...",
     {"metavar": "VERDICT"}),
    ("create-rate", None, "sandboxes to ask for a second, at most (default: as fast as the platform takes it)",
     {"metavar": "N"}),
    ("max-cost", "10", "US dollars that the run may spend, or none; what would go beyond is skipped",
     {"metavar": "USD"}),
    ("grace", "60", "seconds that running trials get to end after Ctrl-C; a second Ctrl-C cuts them off",
     {"metavar": "SECONDS"}),
    ("keep", "none", "pause sandboxes and keep them for `harness attach`: failed (what did not pass), all, or none",
     {"choices": ("none", "failed", "all")}),
    ("keep-work", "all", "keep what the agent left, for `harness regrade`: failed (what did not pass), all, or none",
     {"choices": ("none", "failed", "all")}),
    ("results", "results", "the folder for the run's records", {"metavar": "DIR"}),
)  # fmt: skip
_ONCE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("resume", "go on with a run (default: the last): run what has no valid record; may stand last, or as --resume=RUN",
     {"nargs": "?", "const": "", "metavar": "RUN"}),
    ("until-decided", "add trials, from --trials to --max-trials, until every verdict on the pass rate is settled",
     {"action": "store_const", "const": "yes"}),
    ("shard", "run only part I of N of the trials, as a CI matrix does; `harness merge` puts them together",
     {"metavar": "I/N"}),
    ("dataset", "run the rows of a dataset as tasks: a JSONL, Parquet or CSV file, or one of the Hugging Face Hub",
     {"metavar": "NAME[:SPLIT]"}),
    ("limit", "how many rows of it (default: all)", {"metavar": "N"}),
    ("sample", "draw them by this seed (default: the first)", {"metavar": "SEED"}),
    ("plan", "print the trials and what they will probably cost and take; run nothing",
     {"action": "store_const", "const": "yes"}),
)  # fmt: skip
"""Options of a single invocation, which have no place in an ini file."""
_NO_INI = frozenset(name for name, _, _ in _ONCE)


def _ini(name: str) -> str:
    return "harness_" + name.replace("-", "_")


def add_options(parser: pytest.Parser) -> None:
    """One option group, with ini twins `harness_NAME`."""
    group = parser.getgroup("harness", "harness: Claude Code on tasks in fresh sandboxes")
    for name, default, text, more in _OPTIONS:
        ini = _ini(name)
        group.addoption(f"--{name}", dest=ini, default=None, help=f"{text} [ini: {ini}]", **more)
        parser.addini(ini, f"default of --{name}", default=default)
    for name, text, more in _ONCE:
        group.addoption(f"--{name}", dest=_ini(name), default=None, help=text, **more)


def any_given(config: pytest.Config) -> bool:
    """Tell whether an option is not at its default."""
    defaults = {**{name: default for name, default, _, _ in _OPTIONS}, **dict.fromkeys(_NO_INI)}
    return any(option(config, name) != default for name, default in defaults.items())


def option(config: pytest.Config, name: str) -> str | None:
    """An option's value: from the command line, else from the ini file, else its default."""
    ini = _ini(name)
    given = config.getoption(ini)
    if name in _NO_INI:
        return given if given is None else str(given)
    value = given if given is not None else config.getini(ini)
    if isinstance(value, list):
        return " ".join(value)
    return str(value) if value not in (None, "") else None


def options_of(config: pytest.Config) -> Options:
    """The options of this invocation. A path from the ini file is relative to that file.

    Raises:
        pytest.UsageError: when a value cannot be used.
    """
    from harness.errors import UsageError
    from harness.runs.options import read_options

    def base(name: str) -> Path:
        if config.getoption(_ini(name)) is not None:
            return config.invocation_params.dir
        # With one task named, and no ini file, pytest's root is the task: what is written there would be a part of it.
        return config.rootpath.parent if is_marked(config.rootpath) else config.rootpath

    try:
        return read_options(lambda name: option(config, name), base)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def seed_of(config: pytest.Config) -> int:
    """The seed of the order of variants: the one asked for, else one that is drawn once."""
    if _SEED not in config.stash:
        from harness.runs.order import draw_seed

        given = option(config, "seed")
        config.stash[_SEED] = draw_seed() if given is None else int(given)
    return config.stash[_SEED]


def root_of(config: pytest.Config) -> Path:
    """The folder from which tests are named: pytest's root, but for the paths that options have for values.

    Without an ini file pytest's own is above all paths of the command line, of which it does not know yet then which
    are tests: with `--results /elsewhere` each test would have another name once that folder exists.
    """
    if _ROOT not in config.stash:
        config.stash[_ROOT] = _find_root(config)
    return config.stash[_ROOT]


def name_from_root(config: pytest.Config, node_id: str) -> str:
    """A test's node id, from that folder."""
    below = root_of(config).relative_to(config.rootpath).as_posix()
    return node_id.removeprefix(f"{below}/")


def _find_root(config: pytest.Config) -> Path:
    if hasattr(config, "workerinput"):
        return Path(config.workerinput["harness"]["root"])
    if config.inipath or config.getoption("rootdir") or (config.rootpath / "setup.py").is_file():
        return config.rootpath
    start = config.invocation_params.dir
    named = [Path(os.path.abspath(start / argument.partition("::")[0])) for argument in config.args]
    folders = [path if path.is_dir() else path.parent for path in named if path.exists()] or [start]
    root = Path(os.path.commonpath([start, *folders]))
    if root == Path(root.anchor):
        root = Path(os.path.commonpath(folders))
    return root if config.rootpath in root.parents else config.rootpath
