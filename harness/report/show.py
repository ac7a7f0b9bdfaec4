"""`harness show`: a trial as a person would read it: verdict, transcript, diff, checks."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

from rich.style import Style
from rich.text import Text

from harness.errors import UsageError
from harness.records.events import Event, parse_line
from harness.records.files import MAX_LINE, bounded_lines, file_below, open_regular, read_bounded
from harness.records.reading import Records, bad_line_notes, find_record, find_run, list_runs, read_records
from harness.records.record import TrialRecord
from harness.records.store import RunFolder
from harness.report.formatting import cost, count, seconds
from harness.report.live import is_running, read_status, status_line
from harness.report.sanitize import sanitize, sanitize_json
from harness.report.table import Column, as_text, printable
from harness.report.transcript import TranscriptEntry, entries
from harness.report.trial_summary import check_verdict, summary_facts

_CUT_LINES = 12
_CUT_DIFF = 400
_CUT_CHARS = 2000
# Each kind of entry has a sign before it, and a style.
_LOOKS = {
    "text": ("●", ""),
    "thinking": ("…", "dim italic"),
    "tool": ("▸", "cyan"),
    "result": (" ", "dim"),
    "note": ("!", "yellow"),
    "turn": ("■", "bold"),
    "start": (" ", "dim"),
    "end": (" ", "dim"),
}


def show(
    results: Path,
    run_name: str | None,
    trial: str | None,
    out: TextIO,
    *,
    full: bool,
    as_json: bool,
    color: bool,
    width: int | None = None,
) -> None:
    """Write a trial of a run in words, in lines of `width` columns; without a trial, the run's trials in a table.

    Raises:
        UsageError: when there is no such run or trial.
    """
    run = run_to_show(results, run_name)
    if trial is None:
        is_begun = run.records_file.is_file() or not is_running(run)
        found = read_records(run.path) if is_begun else Records[TrialRecord]((), ())
        notes = "".join(f"{printable(note)}\n" for note in bad_line_notes(found.bad))
        status = read_status(run)
        out.write(_trials(run, found.records, color=color) + notes)
        out.write(f"\n{printable(status_line(status))}\n" if status else "")
        return
    record = find_record(run, trial)
    if as_json:
        out.write(sanitize_json(json.dumps(record.line(), indent=2, ensure_ascii=False)) + "\n")
        return
    TrialPage(out, run, record, full=full, width=width, color=color).print()


def run_and_trial(results: Path, names: Sequence[str], run_name: str | None) -> tuple[str | None, str | None]:
    """The run and the trial that names mean: `RUN TRIAL`, `TRIAL` of the last run, or `RUN`.

    Raises:
        UsageError: when there are more of them, or two runs are named.
    """
    if len(names) > 2 or (len(names) == 2 and run_name):
        raise UsageError("too many names", remedy="give a run and a trial: `harness show RUN TRIAL`")
    if len(names) == 2:
        return names[0], names[1]
    if names and not run_name and _is_run(results, names[0]):
        return names[0], None
    return run_name, names[0] if names else None


def _is_run(results: Path, name: str) -> bool:
    return os.path.isfile(Path(name) / "run.json") or any(
        run.id.startswith(name) for run in list_runs(results)
    )


def run_to_show(results: Path, name: str | None) -> RunFolder:
    """The run of that name; without one the last that has records, or goes on.

    Raises:
        UsageError: when there is none.
    """
    if name is None:
        for run in reversed(list_runs(results)):
            if is_running(run) or (run.records_file.is_file() and run.records_file.stat().st_size):
                return run
    return find_run(results, name)


def _trials(run: RunFolder, records: tuple[TrialRecord, ...], *, color: bool) -> str:
    columns = [Column("trial"), Column("outcome"), *(Column(name, right=True) for name in _NUMBERS)]
    rows: list[list[str | Text]] = [
        [
            record.trial_id,
            Text(record.outcome, style=_OUTCOME_STYLES[record.outcome]),
            f"{record.score:.2f}" if record.score is not None else "-",
            seconds(record.phases_ms.own),
            count(record.tokens.total),
            cost(record.total_cost_usd),
        ]
        for record in records
    ]
    return f"run {printable(run.id)}\n\n{as_text(columns, rows, color=color)}"


_NUMBERS = ("score", "time", "tokens", "cost")
_OUTCOME_STYLES = {"passed": "green", "failed": "red", "error": "yellow", "invalid": "yellow"}


class EntryWriter:
    """Writes entries of a transcript to a terminal or a file; lines are folded to `width` columns."""

    def __init__(self, out: TextIO, *, full: bool, width: int | None, color: bool) -> None:
        self._out = out
        self._full = full
        self._width = width
        self._color = color

    def _line(self, text: str = "", style: str = "", indent: int = 0) -> None:
        # A console of rich's takes a hundred times as long for each of what may be a million lines.
        look = Style.parse(style) if self._color else Style.null()
        for line in sanitize(text).expandtabs(4).split("\n"):
            for part in _folded(line, self._width and self._width - indent):
                self._out.write(look.render(" " * indent + part) + "\n")

    def entry(self, entry: TranscriptEntry) -> None:
        """Write one entry."""
        indent = 4 if entry.subagent else 0
        sign, style = _LOOKS[entry.kind]
        if entry.error:
            style = "red"
        if entry.kind not in ("text", "thinking", "result"):
            self._line(f"{sign} {entry.title}", style, indent)
        elif entry.kind != "result":
            first, _, rest = entry.body.strip().partition("\n")
            self._line(f"{sign} {first}", style, indent)
            if rest:
                self._line(rest, style, indent + 2)
            return
        for line in self._cut(entry.body):
            self._line(line, style if entry.error else "dim", indent + 4)

    def _cut(self, text: str) -> Iterator[str]:
        yield from self._first(text.strip("\n").splitlines())

    def _first(self, lines: Sequence[str], most: int = _CUT_LINES) -> Iterator[str]:
        shown = lines if self._full or len(lines) <= most + 2 else lines[:most]
        for line in shown:
            more = 0 if self._full else len(line) - _CUT_CHARS
            yield f"{line[:_CUT_CHARS]}… {more} more characters (--full shows them)" if more > 0 else line
        if len(shown) < len(lines):
            yield f"… {len(lines) - len(shown)} more lines (--full shows them)"


class TrialPage(EntryWriter):
    """The page of a trial that has its record."""

    def __init__(
        self, out: TextIO, run: RunFolder, record: TrialRecord, *, full: bool, width: int | None, color: bool
    ) -> None:
        super().__init__(out, full=full, width=width, color=color)
        self._run = run
        self._record = record

    def print(self) -> None:
        """Print all of it."""
        self._head()
        self._transcript()
        self.print_judgement()

    def print_judgement(self) -> None:
        """Print what came of the trial: its diff and its checks."""
        self._diff()
        self._checks()

    def _section(self, name: str) -> None:
        self._line()
        self._line(f"── {name} ".ljust(78, "─"), "bold")

    def _head(self) -> None:
        record = self._record
        self._line(f"{record.trial_id}  {record.outcome.upper()}", f"bold {_OUTCOME_STYLES[record.outcome]}")
        for name, value in summary_facts(record):
            self._line(f"  {name:<10}{value}")
        if record.error:
            self._line(f"  {record.error.cause} ({record.error.type}): {record.error.message}", "yellow")
        told = [f"not as the variant asks for: {difference}" for difference in record.differences]
        told += [f"attempt {one.number} was broken off: {one.error.message}" for one in record.attempts]
        told += [*(change.sentence for change in record.tampering), *record.notes]
        for line in self._first(told):
            self._line(f"  {line}", "yellow")

    def _transcript(self) -> None:
        self._section("transcript")
        name = self._record.transcript
        if name is None:
            self._line("(none)", "dim")
            return
        try:
            with open_regular(file_below(self._run.path, name)) as file:
                for entry in entries(self._events(file)):
                    self.entry(entry)
        except (OSError, UsageError) as error:
            self._unreadable(name, error)

    def _events(self, file: BinaryIO) -> Iterator[Event]:
        for line in bounded_lines(file):
            if line is None:
                self._line(f"(a line of more than {MAX_LINE // 2**20} MiB is left out)", "yellow")
            elif line.strip():
                yield parse_line(line.removesuffix(b"\n"))

    def _diff(self) -> None:
        self._section("diff")
        data = self._file(self._record.diff)
        if not data:
            self._line("(no change)" if data == b"" else "(none)", "dim")
            return
        for line in self._first(data.decode("utf-8", "replace").splitlines(), _CUT_DIFF):
            style = {"+": "green", "-": "red", "@": "cyan"}.get(
                line[:1], "bold" if line.startswith("diff ") else ""
            )
            self._line(line, style)

    def _checks(self) -> None:
        self._section("checks")
        for check in self._record.checks:
            about = f"{_when(check.turn)}  score {check.score:g}, {seconds(check.duration_ms)}"
            style = "green" if check.passed else "red"
            self._line(f"{check_verdict(check):<11} {check.name}{about}", style)
            for line in self._cut(check.output_tail):
                self._line(line, "dim", 4)
        if not self._record.checks:
            self._line("(none were run)", "dim")

    def _file(self, relative: str | None) -> bytes | None:
        if relative is None:
            return None
        try:
            return read_bounded(file_below(self._run.path, relative))
        except (OSError, UsageError) as error:
            self._unreadable(relative, error)
            return None

    def _unreadable(self, relative: str, error: Exception) -> None:
        words = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
        self._line(f"{relative} cannot be read: {words}", "yellow")


def _folded(line: str, width: int | None) -> list[str]:
    """A line in pieces that fit; further pieces stand as far in as the line does."""
    inset = line[: len(line) - len(line.lstrip())]
    if width is None or len(line) <= width or len(inset) > width // 2:
        return [line]
    return textwrap.wrap(
        line.strip(), width, initial_indent=inset, subsequent_indent=inset, break_on_hyphens=False
    )


def _when(turn: int | None) -> str:
    return f" (after prompt {turn})" if turn else ""
