"""Suites of `claude plugin eval`: each case is a task, and the plugin above it a variant beside one without it.

Graders are judged by a script of ours in the checks' sandbox, as Claude Code judges them. What a model judges, and
what a case says of the treatment, has no counterpart: a variant says that here.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.tasks.contents import files_in
from harness.tasks.formats.base import ConvertedTask, NoCounterpartError, tag, task_name, toml_text
from harness.tasks.formats.marks import is_marked
from harness.tasks.formats.plugin_case import (
    CASE,
    PROMPT,
    Case,
    Grader,
    JudgeGrader,
    RegexGrader,
    ToolOrderGrader,
    ToolUsedGrader,
    is_case,
    read_case,
)

_GRADE = Path(__file__).parent / "scripts" / "grade.mjs"
_MANIFEST = ".claude-plugin/plugin.json"
_OTHER_ROOTS = ("plugin.json", "SKILL.md")
_LISTED = "find . -name .git -prune -o ! -type d -printf '%P\\n' >~/.case-files"
_BESIDE_ITSELF = re.compile(r"\$0|\$\{0|BASH_SOURCE")


class PluginEval:
    """`claude plugin eval`."""

    name = "plugin-eval"

    def is_task(self, folder: Path) -> bool:
        """True for a case; a folder of ours may have a prompt and graders too."""
        return is_marked(folder, self.name) and not is_marked(folder, "harness") and is_case(folder)

    def file_of(self, folder: Path) -> str:
        """Its case.yaml, or its prompt."""
        return CASE if (folder / CASE).is_file() else PROMPT

    def convert(self, folder: Path) -> ConvertedTask:
        """The case as a task of ours. Raises as `Format` says."""
        case, root = read_case(folder), _plugin_above(folder)
        for reason in _reasons(case, folder, root):
            raise NoCounterpartError(reason)
        graders = _scored(case, has_plugin=root is not None)
        names = _check_names(graders)
        manifest: dict[str, Any] = {
            "description": case.description.strip()[:300],
            "tags": list(dict.fromkeys(found for word in case.tags if (found := tag(word)))),
            "timeout": float(case.execution.timeout_seconds),
            "limits": {"max_turns": case.execution.max_turns},
            "checks": {
                "prepare": "command -v node >/dev/null || { echo 'graders need node in the template' >&2; exit 1; }",
                "run": {
                    name: f'node "$HARNESS_CHECKS/grade.mjs" {number}' for number, name in enumerate(names)
                },
                "weights": {name: grader.weight for name, grader in zip(names, graders, strict=True)},
            },
            "sandbox": {"env": case.execution.env},
        }
        if case.context.scaffold_script:
            manifest["setup"] = {
                "run": [_scaffold(folder, case.context.scaffold_script), _LISTED],
                "timeout": 120.0,
            }
        files: dict[str, str | bytes | Path] = {
            "prompt.md": case.execution.prompt or "",
            "checks/grade.mjs": _GRADE,
            "checks/graders.json": json.dumps([_plain(grader) for grader in graders], indent=1),
        }
        return ConvertedTask(manifest, files, beside=_variants(root, folder) if root else {})


def _plugin_above(folder: Path) -> Path | None:
    """The plugin that a case is about: the nearest folder above it that is one."""
    marks = (_MANIFEST, *_OTHER_ROOTS)
    return next((one for one in folder.parents if any((one / mark).is_file() for mark in marks)), None)


def _reasons(case: Case, folder: Path, root: Path | None) -> Iterator[str]:
    """The parts that have no counterpart here."""
    for grader in case.graders:
        if isinstance(grader, JudgeGrader):
            yield f"grader {grader.name!r}: a model judges it, and no check here asks one"
        elif isinstance(grader, RegexGrader) and grader.target == "mock_calls":
            yield f"grader {grader.name!r}: there are no stand-ins for MCP servers whose calls it could count"
    for key in ("model", "append_system_prompt", "disallowed_tools", "artifact_publish"):
        if getattr(case.execution, key):
            yield f"{key}: it is a part of the treatment, which a variant says here"
    for key in ("history_file", "add_dirs"):
        if getattr(case.context, key):
            yield f"context.{key} has no counterpart"
    if case.plugins is not None:
        yield "plugins: which plugins there are is a variant's to say here"
    if root is None:
        return
    if not (root / _MANIFEST).is_file():
        yield f"{root.name} has no {_MANIFEST}, without which a variant cannot load it"
        return
    manifest = _manifest(root)
    if manifest.get("mcpServers") or (root / ".mcp.json").is_file():
        yield f"the plugin {root.name} has MCP servers, for which `claude plugin eval` has stand-ins"


def _manifest(root: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((root / _MANIFEST).read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise NoCounterpartError(f"{root.name}/{_MANIFEST} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}


def _scored(case: Case, *, has_plugin: bool) -> list[Grader]:
    """The graders that count with and without the plugin: those that only tell that it fired do not."""

    def only_tells(grader: Grader) -> bool:
        fires = isinstance(grader, ToolUsedGrader) and grader.tool == "Skill" and grader.arm is None
        return has_plugin and (grader.arm == "with-only" or fires)

    return [grader for grader in case.graders if not only_tells(grader)] or list(case.graders)


def _check_names(graders: list[Grader]) -> list[str]:
    names: list[str] = []
    for grader in graders:
        name = task_name(grader.name)
        names.append(name if name not in names else f"{name}-{len(names) + 1}")
    return names


def _plain(grader: Grader) -> dict[str, Any]:
    found = grader.model_dump(exclude_none=True)
    if isinstance(grader, ToolOrderGrader):
        for key in ("before", "after"):
            found[key] = {"tool": found[key]} if isinstance(found[key], str) else found[key]
    return found


def _scaffold(folder: Path, name: str) -> str:
    """The command that runs a case's scaffold in the run's folder; it is the sandbox that it runs in."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise NoCounterpartError(f"context.scaffold_script: {name} is no file of the case")
    text = path.read_text(encoding="utf-8", errors="replace")
    if _BESIDE_ITSELF.search(text):
        raise NoCounterpartError(f"{name} looks for files beside itself, which are not in the sandbox")
    return f"bash -c {shlex.quote(text)} </dev/null"


def _variants(root: Path, folder: Path) -> dict[str, str | Path]:
    """The two arms, and the plugin without its suite: an agent that may read its graders would be told too much."""
    manifest = _manifest(root)
    name = task_name(str(manifest.get("name") or root.name))
    experimental = manifest.get("experimental")
    given = experimental.get("evals") if isinstance(experimental, dict) else None
    suites = {str(given or "evals").strip("./"), folder.relative_to(root).parts[0]}
    beside: dict[str, str | Path] = {
        f"plugin-{name}/{path.relative_to(root).as_posix()}": path
        for path in files_in(root)
        if not any(path.is_relative_to(root / suite) for suite in suites)
    }
    arms = {"without": {}, f"with-{name}": {"plugins": [f"plugin-{name}"]}}
    return {**beside, "variants.toml": toml_text(arms)}
