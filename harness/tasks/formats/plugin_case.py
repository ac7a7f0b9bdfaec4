"""A case of `claude plugin eval`, as Claude Code 2.1.332 reads it: case.yaml, prompt.md and graders/*.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import Problem, ProblemsError
from harness.tasks.tomlfile import display_path

CASE, PROMPT, GRADERS = "case.yaml", "prompt.md", "graders"
_MAX_BYTES = 1024 * 1024
_TOP = frozenset(("schema_version", "name", "description", "tags", "plugins", "runs", "expected_outcome"))
_BODY_OF = {"llm": "criteria", "baseline": "criteria", "regex": "pattern"}
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(?P<yaml>.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_BLANK = "TODO: describe what"
_REMEDY = "`claude plugin eval` refuses it too; https://code.claude.com/docs has the format"


class _CasePart(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileTarget(_Strict):
    """A file of the run's folder."""

    source: Literal["file"]
    path: str


Target = Literal["trace", "last_message", "files", "mock_calls"] | FileTarget


class _Grader(_Strict):
    name: str
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    arm: Literal["with-only", "both"] | None = None


class RegexGrader(_Grader):
    """A pattern that a text has, has not, or has so many times."""

    type: Literal["regex"]
    target: Target = "last_message"
    pattern: str
    flags: Annotated[str, Field(pattern=r"^[dgimsuvy]*$")] = ""
    match: Annotated[str, Field(pattern=r"^(contains|not_contains|count:[0-9]+)$")] = "contains"


class ExpectedToolCall(_Strict):
    """A call of a tool, perhaps with a pattern that its input has."""

    tool: str
    input_match: str | None = None


class ToolUsedGrader(_Grader):
    """A tool that is called so often."""

    type: Literal["tool_used"]
    tool: str
    input_match: str | None = None
    min: int | None = Field(None, ge=0)
    max: int | None = Field(None, ge=0)


class ToolOrderGrader(_Grader):
    """A tool that is called before another."""

    type: Literal["tool_order"]
    before: str | ExpectedToolCall
    after: str | ExpectedToolCall


class FileExistsGrader(_Grader):
    """A file that the run makes, or does not."""

    type: Literal["file_exists"]
    path: str
    exists: bool = True


class JudgeGrader(_Grader):
    """A grader that is a model."""

    type: Literal["llm", "baseline"]
    criteria: str
    focus: Target = "last_message"
    baseline_file: str | None = None


Grader = Annotated[
    RegexGrader | ToolUsedGrader | ToolOrderGrader | FileExistsGrader | JudgeGrader,
    Field(discriminator="type"),
]


class Context(_CasePart):
    """The state before the prompt."""

    scaffold_script: str | None = None
    history_file: str | None = None
    add_dirs: list[str] = []


class Execution(_CasePart):
    """The prompt, and how it is run."""

    prompt: str | None = None
    max_turns: int = Field(10, gt=0, le=200)
    timeout_seconds: int = Field(300, gt=0, le=3600)
    model: str | None = None
    disallowed_tools: list[str] = []
    artifact_publish: bool = False
    append_system_prompt: str | None = None
    env: dict[str, str] = {}


class Case(_CasePart):
    """The whole case."""

    schema_version: Annotated[str, Field(pattern=r"^[01](\.|$)")]
    name: str = Field(min_length=1)
    description: str = ""
    tags: list[str] = []
    plugins: list[str] | None = None
    context: Context = Context()
    execution: Execution = Execution()
    graders: list[Grader] = Field(min_length=1)


def is_case(folder: Path) -> bool:
    """True for a folder with a case.yaml of a schema, or a prompt beside graders."""
    try:
        text = (folder / CASE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return (folder / PROMPT).is_file() and any((folder / GRADERS).glob("*.md"))
    return re.search(r"^[\"']?schema_version[\"']?\s*:", text, re.MULTILINE) is not None


def read_case(folder: Path) -> Case:
    """The case of a folder.

    Raises:
        ProblemsError: when Claude Code would not run it either.
    """
    reader = _CaseReader(folder)
    data = reader.merged()
    try:
        case = Case.model_validate(data)
    except ValidationError as error:
        reader.problems += (
            Problem(display_path(folder), ".".join(map(str, one["loc"])), one["msg"], _REMEDY)
            for one in error.errors(include_url=False)
        )
        raise reader.error() from error
    names = [grader.name for grader in case.graders]
    texts = (
        case.execution.prompt,
        *(getattr(one, "criteria", getattr(one, "pattern", "")) for one in case.graders),
    )
    for is_wrong, what in (
        (not (case.execution.prompt or "").strip(), "has no prompt"),
        (len(set(names)) < len(names), "has two graders of one name"),
        (any(_BLANK in (text or "") for text in texts), f'is still the blank template ("{_BLANK} ...")'),
    ):
        if is_wrong:
            reader.problems.append(Problem(display_path(folder), None, what, _REMEDY))
    if reader.problems:
        raise reader.error()
    return case


class _CaseReader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[Problem] = []

    def error(self) -> ProblemsError:
        return ProblemsError(f"case {self.folder.name!r} of a plugin's suite cannot be used:", self.problems)

    def merged(self) -> dict[str, Any]:
        """case.yaml, with prompt.md and the graders of files over it."""
        data = self.yaml(self.folder / CASE) or {"schema_version": "1.1", "name": self.folder.name}
        execution, prose = dict(_table(data.get("execution"))), self.prose(self.folder / PROMPT)
        front, body = prose or ({}, "")
        denied = [*_list(execution.get("disallowed_tools")), *_list(front.get("disallowed_tools"))]
        execution |= {key: value for key, value in front.items() if key not in _TOP}
        if denied:
            execution["disallowed_tools"] = denied
        if body:
            execution["prompt"] = body
        top = {key: value for key, value in front.items() if key in _TOP}
        graders = [*_list(data.get("graders")), *self.graders()]
        return {**data, **top, "execution": execution, "graders": graders}

    def graders(self) -> Iterator[dict[str, Any]]:
        for path in sorted((self.folder / GRADERS).glob("*.md")):
            found = self.prose(path)
            if found is None or not found[0]:
                continue
            front, body = found
            grader = {"name": path.stem, **front}
            key = _BODY_OF.get(str(front.get("type")))
            if key and body:
                grader.setdefault(key, body)
            yield grader

    def prose(self, path: Path) -> tuple[dict[str, Any], str] | None:
        """A file's front matter, and its text; None where there is no such file."""
        text = self.text(path)
        if text is None:
            return None
        found = _FRONT_MATTER.match(text)
        return (
            (self.parsed(found["yaml"], path), text[found.end() :].strip()) if found else ({}, text.strip())
        )

    def yaml(self, path: Path) -> dict[str, Any] | None:
        text = self.text(path)
        return self.parsed(text, path) if text and text.strip() else None

    def parsed(self, text: str, path: Path) -> dict[str, Any]:
        """YAML whose scalars are all texts: what they stand for is the schema's to say."""
        import yaml

        try:
            value = yaml.load(text, yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError) as error:
            self.complain(path, f"is no YAML: {' '.join(str(error).split())[:300]}")
            return {}
        if value in (None, ""):
            return {}
        if not isinstance(value, dict):
            self.complain(path, "is no YAML object")
            return {}
        return value

    def text(self, path: Path) -> str | None:
        try:
            if not path.is_file():
                return None
            if path.stat().st_size > _MAX_BYTES:
                self.complain(path, "has more than 1 MiB")
                return None
            return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
        except (OSError, UnicodeDecodeError) as error:
            self.complain(path, f"cannot be read: {error}")
            return None

    def complain(self, path: Path, what: str) -> None:
        self.problems.append(Problem(display_path(path), None, what, _REMEDY))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
