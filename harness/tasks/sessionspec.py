"""The rules of `[checks.answer]` and `[checks.tools]` beyond the types of their keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.tasks.manifest import AnswerSpec, ToolsSpec

Problem = tuple[str, str, str]
"""A key, what is wrong and the remedy."""
_TOOLS = (  # noqa: SIM905
    "Agent AskUserQuestion Bash BashOutput Brief Config CronCreate CronDelete CronList Edit EnterPlanMode "
    "EnterWorktree ExitPlanMode ExitWorktree Glob Grep KillShell LS LSP ListAgents ListMcpResourcesTool "
    "Monitor MultiEdit NotebookEdit NotebookRead PowerShell PushNotification REPL Read "
    "ReadMcpResourceDirTool ReadMcpResourceTool RemoteTrigger ReportFindings ScheduleWakeup SendMessage "
    "SendUserFile SendUserMessage Skill SlashCommand Sleep StructuredOutput Task TaskCreate TaskGet "
    "TaskList TaskOutput TaskStop TaskUpdate TeamCreate TeamDelete TodoRead TodoWrite ToolSearch WebFetch "
    "WebSearch Workflow Write"
).split()
"""Claude Code's own tools, of this version and earlier ones. Others may come: a `*` lets any name pass."""
_MCP = re.compile(r"mcp__.+?__.+")
_WILD = re.compile(r"[\w.:-]*\*[\w.:*-]*")
_RULE = re.compile(r"(\w+)\((.*)\)")
_LIKE = 0.7
_FILLED_IN = re.compile(r"\{\{.*\}\}")


def problems_of_answer(spec: AnswerSpec) -> Iterator[Problem]:
    """Demands that no answer can meet. What rows fill in is not known yet."""
    if spec.equals is None or _FILLED_IN.search(f"{spec.equals}{spec.contains}{spec.regex}"):
        return
    text = spec.equals.strip()
    for index, part in enumerate(spec.contains):
        if part not in text:
            yield f"contains.{index}", f"{part!r} is not in what `equals` wants", "leave one of them out"
    if spec.regex is not None and re.search(spec.regex, text) is None:
        yield "regex", "does not fit what `equals` wants", "leave one of them out"


def problems_of_tools(spec: ToolsSpec) -> Iterator[Problem]:
    """Names that are probably mistyped, and demands that no session can meet."""
    names: Mapping[str, Sequence[str]] = {
        "used": spec.used,
        "not_used": spec.not_used,
        "order": spec.order,
        "at_most": tuple(spec.at_most),
        "arguments": tuple(spec.arguments),
    }
    for key, given in names.items():
        for index, name in enumerate(given):
            if not _is_tool(name):
                place = f"{key}.{name}" if key in ("at_most", "arguments") else f"{key}.{index}"
                yield place, f"Claude Code has no tool {name!r}", _meant(name)
    needed = dict.fromkeys((*spec.used, *spec.arguments), 1)
    needed |= {name: spec.order.count(name) for name in spec.order}
    for index, name in enumerate(spec.not_used):
        if name in needed:
            yield f"not_used.{index}", f"{name!r} is to be used, too", "leave one of them out"
    for name, most in spec.at_most.items():
        if most < needed.get(name, 0):
            what = f"{most} is less than the {needed[name]} that the others want"
            yield f"at_most.{name}", what, "give a higher number"
    if len(spec.order) == 1:
        yield "order", "names one tool", "name two or more, or put it into used"


def _is_tool(name: str) -> bool:
    forms = (_MCP.fullmatch, _WILD.fullmatch, _FILLED_IN.search)
    return name in _TOOLS or name.startswith("Skill:") or any(form(name) for form in forms)


def _meant(name: str) -> str:
    """The remedy for a name that is no tool's."""
    rule = _RULE.fullmatch(name)
    if rule:
        return f"write {rule[1]!r}, and what it is called with into [checks.tools] arguments"
    if name.startswith("mcp__"):
        return f"write '{name.rstrip('_')}__*' for all tools of a server, mcp__SERVER__TOOL for one"
    if name.lower().startswith("skill:"):
        return f"write 'Skill{name[5:]}'"
    by_case = {tool.lower(): tool for tool in _TOOLS}
    close = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=_LIKE)
    if close:
        return f"write {by_case[close[0]]!r}; for another tool, {name + '*'!r}"
    newer = re.sub(r"[^\w.:-]", "", name)
    return f"write a tool of its own, mcp__SERVER__TOOL or Skill:NAME; for one that is newer than harness, '{newer}*'"


def problem_of_schema(schema: Any) -> str | None:
    """The problem of a JSON Schema that cannot be used; it may refer to its own parts only."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        return f"is no JSON Schema: {error.json_path}: {error.message}"
    for ref in _refs(schema):
        if not _leads_to_a_part(schema, ref):
            return f"refers to {ref!r}, which is no part of it"
    return None


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _refs(inner)


def _leads_to_a_part(schema: Any, ref: str) -> bool:
    if not ref.startswith("#"):
        return False
    for part in ref.removeprefix("#").split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list) and key.isdigit() and int(key) < len(schema):
            schema = schema[int(key)]
        elif isinstance(schema, dict) and key in schema:
            schema = schema[key]
        else:
            return False
    return True
