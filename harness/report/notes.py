"""Notes: the sentences that a reader must know to read the numbers rightly, the gravest first."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from math import comb
from operator import attrgetter

from harness.errors import is_users_own
from harness.records.record import TrialRecord
from harness.report.arms import Arm, ArmView, ComparedArm
from harness.report.formatting import names, plural
from harness.stats.data import METRICS

_DECLARED_BY = (
    ("the version of Claude Code", "claude_version", frozenset({"claude_version"})),
    ("the model", "model", frozenset({"model", "settings.model"})),
)
"""Traits of a session, and the keys by which a variant asks for one."""
_TOOL_KEYS = frozenset({"args", "json_schema", "settings.permissions"})


def network_note(trials: int, unenforced: int) -> str | None:
    """The sentence that sandboxes could reach what they should not."""
    if not unenforced:
        return None
    some = "all" if unenforced == trials else f"{unenforced} of {trials}"
    return f"{some} trials could reach any host: the engine does not enforce `network`"


def replay_note(by_hand: Sequence[bool], trials: int) -> str | None:
    """The sentence that no model was measured. `by_hand` tells of each replayed session whether a person wrote it."""
    if not by_hand:
        return None
    some = "all" if len(by_hand) == trials else f"{len(by_hand)} of {trials}"
    hand = f" ({sum(by_hand)} of them written by hand)" if any(by_hand) else ""
    return f"{some} trials replayed sessions{hand}: this measures the plumbing, not a model"


def summary_notes(records: Sequence[TrialRecord], arms: Sequence[ArmView]) -> Iterator[str]:
    """Notes on the summary of a run."""
    yield "means are a trial's, over those that passed or failed; each: what one cost"
    yield "time: of the whole trial, with sandbox and checks"
    stopped = sum(record.error is not None and record.error.type == "interrupted" for record in records)
    if stopped:
        were, them = ("was", "it") if stopped == 1 else ("were", "them")
        yield f"{plural(stopped, 'trial')} {were} cut off when the run was stopped; --resume runs {them} again"
    own = sum(
        record.error is not None and is_users_own(record.error.cause, record.error.type) for record in records
    )
    if own:
        yield f"{own} of {len(records)} trials could not be run as asked: yours to mend; they count for nobody"
    skipped = sum(record.error is not None and record.error.type == "skipped" for record in records)
    if skipped:
        yield f"{skipped} of {len(records)} trials were skipped by their own test, and count for nobody"
    if errors := sum(arm.errors for arm in arms) - stopped - own - skipped:
        yield f"{errors} of {len(records)} trials broke on infrastructure (error): they count for nobody"
    if invalid := sum(arm.invalid for arm in arms):
        yield (
            f"{invalid} of {len(records)} trials are invalid (excluded): their variant was not really "
            "applied; they count for nobody"
        )
    cut = sum(record.tokens_partial for record in records if record.outcome in ("passed", "failed"))
    if cut:
        yield f"{cut} of those were cut off: their tokens are lower bounds, their cost is unknown"
    if note := network_note(
        len(records), sum(record.sandbox.network_enforced is False for record in records)
    ):
        yield note
    replayed = [bool(record.replay_by_hand) for record in records if record.model_source == "replay"]
    if note := replay_note(replayed, len(records)):
        yield note
        yield "nothing was spent: the costs are those of the recordings, at list prices"


def comparison_notes(
    arms: Sequence[Arm], pairs: Sequence[tuple[str, str]], views: Sequence[ComparedArm], more: Sequence[str]
) -> Iterator[str]:
    """Notes on a comparison. `more` are those on the records as a whole."""
    yield from _of_all(arms)
    for arm in arms:
        yield from _mixed(arm)
    yield from _undeclared(arms, pairs)
    yield from _changed_tasks(arms, pairs)
    cut = sum(record.cut_off and record.is_counted for arm in arms for record in arm.records)
    if cut:
        yield f"{plural(cut, 'trial')} cut off: their tokens and cost are unknown, and left out"
    yield from more
    paired = {name for pair in pairs for name in pair}
    for view in views:
        if view.name not in paired or uncounted(view) is None:
            yield from _excluded(view)
    yield from _excluded_apart(pairs, views)
    for view in views:
        yield from _unknown(view)


def _of_all(arms: Sequence[Arm]) -> Iterator[str]:
    records = [record for arm in arms for record in arm.records]
    replayed = [record.by_hand for record in records if record.model_source == "replay"]
    if note := replay_note(replayed, len(records)):
        yield note
    if note := network_note(len(records), sum(record.network_enforced is False for record in records)):
        yield note
    others = Counter(record.agent for record in records if record.agent != "claude")
    for agent, trials in others.items():
        yield f"{plural(trials, 'trial')} by the agent {agent}: they say nothing about Claude Code"


def _mixed(arm: Arm) -> Iterator[str]:
    """Notes on an arm that is not one treatment."""
    # Tasks may name templates of their own.
    templates = Counter(task for task, _ in set(map(attrgetter("task", "template"), arm.records)))
    mixed = sorted(task for task, found in templates.items() if found > 1)
    if mixed:
        yield f"{arm.name} mixes templates in {plural(len(mixed), 'task')}: {names(mixed)}"
    settings = tuple(digest[:8] for digest in arm.distinct("variant_hash"))
    for what, values in (
        ("settings", settings),
        ("models", arm.distinct("model")),
        ("models that answered", tuple(dict.fromkeys(name for one in arm.records for name in one.answered))),
        ("kinds of prices", arm.distinct("cost_source")),
        ("versions of Claude Code", arm.distinct("claude_version")),
    ):
        if len(values) > 1:
            yield f"{arm.name} mixes {len(values)} {what}: {names(values)}"


def _undeclared(arms: Sequence[Arm], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Differences between the sessions of two variants that neither of them asks for."""
    by_name = {arm.name: arm for arm in arms}
    for one, base in ((by_name[one], by_name[base]) for one, base in pairs):
        asked = frozenset[str]().union(*(record.asked for arm in (one, base) for record in arm.records))
        for what, trait, keys in _DECLARED_BY:
            here, before = one.distinct(trait), base.distinct(trait)
            if not asked & keys and here and before and set(here) != set(before):
                yield (
                    f"{one.name} and {base.name} differ in {what} too, which neither asks for: {names(here)}, "
                    f"and {names(before)}"
                )
        if not asked & _TOOL_KEYS:
            yield from _other_tools(one, base)


def _other_tools(one: Arm, base: Arm) -> Iterator[str]:
    here, before = _own_tools(one), _own_tools(base)
    if here is None or before is None or here == before:
        return
    words = [
        f"{verb} {names(sorted(tools))}"
        for verb, tools in (("has", here - before), ("lacks", before - here))
        if tools
    ]
    yield f"{one.name} {' and '.join(words)} among Claude Code's own tools, unlike {base.name}; neither asks for it"


def _own_tools(arm: Arm) -> set[str] | None:
    """Claude Code's own tools in any of an arm's sessions; None where that is not known."""
    known = [tools for tools in arm.distinct("tools_offered") if tools]
    return {tool for tools in known for tool in tools if not tool.startswith("mcp__")} if known else None


def _changed_tasks(arms: Sequence[Arm], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    hashes: dict[str, dict[str, set[str]]] = {}
    for arm in arms:
        for task, digest in set(map(attrgetter("task", "task_hash"), arm.records)):
            hashes.setdefault(arm.name, {}).setdefault(task, set()).add(digest)
    for arm_name, base in pairs:
        own, before = hashes.get(arm_name, {}), hashes.get(base, {})
        changed = sorted(task for task in own.keys() & before.keys() if len(own[task] | before[task]) > 1)
        if changed:
            yield (
                f"{plural(len(changed), 'task')} changed between {arm_name} and {base}, and a difference may "
                f"come from that: {names(changed)}"
            )
        for one, here, other in ((arm_name, own, before), (base, before, own)):
            alone = sorted(here.keys() - other.keys())
            if alone:
                yield f"{plural(len(alone), 'task')} with trials of {one} only, not compared: {names(alone)}"


def uncounted(arm: ComparedArm) -> str | None:
    """The reasons why no trial of an arm counts; None if one does."""
    if arm.passed + arm.failed:
        return None
    why = "; ".join(f"{entry.trials} {entry.outcome}: {entry.why}" for entry in arm.excluded)
    return why or "there is none"


def _excluded(arm: ComparedArm) -> Iterator[str]:
    for entry in arm.excluded:
        yield f"{arm.name}: {plural(entry.trials, 'trial')} excluded ({entry.outcome}): {entry.why}"


def _excluded_apart(pairs: Sequence[tuple[str, str]], views: Sequence[ComparedArm]) -> Iterator[str]:
    """Notes on reasons for which far more trials of one arm are excluded than of its baseline."""
    by_name = {view.name: view for view in views}
    for pair in pairs:
        arms = [by_name[name] for name in pair]
        for outcome, why in dict.fromkeys(
            (entry.outcome, entry.why) for arm in arms for entry in arm.excluded
        ):
            own, base = (
                sum(entry.trials for entry in arm.excluded if (entry.outcome, entry.why) == (outcome, why))
                for arm in arms
            )
            if _no_accident(own, arms[0].trials, base, arms[1].trials):
                yield (
                    f"excluded for {why}: {own} of {arms[0].trials} trials of {pair[0]}, {base} of "
                    f"{arms[1].trials} of {pair[1]}: that is no accident, and the variant may be its cause"
                )


def _no_accident(own: int, trials: int, base: int, base_trials: int) -> bool:
    """True if Fisher's exact test, at 0.1 % on each side, says that two shares differ."""
    total = own + base
    ways = comb(trials + base_trials, total)
    could = range(max(0, total - base_trials), min(trials, total) + 1)
    above = sum(comb(trials, k) * comb(base_trials, total - k) for k in could if k >= own) / ways
    below = sum(comb(trials, k) * comb(base_trials, total - k) for k in could if k <= own) / ways
    return min(above, below) < 0.001


_SIDE_BY_SIDE = 0.9
"""Arms are apart if of a trial of each, one began first in more than this share of all such pairs."""


def run_apart(arms: Sequence[Arm], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Notes on pairs whose trials were not run side by side: what else changed in between moves a whole arm."""
    by_name = {arm.name: arm for arm in arms}
    for name, base_name in pairs:
        own, base = by_name[name], by_name[base_name]
        if not set(own.distinct("run_id")) & set(base.distinct("run_id")):
            how = f"{name} and {base_name} are of different runs"
        elif _one_first(sorted(own.distinct("started_at")), sorted(base.distinct("started_at"))):
            how = f"{name} and {base_name} were run one after the other, and not side by side"
        else:
            continue
        yield (
            f"{how}: a day that moves all of one by 5 points makes 13 to 31% false verdicts on these tasks; "
            "run both in one run to be sure"
        )


def _one_first(own: Sequence[str], base: Sequence[str]) -> bool:
    """True if nearly all of one began before nearly all of the other. Times are text of one form, in order."""
    if min(len(own), len(base)) < 3:
        return False
    before = sum(bisect_left(base, time) for time in own) / (len(own) * len(base))
    return max(before, 1 - before) > _SIDE_BY_SIDE


def _unknown(arm: ComparedArm) -> Iterator[str]:
    """A note on metrics that only some of the counted trials know. One that none of them knows is shown as unknown."""
    missing = {
        metric: summary.unknown
        for metric, summary in arm.stats.metrics.items()
        if METRICS[metric].of == metric and summary.unknown and summary.estimate.value is not None
    }
    if missing:
        yield f"{arm.name}: unknown are " + ", ".join(
            f"{metric} of {plural(trials, 'trial')}" for metric, trials in missing.items()
        )
