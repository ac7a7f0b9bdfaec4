"""`harness watch` and `harness show --follow`: a run that goes on, looked at from another terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError
from harness.records.events import Event, Lines, parse_line
from harness.records.files import MAX_LINE, file_below, open_regular
from harness.records.reading import read_records
from harness.records.record import TrialRecord
from harness.records.store import TRANSCRIPT, RunFolder
from harness.records.stream import SessionBuilder
from harness.report.formatting import cost, count
from harness.report.live import RunningTrial, RunStatus, clock, is_running, read_status, status_line
from harness.report.sanitize import sanitize
from harness.report.show import EntryWriter, TrialPage, run_to_show
from harness.report.table import Column, as_text, printable
from harness.report.transcript import entries

_EACH_S = 1.0
_LINE_EACH_S = 30.0
_LOOK_S = 0.3
_TOOL_CHARS = 40
_AT_ONCE = 16 * 1024 * 1024


class TranscriptTail:
    """The events of a transcript that grows, from where they were last read."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.place: tuple[int, int] = (0, 0)
        self._lines = Lines()

    def read(self) -> tuple[list[Event], bool]:
        """The next events, and whether they begin anew: a trial that is tried again has a new transcript."""
        try:
            with open_regular(self._file) as stream:
                inode = self._inode()
                anew = inode != self.place[0]
                if anew:
                    self.place, self._lines = (inode, 0), Lines()
                stream.seek(self.place[1])
                data = stream.read(_AT_ONCE)
        except OSError:  # It is not there yet, or is no file.
            return [], False
        self.place = (inode, self.place[1] + len(data))
        events = [parse_line(line) for line in self._lines.feed(data)]
        if self._lines.waiting > MAX_LINE:
            self._lines = Lines()  # That line is no JSON then, and is told as that.
        return events, anew

    def _inode(self) -> int:
        return self._file.stat().st_ino


class _TrialView:
    """A trial that runs: its last tool and its tokens, by its transcript so far."""

    def __init__(self, run: RunFolder, trial: RunningTrial) -> None:
        self._tail = TranscriptTail(_transcript(run, trial))
        self._session = SessionBuilder()
        self._tool = ""

    def cells(self, trial: RunningTrial) -> list[str]:
        """Its row, after a look at what is new."""
        events, anew = self._tail.read()
        if anew:
            self._session, self._tool = SessionBuilder(), ""
        self._session.add_all(events)
        for entry in entries(events):
            if entry.kind == "tool":
                self._tool = sanitize(entry.title).partition("\n")[0]
        session = self._session.session()
        spent = session.cost_usd if session.cost_usd is not None else trial.spent_usd
        tokens = session.tokens.total
        return [
            trial.trial,
            trial.doing,
            clock(trial.seconds),
            self._tool[:_TOOL_CHARS],
            count(tokens or None),
            cost(spent),
        ]


def watch(results: Path, run_name: str | None) -> None:
    """Show a run that goes on until it ends: redrawn on a terminal, else a line now and then.

    Raises:
        UsageError: when there is no such run.
    """
    run = run_to_show(results, run_name)
    views: dict[str, _TrialView] = {}
    last_line = 0.0
    while is_running(run):
        page = _page(run, views)
        if sys.stdout.isatty():
            lines = page.splitlines()[: shutil.get_terminal_size().lines - 1]
            _say("\x1b[H\x1b[J" + "\n".join(lines) + "\n")
        elif time.monotonic() - last_line > _LINE_EACH_S or not last_line:
            last_line = time.monotonic()
            _say(page.partition("\n\n")[0] + "\n")
        time.sleep(_EACH_S)
    _say(f"run {printable(run.id)} does not go on: `harness show {run.id}` lists its trials\n")


def _page(run: RunFolder, views: dict[str, _TrialView]) -> str:
    status = read_status(run)
    if status is None:
        return f"run {printable(run.id)}: it starts\n"
    head = printable(f"run {run.id}: {status_line(status, named=0)}")
    rows = [views.setdefault(one.trial, _TrialView(run, one)).cells(one) for one in status.running]
    columns = [Column("trial"), Column("doing"), Column("time", right=True), Column("last tool")]
    columns += [Column("tokens", right=True), Column("cost", right=True)]
    return f"{head}\n\n{as_text(columns, rows, width=max(shutil.get_terminal_size().columns, 80))}"


def follow(results: Path, run_name: str | None, name: str | None, *, full: bool) -> None:
    """Print a trial's transcript as it comes, then its diff and checks.

    Raises:
        UsageError: when there is no such run, or no such trial that runs or has run.
    """
    if name is None:
        raise UsageError("--follow needs a trial", remedy="`harness watch` lists those that run")
    run = run_to_show(results, run_name)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    trial = _running_trial(run, name)
    if trial:
        _say(f"{printable(trial.trial)}  runs\n")
        writer = EntryWriter(sys.stdout, full=full, width=width, color=color)
        for event in _events(run, trial):
            for entry in entries([event]):
                writer.entry(entry)
        name = trial.trial
    record = _record(run, name)
    if record is None:
        raise UsageError(f"no trial of run {run.id} that runs or has run is {name!r}", remedy=_those(run))
    page = TrialPage(sys.stdout, run, record, full=full, width=width, color=color)
    if trial:
        page.print_judgement()
        _say(f"\n{printable(record.trial_id)}  {record.outcome.upper()}\n")
    else:
        page.print()


def _events(run: RunFolder, trial: RunningTrial) -> Iterator[Event]:
    """The events of a trial, until it has its record or the run does not go on."""
    tail = TranscriptTail(_transcript(run, trial))
    goes_on, place = True, None
    while goes_on or tail.place != place:
        place = tail.place
        status = read_status(run) if is_running(run) else RunStatus(0, 0, 0, 0, None, None, ())
        goes_on = status is None or any(one.trial == trial.trial for one in status.running)
        yield from tail.read()[0]
        sys.stdout.flush()
        if goes_on:
            time.sleep(_LOOK_S)


def _transcript(run: RunFolder, trial: RunningTrial) -> Path:
    """The transcript of a trial. Raises UsageError where a link leads out of the run's folder."""
    return file_below(run.path, f"{run.trial(trial.task, trial.variant, trial.index).relative}/{TRANSCRIPT}")


def _running_trial(run: RunFolder, name: str) -> RunningTrial | None:
    status = read_status(run)
    found = [one for one in status.running if one.trial.startswith(name)] if status else []
    return found[0] if len(found) == 1 or any(one.trial == name for one in found) else None


def _record(run: RunFolder, name: str) -> TrialRecord | None:
    if not run.records_file.is_file():
        return None
    found = [record for record in read_records(run.path).records if record.trial_id.startswith(name)]
    return found[0] if len(found) == 1 else next((one for one in found if one.trial_id == name), None)


def _those(run: RunFolder) -> str:
    status = read_status(run)
    return (
        f"these run: {', '.join(one.trial for one in status.running)}"
        if status
        else "`harness show` lists them"
    )


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
