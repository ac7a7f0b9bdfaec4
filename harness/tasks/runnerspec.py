"""The rules of `[checks.tests.NAME]` beyond the types of its keys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.tasks.manifest import RunnerSpec

_OF_JUNIT: tuple[str, ...] = ("command", "report")
_OF_THE_OTHERS: tuple[str, ...] = ("paths",)
_ONLY_FOR: dict[str, tuple[str, ...]] = {"plugins": ("pytest",), "pythonpath": ("pytest", "unittest")}


def problems_of(
    spec: RunnerSpec, checks_folder: Path, repo: Path | None, overlay: Path | None = None
) -> Iterator[tuple[str, str, str]]:
    """Each problem: the key, what is wrong and the remedy. `repo` is None where it is not known yet, or empty.

    The files of `overlay` are in the repo, too, when the tests run.
    """
    needed, foreign = _OF_THE_OTHERS, _OF_JUNIT
    if spec.runner == "junit":
        needed, foreign = foreign, needed
    for key in needed:
        if not getattr(spec, key):
            yield key, "is missing", f"give {RunnerSpec.model_fields[key].description}"
    for key in (*foreign, *_ONLY_FOR):
        runners = _ONLY_FOR.get(key, () if key in foreign else (spec.runner,))
        if key in spec.model_fields_set and spec.runner not in runners:
            yield key, f"is not for {spec.runner!r}", "leave it out"
    if not spec.must_pass and spec.at_least is None:
        remedy = 'give must_pass (["*"] for all that are there) or at_least'
        yield "must_pass", "is missing, and at_least too", remedy
    for index, path in enumerate(spec.paths):
        of_checks, in_repo = (
            lies_in_checks(path, checks_folder),
            any(os.path.exists(f"{folder}/{path}") for folder in (repo, overlay) if folder),
        )
        if of_checks and in_repo:
            yield f"paths.{index}", f"{path!r} is in checks/ and in the repo", "rename one of them"
        if repo and not of_checks and not in_repo:
            remedy = "give a file or folder of the starter repo or of checks/"
            yield f"paths.{index}", f"{path!r} is neither in the repo nor in checks/", remedy


def lies_in_checks(path: str, checks_folder: Path | None) -> bool:
    """True if a path of the tests is one of `checks/`; the others are the repo's."""
    is_part = os.path.normpath(path) != os.curdir
    return is_part and checks_folder is not None and os.path.lexists(checks_folder / path)
