"""The trials of a run, from wherever they are asked for: one engine, in the process that the user has started."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import Fault, HarnessError, InternalFault, UsageError
from harness.records.history import History, read_history
from harness.records.record import AttemptRecord, TrialRecord, TrialSpec
from harness.records.store import NO_REDACTION, Redactor, RunFolder, RunLock, find_run, new_run_id
from harness.runs.budget import Budget, NotStartedError, spent_before
from harness.runs.engine import Engine
from harness.runs.forecast import Planned, forecast
from harness.runs.options import Options
from harness.runs.progress import Progress
from harness.runs.request import RunRequest
from harness.runs.resources import (
    RunResources,
    choose_model,
    default_concurrency,
    open_run_resources,
    uses_local,
)
from harness.runs.resume import ResumedRun, load_resumed_run
from harness.sandboxes.cleanup import kill_run_sandboxes
from harness.sandboxes.pacing import Pacer
from harness.trials.attempt import Attempt, trial_record
from harness.trials.context import RunContext
from harness.trials.runner import Retries

if TYPE_CHECKING:
    from harness.runs.rounds import RoundScheduler

EXIT_BUDGET = 6
"""pytest's exit code when trials were skipped since the money was spent, whatever the others came to."""


@dataclass(frozen=True)
class OpenRun:
    """What an open run has."""

    resources: RunResources
    engine: Engine
    before: ResumedRun
    lock: RunLock
    request: RunRequest


@dataclass
class _Led:
    """A trial that a test leads itself, and its known cost and tokens without one so far."""

    spec: TrialSpec
    earlier: Sequence[AttemptRecord]
    spent: tuple[float, int] = (0.0, 0)


class RunController:
    """Opened when the first trial is asked for. May be used from several threads."""

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self._config = config
        self.options = options
        self.run_id = ""
        self.grace_s = 0.0
        self.error: HarnessError | None = None
        self._open: OpenRun | None = None
        self._futures: dict[str, Future[TrialRecord]] = {}
        self._leaders: dict[str, str] = {}
        self._led: dict[str, _Led] = {}
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._signals = 0
        self._handlers: dict[int, Any] = {}

    def open(self, request: RunRequest | None = None) -> OpenRun:
        """Start what the run needs: server, world, engine; `request` counts the first time.

        Raises:
            UsageError: when something asked for cannot be had.
        """
        with self._lock:
            if self.error:
                raise self.error
            if self._open is None:
                try:
                    self._open = self._opened(request or RunRequest())
                except HarnessError as error:
                    self.error = error
                    raise
            return self._open

    @functools.cached_property
    def _before(self) -> ResumedRun:
        """What the run that is resumed has."""
        if self.options.resume is None:
            return ResumedRun()
        run = find_run(self.options.results, self.options.resume or None)
        before = load_resumed_run(run)
        self.options = replace(self.options, results=run.path.parent)
        return before

    def _opened(self, request: RunRequest) -> OpenRun:
        before, options = self._before, self.options
        if options.until_decided:
            _refuse_undecidable(options, request, before)
        self.run_id = before.folder.id if before.folder else new_run_id()
        resources = open_run_resources(options, self.run_id, request)
        try:
            lock = resources.context.folder.lock()
        except HarnessError:
            resources.close()
            raise
        resources = replace(resources, context=replace(resources.context, pacer=Pacer(options.create_rate)))
        self._progress = Progress(self._config, resources.context)
        resources.context.templates.say = self._progress.note
        engine = Engine(
            resources.context,
            concurrency=options.concurrency
            or default_concurrency(local=resources.context.platform.kind == "local"),
            retries=Retries(options.retries),
            budget=_budget(options, resources, before),
            on_start=self._progress.started,
            on_end=self._progress.ended,
        )
        if before.folder and resources.server is None:
            # Those of a run that was killed go now if they can be had, else at this one's end.
            with contextlib.suppress(Fault):
                engine.call(kill_run_sandboxes(self.run_id, resources.context.platform))
        return OpenRun(resources, engine, before, lock, request)

    @property
    def redact(self) -> Redactor:
        """Takes the run's secrets out of whatever is shown or kept."""
        return self._open.resources.context.folder.redact if self._open else NO_REDACTION

    @property
    def shown(self) -> RunFolder | None:
        """The run that the summary is about."""
        return self._open.resources.context.folder if self._open else None

    @property
    def not_started(self) -> int:
        """How many trials never got their turn, since the run was stopped."""
        return sum(future.cancelled() for future in self._futures.values())

    @property
    def out_of_money(self) -> bool:
        """Whether trials were skipped for the money."""
        return self._open is not None and self._open.engine.budget.reached is not None

    def start(self, specs: Sequence[TrialSpec]) -> None:
        """Have the trials run ahead of those who ask for their results."""
        with self._lock:
            new = [spec for spec in specs if spec.id not in self._futures]
            self._expect(len(new))
            if self.options.until_decided and new:
                self._futures |= self._rounds().add(new)
                return
            for spec in new:
                self._futures[spec.id] = self._submit(spec)

    def _expect(self, trials: int) -> None:
        if self._progress:
            self._progress.expect(trials)

    def enter(self, who: str, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until a trial that a test of the process `who` leads itself may start; `leave` tells its end.

        Returns the attempts at it that there were before.

        Raises:
            NotStartedError: when it is not to be run: for the money, or since another process has it.
            Fault: when no trial can be run any more.
        """
        opened = self.open()
        with self._lock:
            if self._leaders.setdefault(spec.id, who) != who:
                raise NotStartedError("another worker runs this trial (--dist each)")
            self._expect(1)
        led = _Led(spec, opened.before.attempts(spec))
        try:
            opened.engine.admit(spec, lambda: led.spent).result()
        except CancelledError:
            raise NotStartedError("the run was stopped") from None
        self._led[who] = led
        return led.earlier

    def spend(self, who: str, spent: tuple[float, int]) -> None:
        """What the trial that `who` leads has used so far."""
        self._led[who].spent = spent

    def leave(self, who: str, record: TrialRecord | None) -> None:
        """The trial that `who` leads, if any, has ended; where its process died without a record, it gets one here."""
        led = self._led.pop(who, None)
        if led is None or self._open is None:
            return
        if record is None:
            record = _of_the_dead(led, self._open.resources.context)
        self._open.engine.release(led.spec, record)

    def _rounds(self) -> RoundScheduler:
        """What adds trials until the verdicts are settled."""
        from harness.report.gate import margins, read_fail_on
        from harness.runs.rounds import RoundScheduler

        opened = self.open()
        return RoundScheduler(
            [variant.name for variant in opened.request.variants],
            decided_against(self.options, opened.request),
            first=self.options.trials,
            most=self.options.max_trials,
            submit=self._submit,
            margins=margins(read_fail_on(self.options.fail_on)) if self.options.fail_on else None,
        )

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial.

        Raises:
            NotStartedError: when it was not to be run any more.
            Fault: when there can be no record of it.
        """
        with self._lock:
            if spec.id not in self._futures:
                self._expect(1)
                self._futures[spec.id] = self._submit(spec)
            future = self._futures[spec.id]
        try:
            return future.result()
        except CancelledError:
            raise NotStartedError("the run was stopped") from None

    def _submit(self, spec: TrialSpec) -> Future[TrialRecord]:
        opened = self.open()
        future: Future[TrialRecord] = Future()
        record = opened.before.reusable_record(spec, opened.resources.context.model.source)
        if record:
            if self._progress:
                self._progress.ended(record)
            future.set_result(record)
        else:
            try:
                future = opened.engine.submit(spec, opened.before.attempts(spec))
            except Fault as fault:
                future.set_exception(fault)
        return future

    def has(self, spec: TrialSpec) -> bool:
        """Whether the run that is resumed has a valid record of a trial."""
        model = choose_model(self.options, loopback=True)
        return self._before.reusable_record(spec, model.source) is not None

    def forecast(self, trials: Sequence[Planned]) -> Iterator[str]:
        """What `--plan` prints, in lines. Nothing is started for it."""
        options = self.options
        source = choose_model(options, loopback=True).source
        return forecast(
            trials,
            read_history(options.results, options.agent, source),
            concurrency=options.concurrency or default_concurrency(local=uses_local(options)),
            paid=source == "api",
            limit_usd=options.max_cost,
        )

    def header(self) -> list[str]:
        """What runs, where, and where the records go."""
        if self._open is None:
            return []
        context, budget = self._open.resources.context, self._open.engine.budget
        lines = [
            f"harness: agent {self.options.agent}, model {context.model.description}, "
            f"sandbox {context.platform.description}, {self._open.engine.concurrency} at once, "
            f"results {_shown(context.folder.path)}"
        ]
        if budget.limit is not None:
            lines.append(
                f"harness: at most {budget.limit:.2f} USD (--max-cost), {budget.spent:.2f} spent so far"
            )
        if self._open.before.folder:
            lines.append(f"harness: going on with a run that has {len(self._open.before.records)} records")
        variants = [variant.name for variant in self._open.request.variants]
        if len(variants) > 1:
            seed = self._open.request.seed
            lines.append(f"harness: variants {', '.join(variants)}; in an order drawn from --seed {seed}")
        return [*lines, *_warnings(context.platform)]

    def finish(self) -> None:
        """Start nothing more, and give what runs `grace_s` seconds to end; it is cut off then, and recorded."""
        if self._open is None:
            return
        grace_s = self.grace_s
        if grace_s and self._open.engine.running:
            self._say(
                f"stopping: {self._open.engine.running} trials run, and have {grace_s:g} s to end; "
                "Ctrl-C again cuts them off"
            )
        self._open.engine.finish(grace_s)
        if self._progress:
            self._progress.close()

    def heed_signals(self) -> None:
        """From now on, Ctrl-C stops the run as a whole; called in the main thread once there is something to run."""
        if threading.current_thread() is not threading.main_thread() or self._handlers:
            return
        for number, default in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) == default:
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        """Stop at the first; cut off at the second, or when asked to terminate; at the third, wait no longer.

        Only the first and the third interrupt what pytest is doing: in between it is busy with ending in order.
        """
        self._signals += 1
        if self._open:
            self._open.engine.stop()
            if self._signals > 1:
                self._open.engine.cancel_running()
        # What is to end at once is cut off by `finish`, when pytest is done with the interruption.
        self.grace_s = 0 if number == signal.SIGTERM else self.options.grace
        if self._signals != 2:
            raise KeyboardInterrupt

    def close(self) -> None:
        """End what is left: sandboxes, engine, server."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
        if self._open is None:
            return
        opened, self._open = self._open, None
        with contextlib.suppress(Fault):
            # A sandbox whose making was answered by nothing but an error may be there all the same.
            if opened.resources.server is None:
                opened.engine.call(kill_run_sandboxes(self.run_id, opened.resources.context.platform))
        opened.engine.close()
        opened.resources.close()
        opened.lock.release()

    def _say(self, text: str) -> None:
        terminal: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal:
            if self._progress:
                self._progress.clear()
            terminal.ensure_newline()
            terminal.write_line(f"harness: {text}")


def _of_the_dead(led: _Led, context: RunContext) -> TrialRecord:
    """The record of a trial whose test's process has died, stored; nothing is known but that.

    Raises:
        InternalFault: when it cannot be stored.
    """
    attempt = Attempt.begin(led.spec, context, len(led.earlier) + 1)
    attempt.fault = InternalFault("worker_died", "the process that ran this test has died")
    attempt.end()
    record = trial_record(led.spec, context, [attempt], led.earlier)
    context.folder.append(record)
    return record


def decided_against(options: Options, request: RunRequest) -> str:
    """The baseline of --until-decided: one of the run's own variants."""
    return options.baseline or request.variants[0].name


def _refuse_undecidable(options: Options, request: RunRequest, before: ResumedRun) -> None:
    """Raise a UsageError where no look could settle anything, or would be one that was not planned."""
    names = [variant.name for variant in request.variants]
    if len(names) < 2 or decided_against(options, request) not in names:
        raise UsageError(
            "--until-decided compares variants of this run, and needs two or more",
            remedy=f"the variants are: {', '.join(names)}; --baseline may name one of them",
        )
    if before.folder:
        from harness.report.sources import planned_rounds

        planned = planned_rounds(before.folder.path)
        if planned is None or planned.rounds != options.max_trials:
            was = f"--max-trials {planned.rounds}" if planned else "no --until-decided"
            raise UsageError(
                f"the run that is resumed was started with {was}: other looks would void its verdicts",
                remedy="resume it as it was started, or start a new run",
            )


def _budget(options: Options, resources: RunResources, before: ResumedRun) -> Budget:
    """Only a model that is asked costs anything."""
    if resources.context.model.source != "api" or options.max_cost is None:
        return Budget(None, History())
    history = read_history(options.results, options.agent, "api")
    return Budget(options.max_cost, history, spent_before(before.records.values()))


def _warnings(platform: Any) -> list[str]:
    if platform.isolation not in (None, "bubblewrap"):
        enforced = ", ".join(platform.enforces or ()) or "nothing"
        return [
            f"harness: restricted isolation ({platform.isolation}): enforced are {enforced}; see docs/isolation.md"
        ]
    return []


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
