"""Sources of records to compare: runs, records files, and both as they were at a git commit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.records.metrics import TrialMetrics
from harness.records.reading import Records, find_run, measured_in, no_records, read_about, read_measured
from harness.records.store import RECORDS
from harness.report.arms import Arm, arms_by_variant, pairs_within
from harness.report.setup import UNKNOWN_SETUP, RunSetup, read_setup
from harness.stats.data import RoundsPlan
from harness.tasks.gitcommand import local_git

_GIT = "git:"


@dataclass(frozen=True)
class RecordSource:
    """Records, and a name for the place they come from. `notes` tells of lines that were no records.

    `plan` is there for a run whose trials were added until its verdicts were settled.
    """

    name: str
    records: tuple[TrialMetrics, ...]
    notes: tuple[str, ...] = ()
    plan: RoundsPlan | None = None
    setup: RunSetup = UNKNOWN_SETUP


@dataclass(frozen=True)
class Match:
    """Arms, the pairs of them to compare, and notes on those without a partner."""

    arms: tuple[Arm, ...]
    pairs: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    plan: RoundsPlan | None = None


def read_source(text: str, results: Path) -> RecordSource:
    """Read a run (its name, its unique beginning, or its folder), a records file, or `git:REF:PATH` to one of them.

    Raises:
        UsageError: when there is no such thing, or no record in it.
    """
    path, plan, setup = Path(text), None, UNKNOWN_SETUP
    if text.startswith(_GIT):
        found = _from_git(text)
    else:
        # An impossible name raises, too, but for these.
        if not os.path.isfile(path) and not os.path.isfile(path / RECORDS):
            path = find_source(results, text)
        found, plan, setup = read_measured(path), planned_rounds(path), read_setup(path)
    if not found.records:
        raise no_records(text, found.bad)
    return RecordSource(text, found.records, _bad_lines(text, found), plan, setup)


def find_source(results: Path, text: str) -> Path:
    """A run's folder by its name.

    Raises:
        UsageError: when there is none, also for what looks like the path of a file that is not there.
    """
    if Path(text).suffix or "/" in text:
        raise UsageError(
            f"{text} is neither a records file nor a run's folder", remedy="`harness ls` lists the runs"
        )
    return find_run(results, text).path


def planned_rounds(run: Path) -> RoundsPlan | None:
    """The rounds that a run with --until-decided was to have at most, as its run.json says."""
    try:
        return RoundsPlan(int(read_about(run)["until_decided"]["max_trials"]))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _bad_lines(name: str, found: Records[TrialMetrics]) -> tuple[str, ...]:
    if not found.bad:
        return ()
    first = found.bad[0]
    what = "1 line is no record" if len(found.bad) == 1 else f"{len(found.bad)} lines are no records"
    return (f"{name}: {what}, and left out: line {first.number}: {first.reason}",)


def _from_git(text: str) -> Records[TrialMetrics]:
    ref, colon, path = text.removeprefix(_GIT).partition(":")
    if not ref or not colon or not path:
        raise UsageError(
            f"{text!r} names no file of a commit", remedy="write git:REF:PATH, such as git:main:base.jsonl"
        )
    path = path.rstrip("/")
    if _git("cat-file", "-t", f"{ref}:{path}", text).strip() == b"tree":
        path = f"{path}/{RECORDS}"
    return measured_in(_git("cat-file", "blob", f"{ref}:{path}", text), text)


def _git(command: str, what: str, name: str, text: str) -> bytes:
    if name.startswith("-"):
        raise UsageError(f"{text!r}: a commit's name cannot begin with a dash")
    ended = local_git(Path(), command, what, name)
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else f"git ended with {ended.returncode}"
        raise UsageError(
            f"{text} cannot be read: {why.removeprefix('fatal: ')}",
            remedy="the path is relative to the repository's root; a shallow clone may lack the commit",
        )
    return ended.stdout


def match(base: RecordSource, new: RecordSource | None, baseline: str | None = None) -> Match:
    """Pair the variants of one source, or of two.

    Of one: all against `baseline` (the first). Of two: all of the new against `baseline` of the base, which needs
    no naming where the base has one variant only; else each against the one of the same name.

    Raises:
        UsageError: when there is no such variant, or nothing to pair.
    """
    arms = arms_by_variant(base.records, base.name, base.setup)
    if new is None:
        return Match(tuple(arms), tuple(pairs_within(arms, baseline)), base.notes, base.plan)
    early = tuple(
        f"{one.name} ended when its own verdicts were settled: compared with others, its intervals are too narrow"
        for one in (base, new)
        if one.plan
    )
    notes = (*base.notes, *new.notes, *early)
    new_arms = arms_by_variant(new.records, new.name, new.setup)
    if baseline is None and len(arms) == 1:
        baseline = arms[0].variant
    if baseline is not None:
        pairs_within(arms, baseline)
        partners = [(arm.variant, baseline) for arm in new_arms]
    else:
        shared = {arm.variant for arm in arms}
        partners = [(arm.variant, arm.variant) for arm in new_arms if arm.variant in shared]
    if not partners:
        raise UsageError(
            f"no variant of {new.name} has its namesake in {base.name}",
            remedy=f"name the one to compare with: --baseline {arms[0].variant}",
        )
    return _named(arms, new_arms, partners, notes)


def _named(
    arms: Sequence[Arm], new_arms: Sequence[Arm], partners: Sequence[tuple[str, str]], notes: Sequence[str]
) -> Match:
    """Give namesakes different names, and leave out arms without a partner."""
    both = {arm.variant for arm in arms} & {arm.variant for arm in new_arms}
    news, bases = zip(*partners, strict=True)

    def name(variant: str, source: str) -> str:
        return f"{variant} ({source})" if variant in both else variant

    left = [arm.variant for arm in new_arms if arm.variant not in news]
    alone = (f"not compared, since the base has no such variant: {', '.join(left)}",) if left else ()
    return Match(
        (
            *(replace(arm, name=name(arm.variant, "base")) for arm in arms if arm.variant in bases),
            *(replace(arm, name=name(arm.variant, "new")) for arm in new_arms if arm.variant in news),
        ),
        tuple((name(new, "new"), name(base, "base")) for new, base in partners),
        (*notes, *alone),
    )
