"""One trial's record, recomputed from the evidence in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic_core import to_jsonable_python

from harness.errors import UsageError
from harness.records.events import parse_line
from harness.records.files import bounded_lines, file_below, open_regular, read_bounded, sha256_of
from harness.records.session import Session
from harness.records.session_fields import forgeries, session_fields
from harness.records.store import RECORD, RECORDS, TRANSCRIPT, RunFolder
from harness.records.stream import SessionBuilder
from harness.runs.verified import Verified
from harness.trials.judged_again import judged_again

Json = Mapping[str, Any]
_TAIL_CHARS = 2_000


class TrialCheck:
    """Compares one record, a line as JSON values, with what is in its trial's folder.

    `is_sealed`: the run has a manifest, so that what harness writes beside such a record has to be there.
    """

    def __init__(self, run: RunFolder, line: Json, found: Verified, *, is_sealed: bool) -> None:
        self._run, self._line, self._found = run, line, found
        self._has_evidence = is_sealed and line.get("judged_by") is not None
        self._trial = str(line.get("trial_id"))
        self._folder = run.trial(line["task"], line["variant"], line["index"]).relative

    def run(self) -> None:
        """Compare all that there is evidence of."""
        self._copy()
        self._identity()
        self._session()
        for attempt in self._line.get("attempts") or ():
            self._attempt(attempt)
        for check in self._line.get("checks") or ():
            self._check(check)
        self._outcome()
        self._work()
        self._named_files()

    def _find(self, what: str, file: str = RECORDS) -> None:
        self._found.find(file, what, self._trial)

    def _compare(self, stated: Json, computed: Json, source: str, prefix: str = "") -> None:
        """Hold what a record says against what its evidence says, in the fields that the record has."""
        for name, value in computed.items():
            if name in stated:
                for path, says, has in contradictions(stated[name], value, f"{prefix}{name}"):
                    self._find(f"{path} is {abbreviate_json(says)}, and by {source} {abbreviate_json(has)}")

    def _copy(self) -> None:
        """The record's own copy in the trial's folder."""
        name = f"{self._folder}/{RECORD}"
        try:
            copy = json.loads(read_bounded(file_below(self._run.path, name)))
        except FileNotFoundError:
            if self._has_evidence:
                self._find("is missing", name)
            else:
                self._found.unverified["a record has no copy in its trial's folder"] += 1
            return
        except (OSError, ValueError, RecursionError, UsageError) as error:
            self._find(f"cannot be read: {error}", name)
            return
        for path, says, has in contradictions(self._line, copy, "", whole=True):
            self._find(
                f"{path.removeprefix('.')} is {abbreviate_json(says)}, and in {name} {abbreviate_json(has)}"
            )
        self._found.recomputed["records compared with their copies"] += 1

    def _identity(self) -> None:
        if self._line["run_id"] != self._run.id:
            self._found.unverified["a record's run_id is not the folder's name"] += 1

    def _session(self) -> None:
        """Tokens, cost, turns, tools and times, by the transcript."""
        name = self._line.get("transcript")
        if name is None and self._line.get("regraded_from") and self._line.get("session_id"):
            self._found.unverified["a record whose transcript was not there when it was judged again"] += 1
            return
        session = Session() if name is None else self._read_transcript(name)
        if session is None:
            return
        prices = self._line.get("prices") or {}
        computed = to_jsonable_python(session_fields(session, prices))
        stated = self._line
        if stated.get("harness_version") != _version() or "cost_source" not in stated:
            computed = self._without_rules(computed, stated)
        self._compare(stated, computed, f"{name}" if name else "no transcript")
        self._forged(session)
        self._found.recomputed["tokens and costs"] += 1

    def _without_rules(self, computed: dict[str, Any], stated: Json) -> dict[str, Any]:
        """Without the fields that another version of harness may have counted by other rules, where they differ."""
        if any(contradictions(stated.get("cost_usd"), computed["cost_usd"], "")):
            self._found.unverified["a cost that another version of harness told by other rules"] += 1
            return {name: value for name, value in computed.items() if name not in _BY_RULES}
        return computed

    def _forged(self, session: Session) -> None:
        computed = to_jsonable_python(forgeries(session, TRANSCRIPT))
        stated = [one for one in self._line.get("tampering") or () if one.get("change") == "forged"]
        for path, says, has in contradictions(stated, computed, "tampering"):
            self._find(f"{path} is {abbreviate_json(says)}, and by the transcript {abbreviate_json(has)}")

    def _read_transcript(self, name: str) -> Session | None:
        builder = SessionBuilder()
        try:
            with open_regular(file_below(self._run.path, name)) as file:
                for line in bounded_lines(file):
                    if line is None:
                        self._find("has a line that is too long to be read", name)
                        return None
                    if line.strip():
                        builder.add(parse_line(line.removesuffix(b"\n")))
        except (OSError, UsageError) as error:
            self._find(f"cannot be read: {error_line(error)}", name)
            return None
        return builder.session()

    def _attempt(self, attempt: Json) -> None:
        name = attempt.get("transcript")
        if name is None:
            return
        if self._line.get("regraded_from") and not (self._run.path / name).exists():
            self._found.unverified[
                "an earlier attempt's transcript, which is in the run that was regraded"
            ] += 1
            return
        session = self._read_transcript(name)
        if session is None:
            return
        computed = to_jsonable_python(session_fields(session, self._line.get("prices") or {}))
        fields = {key: computed[key] for key in ("tokens", "cost_usd")}
        if not (attempt.get("error") or {}).get("message", "").startswith("the harness was killed"):
            fields["tokens_partial"] = computed["tokens_partial"]
        if self._line.get("harness_version") == _version():
            self._compare(attempt, fields, name, f"attempts.{attempt.get('number')}.")
            self._found.recomputed["attempts"] += 1

    def _check(self, check: Json) -> None:
        """One check's verdict, by what it left."""
        name, output = str(check.get("name")), check.get("output")
        where = f"checks.{name}."
        if output is None:
            # It was never run to its end, by the work's own doing.
            self._compare(
                check,
                {"passed": False, "score": 0.0, "exit_code": None, "duration_ms": None},
                "no output",
                where,
            )
            return
        evidence = f"{str(output).removesuffix('.txt')}.json"
        try:
            told = json.loads(read_bounded(file_below(self._run.path, evidence)))
            self._compare(check, judged_again(told), evidence, where)
            self._found.recomputed["checks"] += 1
        except FileNotFoundError:
            if self._has_evidence:
                self._find("is missing", evidence)
            else:
                self._found.unverified["a check without evidence beside its output"] += 1
        except (OSError, ValueError, RecursionError, UsageError) as error:
            self._find(f"cannot be read: {error_line(error)}", evidence)
        self._output(check, str(output), where)

    def _output(self, check: Json, output: str, where: str) -> None:
        try:
            text = read_bounded(file_below(self._run.path, output)).decode("utf-8", "replace")
        except (OSError, UsageError) as error:
            self._find(f"cannot be read: {error_line(error)}", output)
            return
        # A redacted text has another length than the one from which the tail was cut.
        if "[redacted:" not in text:
            self._compare(check, {"output_tail": text[-_TAIL_CHARS:]}, output, where)

    def _outcome(self) -> None:
        """Outcome and score, by the checks, faults and differences."""
        line = self._line
        checks: Sequence[Json] = line.get("checks") or ()
        score = fmean(check["score"] for check in checks) if checks else None
        if not checks and line.get("judged_by") == "test" and line["outcome"] in ("passed", "failed"):
            score = float(line["outcome"] == "passed")
        self._compare(line, {"score": score}, "its checks")
        by_test = line.get("judged_by") == "test" or (not checks and line.get("judged_by") is None)
        if line.get("error"):
            outcome = "error"
        elif line.get("differences"):
            outcome = "invalid"
        elif by_test:
            outcome = line["outcome"] if line["outcome"] in ("passed", "failed") else "passed or failed"
        else:
            outcome = "passed" if checks and all(check["passed"] for check in checks) else "failed"
        self._compare(line, {"outcome": outcome}, "its checks and faults")
        self._found.recomputed["outcomes"] += 1

    def _work(self) -> None:
        work = self._line.get("work")
        hashes: Mapping[str, str] = self._line.get("work_hashes") or {}
        if work is None:
            return
        if not hashes:
            self._found.unverified["stored work without hashes in its record"] += 1
        for name, digest in hashes.items():
            file = f"{work}/{name}"
            try:
                if sha256_of(file_below(self._run.path, file)) != digest:
                    self._find("is not the work that was judged", file)
                self._found.recomputed["files of stored work"] += 1
            except (OSError, UsageError) as error:
                self._find(f"cannot be read: {error_line(error)}", file)

    def _named_files(self) -> None:
        """Look whether the diff that the record names can be read."""
        name = self._line.get("diff")
        if name is None:
            return
        try:
            open_regular(file_below(self._run.path, name)).close()
        except (OSError, UsageError) as error:
            self._find(f"cannot be read: {error_line(error)}", name)


_BY_RULES = frozenset(
    {"cost_usd", "cost_source", "models", "turns", "tokens", "tokens_partial", "duration_api_ms"}
)


def contradictions(
    stated: Any, computed: Any, path: str, *, whole: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    """The differences of two JSON values: the path, and both.

    Unless `whole`, what only the computed one has is no difference: an older record lacks it.
    """
    if isinstance(stated, Mapping) and isinstance(computed, Mapping):
        for name in stated.keys() | (computed.keys() if whole else set()):
            inner = f"{path}.{name}"
            yield from contradictions(
                stated.get(name, _ABSENT), computed.get(name, _ABSENT), inner, whole=whole
            )
        return
    if isinstance(stated, list) and isinstance(computed, list) and len(stated) == len(computed):
        for number, (one, other) in enumerate(zip(stated, computed, strict=True)):
            yield from contradictions(one, other, f"{path}.{number}", whole=whole)
        return
    if stated != computed or isinstance(stated, bool) != isinstance(computed, bool):
        yield path, stated, computed


_ABSENT = "absent"


def abbreviate_json(value: Any) -> str:
    """A JSON value, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def error_line(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).partition("\n")[0]


def _version() -> str:
    from harness import __version__

    return __version__
