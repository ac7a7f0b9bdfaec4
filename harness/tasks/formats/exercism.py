"""Exercism's exercises, which are Aider's polyglot benchmark too: a stub, instructions, tests and an example.

The starter repo is the exercise as its student gets it, with every test switched on; the tests are protected. What
runs them is one of the sandbox's own programs, or comes with a template.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Problem, ProblemsError
from harness.tasks.contents import files_in
from harness.tasks.formats.base import ConvertedTask, NoCounterpartError
from harness.tasks.formats.marks import is_marked
from harness.tasks.tomlfile import display_path

_DOCS = ("introduction.md", "instructions.md", "instructions.append.md")
_TIMEOUT_S, _TESTS_S = 600.0, 120.0
_SKIPS: Mapping[str, tuple[tuple[str, str], ...]] = {
    ".py": ((r"(?m)^[ \t]*@(?:unittest|pytest\.mark)\.skip\b(?:\([^\n]*\))?[ \t]*\n", ""),),
    ".js": (
        (r"\bx(test|it|describe)\b(?=\s*(?:\.each\b|\())", r"\1"),
        (r"\b(test|it|describe)\.skip\b", r"\1"),
    ),
}
_SKIPS = {**_SKIPS, ".ts": _SKIPS[".js"], ".mjs": _SKIPS[".js"]}
_JEST = "/opt/jest"

_PROMPT_END = """

---

Write the solution in {solution}. The tests are in {tests}; they decide, and they stay as they are. Keep the names of
what the tests use. Use the language's standard library only.
"""

_JEST_TEMPLATE = '''"""Claude Code, and jest with what the exercises' package.json names."""

from pathlib import Path

from e2b import Template

from harness.sandboxes.npm_packages import install_packages

here = Path(__file__).parent
install_packages(here / "node_modules", {packages!r})
template = (
    Template(file_context_path=here)
    .from_template("claude")
    .copy("node_modules", {target!r}, user="root", resolve_symlinks=False)
)
'''
_JUNIT_REPORTER = "jest-junit@16"
_NOT_FOR_TESTS = re.compile(r"eslint|^@types/|prettier")


@dataclass(frozen=True)
class _Exercise:
    folder: Path
    solution: tuple[str, ...]
    tests: tuple[str, ...]
    examples: tuple[str, ...]
    about: str


class Exercism:
    """Exercism and Aider's polyglot benchmark."""

    name = "exercism"

    def is_task(self, folder: Path) -> bool:
        """True for its two folders beside each other."""
        return is_marked(folder, self.name)

    def file_of(self, folder: Path) -> str:
        """The first of its files of tests: whoever names that, has the trials and not the tests run."""
        try:
            return _read(folder).tests[0]
        except ProblemsError:
            return ".meta/config.json"

    def convert(self, folder: Path) -> ConvertedTask:
        """The exercise as a task of ours. Raises as `Format` says."""
        exercise = _read(folder)
        tests = _tests(exercise)
        files: dict[str, str | bytes | Path] = {"prompt.md": _prompt(exercise)}
        for path in files_in(folder):
            name = path.relative_to(folder).as_posix()
            if not name.startswith((".meta/", ".docs/")):
                files[f"repo/{name}"] = path
        for name in exercise.tests:
            files[f"repo/{name}"] = unskipped(name, (folder / name).read_text(encoding="utf-8"))
        for source, target in _solution(exercise).items():
            files[f"solution/{target}"] = folder / source
        manifest: dict[str, Any] = {
            "description": exercise.about,
            "tags": ["exercism"],
            "timeout": _TIMEOUT_S,
            **tests.tables,
        }
        if re.match("refactor", exercise.about, re.IGNORECASE):
            # Its tests pass from the start: what is asked for is another form of the same.
            changed = f"! git diff --quiet HEAD -- {shlex.join(exercise.solution)}"
            manifest["checks"] = {**manifest["checks"], "run": {"changed": changed}}
        manifest["checks"] = {"timeout": _TESTS_S, "protect": tests.protect, **manifest.get("checks", {})}
        return ConvertedTask(manifest, files, tests.shared)


def _read(folder: Path) -> _Exercise:
    subject, file = f"exercise {folder.name!r} cannot be used:", folder / ".meta" / "config.json"

    def fail(field: str | None, what: str) -> ProblemsError:
        return ProblemsError(
            subject, [Problem(display_path(file), field, what, "see Exercism's own documentation")]
        )

    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise fail(None, f"is no JSON: {error}") from error
    files = config.get("files") if isinstance(config, dict) else None
    if not isinstance(files, dict):
        raise fail("files", "is missing")
    named: dict[str, tuple[str, ...]] = {}
    for key in ("solution", "test", "example", "exemplar", "editor"):
        given = files.get(key, [])
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise fail(f"files.{key}", "is no list of paths")
        for name in given:
            if name.startswith("/") or ".." in name.split("/") or not (folder / name).is_file():
                raise fail(f"files.{key}", f"{name!r} is no file of the exercise")
        named[key] = tuple(given)
    for key in ("solution", "test"):
        if not named[key]:
            raise fail(f"files.{key}", "is missing")
    examples = named["example"] or named["exemplar"]
    return _Exercise(folder, named["solution"], named["test"], examples, str(config.get("blurb") or "")[:300])


def _prompt(exercise: _Exercise) -> str:
    docs = [exercise.folder / ".docs" / name for name in _DOCS]
    texts = [path.read_text(encoding="utf-8").strip() for path in docs if path.is_file()]
    if not texts:
        raise NoCounterpartError(".docs has no instructions")
    end = _PROMPT_END.format(solution=", ".join(exercise.solution), tests=", ".join(exercise.tests))
    return "\n\n".join(texts) + end


def _solution(exercise: _Exercise) -> dict[str, str]:
    """The place in the repo of each file of the example."""
    if not exercise.examples:
        return {}
    if len(exercise.examples) == len(exercise.solution) == 1:
        return {exercise.examples[0]: exercise.solution[0]}
    left = list(exercise.solution)
    placed: dict[str, str] = {}
    for example in exercise.examples:
        target = next((name for name in left if Path(name).name == Path(example).name), None)
        target = target or next((name for name in left if Path(name).suffix == Path(example).suffix), None)
        if target:
            left.remove(target)
        placed[example] = target or str(Path(exercise.solution[0]).parent / Path(example).name)
    return placed


def unskipped(name: str, text: str) -> str:
    """A file of tests with every test in it switched on."""
    for pattern, replacement in _SKIPS.get(Path(name).suffix, ()):
        text = re.sub(pattern, replacement, text)
    return text


@dataclass(frozen=True)
class _Tests:
    """The way an exercise's tests are run: tables of task.toml, protected files of the repo, files beside the task."""

    tables: Mapping[str, Any]
    protect: list[str]
    shared: Mapping[str, str]


def _tests(exercise: _Exercise) -> _Tests:
    suffix = Path(exercise.tests[0]).suffix
    if suffix == ".py":
        return _python_tests(exercise)
    if suffix in (".js", ".mjs", ".ts") and (exercise.folder / "package.json").is_file():
        return _jest_tests(exercise)
    raise NoCounterpartError(f"{exercise.tests[0]}: nothing here runs tests of that language")


def _python_tests(exercise: _Exercise) -> _Tests:
    paths = [name for name in exercise.tests if name.endswith(".py")]
    text = "".join((exercise.folder / name).read_text(encoding="utf-8") for name in paths)
    runner = "unittest" if "unittest" in text and "pytest" not in text else "pytest"
    spec = {"runner": runner, "paths": paths, "must_pass": ["*"]}
    # pytest, and what else the exercise names, comes into the template.
    repo = {"repo": {"path": "repo", "env": "auto"}} if runner == "pytest" else {}
    return _Tests({"checks": {"tests": {"tests": spec}}, **repo}, list(exercise.tests), {})


def _jest_tests(exercise: _Exercise) -> _Tests:
    packages = json.loads((exercise.folder / "package.json").read_text(encoding="utf-8"))
    needed = {**packages.get("devDependencies", {}), **packages.get("dependencies", {})}
    if not any("jest" in name for name in needed):
        raise NoCounterpartError("package.json: its tests are not jest's")
    words = [
        f"{name}@{version}" for name, version in sorted(needed.items()) if not _NOT_FOR_TESTS.search(name)
    ]
    words.append(_JUNIT_REPORTER)
    template = _JEST_TEMPLATE.format(packages=words, target=f"{_JEST}/node_modules")
    shared = f"jest-{hashlib.sha256(template.encode()).hexdigest()[:12]}"
    paths = shlex.join(exercise.tests)
    link = f"ln -sfn {_JEST}/node_modules node_modules"
    run = f"node node_modules/jest/bin/jest.js --ci --silent --reporters=jest-junit --runTestsByPath {paths}"
    kept = [name for name in ("package.json", "babel.config.js") if (exercise.folder / name).is_file()]
    spec = {
        "runner": "junit",
        "command": "JEST_JUNIT_OUTPUT_DIR=.jest JEST_JUNIT_CLASSNAME='{classname}' JEST_JUNIT_TITLE='{title}' "
        + run,
        "report": ".jest/*.xml",
        "must_pass": ["*"],
        "at_least": 1,
    }
    tables = {
        "setup": {"run": [link]},
        "checks": {"prepare": link, "leave": ["node_modules"], "tests": {"tests": spec}},
        "sandbox": {"template": f"{shared}/template.py:template"},
    }
    return _Tests(tables, [*exercise.tests, *kept], {f"{shared}/template.py": template})
