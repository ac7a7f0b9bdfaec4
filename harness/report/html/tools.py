"""The section of tools: the calls of tools, and the MCP servers, by variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.records.record import TrialRecord
from harness.report.formatting import UNKNOWN, percent
from harness.report.html.page_data import NumberedRecord, PageData


@dataclass(frozen=True)
class ToolCell:
    """A tool under a variant: calls a trial as a number and as a bar (in percent), and errors in words."""

    calls: str
    bar: float
    errors: str | None


@dataclass(frozen=True)
class ToolRow:
    """A tool; `server` is the MCP server that it belongs to, empty for Claude Code's own."""

    name: str
    server: str
    cells: tuple[ToolCell, ...]


@dataclass(frozen=True)
class ServerRow:
    """An MCP server: its states under each variant, in words."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class ToolsSection:
    """A row for each tool that was called, and one for each MCP server that any trial had."""

    tools: tuple[ToolRow, ...]
    servers: tuple[ServerRow, ...]


def tools_section(data: PageData) -> ToolsSection | None:
    """The section, None when there is neither a tool nor a server."""
    trials = [data.trials[arm.view.name] for arm in data.arms]
    tools, servers = tuple(_tools(trials)), tuple(_servers(trials))
    return ToolsSection(tools, servers) if tools or servers else None


@dataclass(frozen=True)
class _Use:
    """A variant's use of tools, over its trials that count."""

    trials: int
    calls: Counter[str]
    errors: Counter[str]

    @classmethod
    def of(cls, trials: Sequence[NumberedRecord]) -> _Use:
        use = cls(sum(trial.counts for trial in trials), Counter(), Counter())
        for trial in trials:
            for tool, counts in trial.record.tools.items() if trial.counts else ():
                use.calls[tool] += counts.calls
                use.errors[tool] += counts.errors
        return use

    def each(self, tool: str) -> float:
        """Calls a trial."""
        return self.calls[tool] / self.trials if self.trials else 0.0

    def cell(self, tool: str, most: float) -> ToolCell:
        """The tool's cell; `most` calls a trial fill the bar."""
        if not self.trials:
            return ToolCell(UNKNOWN, 0.0, None)
        calls, errors, each = self.calls[tool], self.errors[tool], self.each(tool)
        shown = f"{each:.1f}" if each >= 0.05 or not calls else "<0.1"
        failed = f"{percent(errors / calls)} errors" if errors else None
        return ToolCell(shown, round(100 * each / most, 1), failed)


def _tools(trials: Sequence[Sequence[NumberedRecord]]) -> Iterator[ToolRow]:
    """Claude Code\'s own first, then each MCP server\'s, the busiest first."""
    uses = [_Use.of(of_arm) for of_arm in trials]
    total = sum((use.calls for use in uses), Counter())
    most = max((use.each(tool) for use in uses for tool in total), default=0.0) or 1.0
    for tool in sorted(total, key=lambda name: (_parts(name)[0], -total[name], name)):
        server, name = _parts(tool)
        yield ToolRow(name, server, tuple(use.cell(tool, most) for use in uses))


def _parts(tool: str) -> tuple[str, str]:
    """A tool's MCP server and its name there: Claude Code names them `mcp__SERVER__TOOL`."""
    kind, _, rest = tool.partition("__")
    server, _, name = rest.partition("__")
    return (server, name) if kind == "mcp" and server and name else ("", tool)


def _servers(trials: Sequence[Sequence[NumberedRecord]]) -> Iterator[ServerRow]:
    records = [[trial.record for trial in of_arm] for of_arm in trials]
    for server in sorted({name for of_arm in records for record in of_arm for name in record.mcp_servers}):
        yield ServerRow(server, tuple(_server_in_words(server, of_arm) for of_arm in records))


def _server_in_words(server: str, records: Sequence[TrialRecord]) -> str:
    """Its states, and how many of the tools that it offered were used at all."""
    states = Counter(record.mcp_servers[server] for record in records if server in record.mcp_servers)
    told = [f"{state} in {number} of {len(records)} trials" for state, number in states.most_common()]
    seen = [record.mcp[server] for record in records if server in record.mcp]
    offered = {tool for one in seen for tool in one.offered}
    if offered:
        used = offered & {tool for one in seen for tool in one.tools}
        told.append(f"{len(used)} of its {len(offered)} tools used")
    return ", ".join(told) or UNKNOWN
