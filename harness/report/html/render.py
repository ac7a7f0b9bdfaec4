"""`harness report`: runs in, one HTML file out."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from harness import __version__
from harness.errors import UsageError
from harness.records.files import file_below, open_regular
from harness.records.manifest import REPORT, add_to_manifest
from harness.records.metrics import metrics_of, variants_in_order
from harness.records.reading import find_run, list_runs, no_records, read_records
from harness.records.record import TrialRecord
from harness.records.store import RECORDS, RunFolder
from harness.report.arms import Arm, pairs_within
from harness.report.comparison import compare_arms
from harness.report.html.page import Page, page_of
from harness.report.html.page_data import NumberedRecord
from harness.report.html.trials import pack_trials
from harness.report.sanitize import sanitize
from harness.report.setup import RunSetup, read_setup
from harness.report.sources import planned_rounds
from harness.tasks.wholefile import written_whole

if TYPE_CHECKING:
    from jinja2 import Environment

_HEAD = 4096
_MADE_OF = re.compile(
    r'<meta name="generator" content="harness (?P<version>[^"]*)">\s*'
    r'<meta name="harness-runs" content="(?P<runs>[^"]*)">'
)


@dataclass(frozen=True)
class Written:
    """The file that was written, its number of trials and its size in bytes."""

    path: Path
    trials: int
    size: int


def write_report(
    results: Path, names: Sequence[str], output: Path | None, baseline: str | None = None
) -> Written:
    """Write the report of some runs (without a name: of the last), by default into the last one's folder.

    Raises:
        UsageError: when a run or the baseline is not there, a run has no records, or the file cannot be written.
    """
    for name in names:
        if os.path.isfile(name):
            raise UsageError(
                f"{name} is a file: a report is of a run's folder, which has the transcripts too",
                remedy=f"`harness compare {name}` needs the records only",
            )
    runs = [find_run(results, name) for name in names] or [find_run(results, None)]
    runs = list({run.path.resolve(): run for run in runs}.values())
    target = output or runs[-1].path / REPORT
    parts, trials = _parts(runs, baseline)
    size = _write(target, parts)
    if output is None:
        add_to_manifest(runs[-1].path, target.name)
    return Written(target, trials, size)


def first_difference(run: RunFolder) -> int | None:
    """The first line of a run's report that is not what its records say; None where it says just that.

    Raises:
        UsageError: when the report cannot be made again here.
        OSError: when it cannot be read.
    """
    with open_regular(file_below(run.path, REPORT)) as file:
        made_of = _MADE_OF.search(file.read(_HEAD).decode("utf-8", "replace"))
        if made_of is None or made_of["version"] != __version__:
            raise UsageError("another version of harness wrote it")
        try:
            told = json.loads(unescape(made_of["runs"]))
            names, baseline = [str(name) for name in told["runs"]], told["baseline"] and str(told["baseline"])
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError("it does not say which runs it is of") from error
        beside = {one.id: one for one in list_runs(run.path.parent)}
        if not names or not beside.keys() >= set(names):
            raise UsageError("it is of runs that are not in this results folder")
        parts, _ = _parts([beside[name] for name in names], baseline)
        file.seek(0)
        line = 1
        for part in parts:
            for piece in part.encode("utf-8", "replace").splitlines(keepends=True):
                if file.read(len(piece)) != piece:
                    return line
                line += piece.endswith(b"\n")
        return line if file.read(1) else None


def _parts(runs: Sequence[RunFolder], baseline: str | None) -> tuple[Iterator[str], int]:
    """The page's text, and the number of its trials."""
    page, order = _page([_load(run) for run in runs], baseline)
    made_of = json.dumps({"runs": [run.id for run in runs], "baseline": baseline})
    return _rendered(page, pack_trials(order), made_of), len(order)


@dataclass(frozen=True)
class _Loaded:
    run: RunFolder
    records: tuple[TrialRecord, ...]
    notes: tuple[str, ...]
    setup: RunSetup


def _load(run: RunFolder) -> _Loaded:
    found = read_records(run.path)
    if not found.records:
        raise no_records(f"run {run.id}", found.bad)
    notes = tuple(f"{RECORDS}:{bad.number} is no whole record ({bad.reason})" for bad in found.bad)
    return _Loaded(run, found.records, notes, read_setup(run.path))


def _page(loaded: Sequence[_Loaded], baseline: str | None) -> tuple[Page, list[tuple[Path, TrialRecord]]]:
    """The page, and the trials in the order of their numbers on it."""
    order: list[tuple[Path, TrialRecord]] = []
    trials: dict[str, list[NumberedRecord]] = {}
    arms: list[Arm] = []
    for one, variant, name in _named(loaded):
        records = [record for record in one.records if record.variant == variant]
        trials[name] = [NumberedRecord(len(order) + place, record) for place, record in enumerate(records)]
        order += [(one.run.path, record) for record in records]
        arms.append(Arm(name, one.run.id, variant, [metrics_of(record) for record in records], one.setup))
    notes = [note for one in loaded for note in one.notes]
    plan = planned_rounds(loaded[0].run.path) if len(loaded) == 1 else None
    view = compare_arms(arms, _pairs(arms, baseline), plan=plan, notes=notes)
    sources = [one.run.id for one in loaded]
    return page_of(" and ".join(sources), sources, view, trials), order


def _named(loaded: Sequence[_Loaded]) -> Iterator[tuple[_Loaded, str, str]]:
    """Each run's variants, each with a name that no other has: with its run's, where two runs have the variant."""
    variants = [(one, variant) for one in loaded for variant in variants_in_order(one.records)]
    times = Counter(variant for _, variant in variants)
    for one, variant in variants:
        yield one, variant, variant if times[variant] == 1 else f"{variant} @ {one.run.id}"


def _pairs(arms: Sequence[Arm], baseline: str | None) -> list[tuple[str, str]]:
    """The pairs, as `harness compare` makes them: within one run, or those of later runs with the first.

    Raises:
        UsageError: when the first run has no variant of the baseline's name.
    """
    first = {arm.variant: arm.name for arm in arms if arm.source == arms[0].source}
    if baseline is not None and baseline not in first:
        raise UsageError(
            f"the baseline {baseline!r} is none of the variants", remedy=f"there are: {', '.join(first)}"
        )
    later = [arm for arm in arms if arm.source != arms[0].source]
    if not later:
        return pairs_within(arms, baseline)
    if baseline is None and len(first) == 1:
        (baseline,) = first
    partners = [(arm.name, first.get(baseline or arm.variant)) for arm in later]
    return [(name, partner) for name, partner in partners if partner]


@cache
def _environment() -> Environment:
    """The templates, which are compiled once in a process: that takes longer than to fill in a page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("harness.report", "html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_sanitize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _rendered(page: Page, packs: Iterable[str], made_of: str) -> Iterator[str]:
    from markupsafe import Markup

    own = {
        name: (files("harness.report.html") / f"report.{name}").read_text(encoding="utf-8")
        for name in ("css", "js")
    }
    return (
        _environment()
        .get_template("report.html")
        .generate(
            page=page,
            packs=packs,
            version=__version__,
            made_of=made_of,
            css=Markup(own["css"]),
            js=Markup(own["js"]),
            css_hash=_policy_hash(own["css"]),
            js_hash=_policy_hash(own["js"]),
        )
    )


def _sanitize(value: object) -> object:
    """Sanitize all that the templates show, before it is escaped. The page's own style and script are no plain str."""
    return sanitize(value) if type(value) is str else value


def _policy_hash(text: str) -> str:
    """The hash by which the page's policy allows its own script and style, and nothing else."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _write(target: Path, parts: Iterable[str]) -> int:
    """Write the file; returns its size in bytes."""
    try:
        with written_whole(target) as path, path.open("wb") as file:
            return sum(file.write(part.encode("utf-8", "replace")) for part in parts)
    except OSError as error:
        raise UsageError(
            f"the report cannot be written to {target}: {error.strerror or error}",
            remedy="name another --output",
        ) from error
