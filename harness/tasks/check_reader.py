"""The checks of a task: from its folder `checks/`, and from `[checks]`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from harness.tasks import runnerspec, sessionspec
from harness.tasks.contents import is_executable, open_regular
from harness.tasks.folder_reader import FolderReader
from harness.tasks.globs import is_pattern
from harness.tasks.manifest import Manifest, is_name
from harness.tasks.task import Check
from harness.tasks.tomlfile import display_path


class CheckReader(FolderReader):
    """Reads the checks, and what is said of their files."""

    def checks(self, manifest: Manifest) -> tuple[Check, ...]:
        """Read the checks, in the order in which they run."""
        # Commands may run what the agent wrote, which could lie in wait for the files.
        found = [*self.scripts(), *self.tests(manifest), *self.commands(manifest), *self.of_session(manifest)]
        names = [check.name for check in found]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.complain(self.folder / "checks", name, "two checks have this name", "rename one of them")
        if not found and not any(
            self.wrong(f"checks.{kind}") for kind in ("run", "tests", "answer", "tools")
        ):
            remedy = "add an executable file (chmod +x), [checks.tests] or [checks] run"
            self.complain(self.folder / "checks", None, "has no check", remedy)
        found = list(self.weighted(found, manifest))
        return tuple(self.bound(found, manifest)) if manifest.turns else tuple(found)

    def of_session(self, manifest: Manifest) -> Iterator[Check]:
        """Yield the checks of `[checks.answer]` and `[checks.tools]`."""
        answer, tools = manifest.checks.answer, manifest.checks.tools
        for name, spec in (("answer", answer), ("tools", tools)):
            if spec and not spec.demands and not self.wrong(f"checks.{name}"):
                known = ", ".join(info.alias or key for key, info in type(spec).model_fields.items())
                self.complain(self.file, f"checks.{name}", "demands nothing", f"give one of {known}")
        problems = [("answer", one) for one in sessionspec.problems_of_answer(answer)] if answer else []
        problems += [("tools", one) for one in sessionspec.problems_of_tools(tools)] if tools else []
        for name, (key, what, remedy) in problems:
            self.complain(self.file, f"checks.{name}.{key}", what, remedy)
        if answer and answer.json_ is not None and (wrong := sessionspec.problem_of_schema(answer.json_)):
            self.complain(self.file, "checks.answer.json", wrong, "see https://json-schema.org")
        if answer and answer.demands:
            yield Check(name="answer", answer=answer)
        if tools and tools.demands:
            yield Check(name="tools", tools=tools)

    def weighted(self, checks: list[Check], manifest: Manifest) -> Iterator[Check]:
        """The checks with their weights."""
        weights, names = manifest.checks.weights, {check.name for check in checks}
        for name in weights:
            if name not in names:
                remedy = f"there are: {', '.join(sorted(names))}"
                self.complain(self.file, f"checks.weights.{name}", f"there is no check {name!r}", remedy)
        for check in checks:
            yield replace(check, weight=weights.get(check.name, 1.0))

    def bound(self, checks: list[Check], manifest: Manifest) -> Iterator[Check]:
        """The checks, each with the turn that names it."""
        turn_of: dict[str, int] = {}
        names = ", ".join(check.name for check in checks)
        for index, table in enumerate(manifest.turns):
            for place, name in enumerate(table.checks):
                field_ = f"turns.{index}.checks.{place}"
                if all(check.name != name for check in checks):
                    self.complain(self.file, field_, f"there is no check {name!r}", f"there are: {names}")
                elif turn_of.setdefault(name, index + 1) != index + 1:
                    remedy = "give it a second name in [checks] run"
                    self.complain(self.file, field_, f"{name!r} belongs to an earlier turn", remedy)
        for check in checks:
            # After the last turn is after all of them.
            turn = turn_of.get(check.name)
            yield replace(check, turn=turn if turn != len(manifest.turns) else None)

    def tests(self, manifest: Manifest) -> Iterator[Check]:
        """Yield the checks of `[checks.tests]`."""
        checks, repo = self.folder / "checks", self.folder / manifest.repo.path
        is_known = manifest.repo.git is None and not self.wrong("repo") and repo.is_dir()
        overlay = checks / manifest.checks.overlay if manifest.checks.overlay else None
        for name, spec in manifest.checks.tests.items():
            if self.wrong(f"checks.tests.{name}"):
                continue
            for key, what, remedy in runnerspec.problems_of(
                spec, checks, repo if is_known else None, overlay
            ):
                self.complain(self.file, f"checks.tests.{name}.{key}", what, remedy)
            yield Check(name=name, tests=spec)

    def commands(self, manifest: Manifest) -> Iterator[Check]:
        """Yield the checks of `[checks] run`."""
        for name, command in manifest.checks.run.items():
            if not command.strip():
                self.complain(self.file, f"checks.run.{name}", "is empty", "give a shell command")
            yield Check(name=name, command=command)

    def scripts(self) -> Iterator[Check]:
        """Yield the checks that are files of `checks/`."""
        folder = self.subfolder("checks", "put executable files in it")
        for path in sorted(folder.iterdir()) if folder else []:
            if not path.is_file():
                continue
            problem = _script_problem(path)
            if problem:
                self.complain(path, None, *problem)
            elif is_executable(path):
                if not is_name(path.stem):
                    remedy = "use up to 100 letters, digits, _ - and ., a letter or digit first"
                    self.complain(path, None, "cannot be a check's name", remedy)
                yield Check(name=path.stem, file=path.name)

    def protect(self, manifest: Manifest, repo: Path | None) -> tuple[str, ...]:
        """Check the patterns of protected files."""
        for index, glob in enumerate(manifest.checks.protect):
            if not glob or glob.startswith("/") or ".." in glob.split("/"):
                self.complain(
                    self.file,
                    f"checks.protect.{index}",
                    f"{glob!r} is no pattern of files in the repo",
                    "use a path relative to the repo, such as tests/**",
                )
            elif not is_pattern(glob):
                remedy = "use * ? ** and, in [...], letters, digits and _ . , + @ - alone"
                self.complain(
                    self.file, f"checks.protect.{index}", f"{glob!r} is no pattern of files", remedy
                )
            elif repo and os.path.isdir(repo / glob):
                remedy = f"write {glob.rstrip('/')}/** for all that is in it"
                self.complain(self.file, f"checks.protect.{index}", f"{glob!r} is a folder", remedy)
        return tuple(manifest.checks.protect)

    def overlay(self, manifest: Manifest) -> Path | None:
        """The folder of files that are laid over the repo for the checks."""
        name = manifest.checks.overlay
        path = self.inside(f"checks/{name}", "checks.overlay") if name else None
        if path and not os.path.isdir(path):
            self.complain(
                self.file, "checks.overlay", f"checks/{name} is not a folder", "put the files there"
            )
            return None
        return path


def _script_problem(path: Path) -> tuple[str, str] | None:
    """The problem and the remedy of a file of `checks/` that is probably not what its author thinks."""
    with open_regular(path) as file:
        first = file.readline(1000)
    if first.startswith(b"#!"):
        if not is_executable(path):
            remedy = f"chmod +x {display_path(path)}, or take the #! line out of a helper"
            return "begins with #! but is not executable, so it is no check", remedy
        if first.endswith(b"\r\n"):
            return "has a #! line that ends with a carriage return", "save it with Unix line ends"
    elif is_executable(path) and path.suffix not in ("", ".sh", ".bash") and not first.startswith(b"\x7fELF"):
        remedy = "begin it with a line such as #!/usr/bin/env python3, or chmod -x a helper"
        return "is executable without a #! line, so it would run as a shell script", remedy
    return None
