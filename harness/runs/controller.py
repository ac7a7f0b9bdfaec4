"""The controller of a run: it opens it, has its trials run, and ends it, in the process that the user has started."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import Fault, HarnessError, UsageError
from harness.records.history import History, read_history
from harness.records.manifest import drop_manifest
from harness.records.reading import find_run
from harness.records.record import TrialRecord
from harness.records.record_parts import AttemptRecord
from harness.records.redaction import NO_REDACTION, Redactor
from harness.records.store import RunFolder, new_run_id
from harness.records.trial_spec import TrialSpec
from harness.runs.budget import Budget, NotStartedError, spent_before
from harness.runs.client import RunAddress
from harness.runs.engine import Engine
from harness.runs.external import ExternalTrial, record_orphan, refuse_second
from harness.runs.forecast import Planned, forecast
from harness.runs.loop import wait_for
from harness.runs.open_run import OpenRun, header_lines
from harness.runs.options import Options, uses_local
from harness.runs.progress import Progress, ProgressTerminal
from harness.runs.request import RunRequest
from harness.runs.resources import (
    RunResources,
    choose_model,
    default_concurrency,
    open_run_resources,
)
from harness.runs.resume import ResumedRun, load_resumed_run
from harness.sandboxes.cleanup import delete_snapshots, kill_run_sandboxes
from harness.sandboxes.pacing import Pacer
from harness.trials.runner import Retries

if TYPE_CHECKING:
    from harness.local.launch import StartingServer
    from harness.runs.rounds import RoundScheduler

EXIT_BUDGET = 10
"""pytest's exit code when trials were skipped since the money was spent, whatever the others came to.

pytest itself uses 0 to 6, and other plugins have the next few.
"""


_STOPPED = "what ran is recorded, and --resume goes on"


class Stopped(KeyboardInterrupt):
    """The user has stopped the run: a KeyboardInterrupt to all who know one, and to a reader no error of ours."""

    # pytest's line names the class of what interrupted it, with its module unless that is this one.
    __module__ = "builtins"


class RunController:
    """The run, in the process that the user has started: a `RunClient`, which may be used from several threads.

    It is opened when the first trial is asked for. `starting` is its server, where that is on its way already.
    """

    def __init__(
        self,
        options: Options,
        terminal: ProgressTerminal | None,
        starting: StartingServer | None = None,
        command: str | None = None,
    ) -> None:
        self.options = options
        self._command = command
        self.run_id = ""
        self.grace_s = 0.0
        self.error: HarnessError | None = None
        self._terminal = terminal
        self._starting = starting
        self._open: OpenRun | None = None
        self._futures: dict[str, Future[TrialRecord]] = {}
        self._owners: dict[str, str] = {}
        self._turns: dict[str, Future[None]] = {}
        self._external_records: dict[str, Future[TrialRecord]] = {}
        self._notes: dict[str, None] = {}
        self._external: dict[str, ExternalTrial] = {}
        self._expected_external: set[str] = set()
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._signals = 0
        self._waits = False
        self._handlers: dict[int, Any] = {}

    def open(self, request: RunRequest) -> None:
        """Start what the run needs, once: server, context, engine.

        Raises:
            UsageError: when something asked for cannot be had.
        """
        with self._lock:
            if self.error:
                raise self.error
            if self._open is None:
                try:
                    self._open = self._open_run(request)
                except HarnessError as error:
                    self.error = error
                    raise

    def refuse(self, error: UsageError) -> None:
        """Have the run end with this error before it starts."""
        self.error = error

    @property
    def run(self) -> OpenRun:
        """The open run. One that nobody has opened has no variants but the default.

        Raises:
            UsageError: when it cannot be opened.
        """
        with self._lock:
            if self._open is None or self.error:
                self.open(RunRequest())
            assert self._open
            return self._open

    @functools.cached_property
    def _resumed(self) -> ResumedRun:
        """The run that is resumed; an empty one without --resume."""
        if self.options.resume is None:
            return ResumedRun()
        run = find_run(self.options.results, self.options.resume or None)
        resumed = load_resumed_run(run)
        self.options = replace(self.options, results=run.path.parent)
        return resumed

    def _open_run(self, request: RunRequest) -> OpenRun:
        resumed, options = self._resumed, self.options
        if options.until_decided:
            _refuse_undecidable(options, request, resumed)
        self.run_id = resumed.folder.id if resumed.folder else new_run_id()
        asked = replace(request, command=self._command)
        resources = open_run_resources(options, self.run_id, asked, starting=self._starting)
        try:
            lock = resources.context.folder.lock()
        except HarnessError:
            resources.close()
            raise
        resources = replace(resources, context=replace(resources.context, pacer=Pacer(options.create_rate)))
        budget = _budget(options, resources, resumed)
        self._progress = Progress(self._terminal, resources.context, budget)
        resources.context.templates.say = self._progress.note
        engine = Engine(
            resources.context,
            concurrency=options.concurrency
            or default_concurrency(local=resources.context.platform.kind == "local"),
            retries=Retries(options.retries),
            budget=budget,
            on_start=self._progress.started,
            on_end=self._progress.ended,
        )
        self._progress.doing = lambda trial: engine.doing(trial) or self._external_doing(trial)
        run = OpenRun(resources, engine, resumed, lock, request)
        if resumed.folder:
            drop_manifest(resumed.folder.path)
            # The sandboxes of a run that was killed. Those that cannot be killed now are at this run's end.
            self._kill_sandboxes(run)
        return run

    def _kill_sandboxes(self, run: OpenRun) -> None:
        """Kill the run's sandboxes, except on a server that this process has started: they end with it."""
        if run.resources.server is None:
            with contextlib.suppress(Fault):
                run.engine.loop.call(kill_run_sandboxes(self.run_id, run.context.platform))
                run.engine.loop.call(delete_snapshots(self.run_id, run.context.platform))

    def address(self) -> RunAddress:
        """Tell how another process joins the open run."""
        context = self.run.context
        return RunAddress(self.run_id, context.folder.path.parent, context.platform)

    def note(self, text: str) -> None:
        """Have the run's header say this, once, however many processes find it."""
        self._notes[text] = None

    def redactor(self) -> Redactor:
        """Give what takes the run's secrets out of whatever is shown or kept."""
        return self._open.context.folder.redact if self._open else NO_REDACTION

    @property
    def shown(self) -> RunFolder | None:
        """The run that the summary is about; None when no trial was to be run."""
        return self._open.context.folder if self._open else None

    @property
    def not_started(self) -> int:
        """The number of trials that never got their turn, since the run was stopped."""
        return sum(future.cancelled() for future in self._futures.values())

    @property
    def out_of_money(self) -> str | None:
        """The reason for which trials were skipped for the money; None when none were."""
        return self._open.engine.budget.reached if self._open else None

    @property
    def unpaid(self) -> int:
        """The number of trials that were skipped for the money."""
        return self._open.engine.budget.rejected if self._open else 0

    def start(self, specs: Sequence[TrialSpec], external: Sequence[TrialSpec] = ()) -> None:
        """Have trials run ahead of those who ask for their results.

        With --until-decided, `external` trials take their turns in its rounds.
        """
        with self._lock:
            new = [spec for spec in specs if spec.id not in self._futures]
            self._expect(len(new))
            if self.options.until_decided and (new or external):
                self._external_records |= {spec.id: Future() for spec in external}
                self._turns |= {spec.id: Future() for spec in external}
                futures = self._round_scheduler().add([*new, *external])
                for spec in external:
                    futures[spec.id].add_done_callback(functools.partial(_pass_on, self._turns[spec.id]))
                self._futures |= futures
                return
            for spec in new:
                self._futures[spec.id] = self._submit(spec)

    def _expect(self, trials: int) -> None:
        if self._progress:
            self._progress.expect(trials)

    def expect_external(self, trials: Sequence[str]) -> None:
        """Add external trials, which several processes may tell of, to what is expected."""
        with self._lock:
            new = set(trials) - self._expected_external
            self._expected_external |= new
            self._expect(len(new))

    def _external_doing(self, trial_id: str) -> str:
        return next((one.doing for one in list(self._external.values()) if one.spec.id == trial_id), "")

    def begin_external(self, owner: str, spec: TrialSpec) -> Sequence[AttemptRecord]:
        """Wait until an external trial may start, and return the attempts at it that a resumed run has.

        Raises:
            NotStartedError: when it is not to be run: for the money, or since another process has it.
            UsageError: when this process has had it already.
            Fault: when no trial can be run any more.
        """
        run = self.run
        with self._lock:
            refuse_second(spec, self._owners.get(spec.id), owner)
            self._owners[spec.id] = owner
            self.expect_external([spec.id])
        external = ExternalTrial(spec, run.resumed.attempts(spec))
        try:
            if spec.id in self._turns:
                wait_for(self._turns[spec.id], self._raise_lost_signal)
            wait_for(run.engine.acquire(spec, lambda: external.spent), self._raise_lost_signal)
        except CancelledError:
            raise NotStartedError("the run was stopped") from None
        self._external[owner] = external
        return external.earlier

    def report_external(self, owner: str, spent: tuple[float, int], doing: str) -> None:
        """Tell how the owner's external trial is doing."""
        self._external[owner].spent, self._external[owner].doing = spent, doing

    def end_external(self, owner: str, record: TrialRecord | None) -> None:
        """Tell that the owner's external trial, if any, has ended; without a record, its owner has died.

        Raises:
            InternalFault: when the record of a dead owner's trial cannot be stored.
        """
        external = self._external.pop(owner, None)
        if external is None or self._open is None:
            return
        engine = self._open.engine
        record = record or record_orphan(external, engine)
        engine.release(external.spec, record)
        if external.spec.id in self._external_records:
            self._external_records[external.spec.id].set_result(record)

    def give_up_external(self, trial_id: str) -> None:
        """Tell that the test of an external trial is over. A round does not wait for one that had not begun."""
        waiting = self._external_records.get(trial_id)
        if waiting and not waiting.done():
            waiting.set_exception(NotStartedError("its test was skipped"))

    def _round_scheduler(self) -> RoundScheduler:
        from harness.report.gate import read_fail_on
        from harness.runs.rounds import RoundScheduler

        request = self.run.request
        return RoundScheduler(
            [variant.name for variant in request.variants],
            decided_against(self.options, request),
            first=self.options.trials,
            max_rounds=self.options.max_trials,
            submit=self._submit,
            conditions=read_fail_on(self.options.fail_on) if self.options.fail_on else (),
            say=self._progress.note if self._progress else lambda line: None,
        )

    def result(self, spec: TrialSpec) -> TrialRecord:
        """Wait for a trial, which is started if it was not.

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
            return wait_for(future, self._raise_lost_signal)
        except CancelledError:
            raise NotStartedError("the run was stopped") from None

    def _raise_lost_signal(self) -> None:
        """Stop the run where the exception of the signal's own got lost on its way."""
        if self._signals and threading.current_thread() is threading.main_thread():
            raise Stopped(_STOPPED)

    def _submit(self, spec: TrialSpec) -> Future[TrialRecord]:
        if spec.id in self._external_records:
            self._turns[spec.id].set_result(None)
            return self._external_records[spec.id]
        run = self.run
        future: Future[TrialRecord] = Future()
        record = run.resumed.reusable_record(spec, run.context.model.source)
        if record:
            if self._progress:
                self._progress.ended(record)
            future.set_result(record)
        else:
            try:
                future = run.engine.submit(spec, run.resumed.attempts(spec))
            except Fault as fault:
                future.set_exception(fault)
        return future

    def has_record(self, spec: TrialSpec) -> bool:
        """Tell whether the run that is resumed has a valid record of a trial."""
        model = choose_model(self.options, loopback=True)
        return self._resumed.reusable_record(spec, model.source) is not None

    def forecast(self, trials: Sequence[Planned]) -> Iterator[str]:
        """The lines that `--plan` prints. Nothing is started for them."""
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
        """The lines about the run.

        Raises:
            UsageError: when the run cannot start.
        """
        if self.error:
            raise self.error
        if self._open is None:
            return []
        return header_lines(self._open, self.options, self._notes)

    def finish(self) -> None:
        """Start nothing more, and give what runs `grace_s` seconds to end; it is cancelled then, and recorded."""
        if self._open is None:
            return
        engine = self._open.engine
        if self.grace_s and engine.running and self._terminal:
            if self._progress:
                self._progress.clear()
            self._terminal.write_line(
                f"harness: stopping: {engine.running} trials run, and have {self.grace_s:g} s to end; "
                "Ctrl-C again cuts them off"
            )
        self._waits = True
        try:
            engine.finish(self.grace_s)
        finally:
            self._waits = False
        if self._progress:
            self._progress.close()

    def handle_signals(self) -> None:
        """From now on, Ctrl-C stops the run as a whole. Called in the main thread once there is something to run."""
        if threading.current_thread() is not threading.main_thread() or self._handlers:
            return
        for number, default in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, signal.SIG_DFL),
        ):
            if signal.getsignal(number) == default:
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        """Stop at the first signal, cancel at the second or when asked to terminate, and wait no longer at the third.

        The first interrupts what pytest is doing. A later one interrupts the waiting alone: pytest is busy then with
        ending in order, and what is left takes seconds.
        """
        self._signals += 1
        if self._open:
            self._open.engine.stop()
            if self._signals > 1:
                self._open.engine.cancel_running()
        # With no grace, `finish` cancels what runs when pytest is done with the interruption.
        self.grace_s = 0 if number == signal.SIGTERM else self.options.grace
        if (self._signals == 1 and self._open) or (self._signals > 2 and self._waits):
            raise Stopped(_STOPPED)

    def close(self) -> None:
        """End what is left: sandboxes, engine, server. No Ctrl-C cuts this short."""
        try:
            if self._open is not None:
                self._close(self._open)
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def _close(self, run: OpenRun) -> None:
        # A sandbox may be there although E2B answered its making with an error.
        self._open = None
        self._kill_sandboxes(run)
        run.engine.close()
        run.resources.close()
        self._seal(run.context.folder)
        run.lock.release()

    def _seal(self, folder: RunFolder) -> None:
        """Write what the run came to, and the hash of each of its files."""
        from harness.report.statement import seal_run

        try:
            seal_run(folder, self.options.baseline, self.options.fail_on)
        except HarnessError as error:
            if self._terminal:
                self._terminal.write_line(f"harness: the run has no manifest: {error.message}")


def _pass_on(turn: Future[None], trial: Future[TrialRecord]) -> None:
    """Tell a test that waits for its turn that it gets none."""
    if turn.done():
        return
    if trial.cancelled():
        turn.cancel()
    elif error := trial.exception():
        turn.set_exception(error)


def decided_against(options: Options, request: RunRequest) -> str:
    """The baseline of --until-decided: one of the run's own variants."""
    return options.baseline or request.variants[0].name


def _refuse_undecidable(options: Options, request: RunRequest, resumed: ResumedRun) -> None:
    """Raise a UsageError where no verdict could be settled, or its statistics would be invalid."""
    names = [variant.name for variant in request.variants]
    if len(names) < 2 or decided_against(options, request) not in names:
        raise UsageError(
            "--until-decided compares variants of this run, and needs two or more",
            remedy=f"the variants are: {', '.join(names)}; --baseline may name one of them",
        )
    if resumed.folder:
        from harness.report.sources import planned_rounds

        planned = planned_rounds(resumed.folder.path)
        if planned is None or planned.rounds != options.max_trials:
            was = f"with --max-trials {planned.rounds}" if planned else "without --until-decided"
            raise UsageError(
                f"run {resumed.folder.id} was started {was}; to change that on --resume would make its verdicts "
                "invalid",
                remedy="resume it as it was started, or start a new run",
            )


def _budget(options: Options, resources: RunResources, resumed: ResumedRun) -> Budget:
    """The run's budget. Without a limit if no API is asked, since replies that are replayed cost nothing."""
    if resources.context.model.source != "api" or options.max_cost is None:
        return Budget(None, History())
    history = read_history(options.results, options.agent, "api")
    return Budget(options.max_cost, history, spent_before(resumed.records.values()))
