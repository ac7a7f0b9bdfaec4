"""A comparison in words: the same in the terminal, in Markdown and in HTML.

Nothing is escaped here: names come from records, and are untrusted wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView, PairView
from harness.report.formatting import LABELS, UNKNOWN, cost, count, names, percent, plural, seconds
from harness.report.notes import uncounted
from harness.report.tags import TagRow
from harness.stats.data import METRICS, WAITS, MetricName
from harness.stats.results import (
    ENOUGH_TASKS,
    POWER,
    Answer,
    AtK,
    Contrast,
    Estimate,
    IfExcluded,
    Interval,
    Question,
    Range,
    Verdict,
)

SHOW: Mapping[MetricName, Callable[[float | None], str]] = {
    "pass": percent,
    "score": percent,
    "cost": cost,
    "bill": cost,
    "pass_cost": cost,
    "tokens": count,
    "all_tokens": count,
    "duration": seconds,
    "start": seconds,
    "retry_wait": seconds,
    "mcp_wait": seconds,
    "all_duration": seconds,
    "turns": lambda number: UNKNOWN if number is None else f"{number:.1f}",
}
NO_ANSWER = "no answer"
QUESTIONS: tuple[Question, Question] = ("suite", "population")


def tasks_of(question: Question, tasks: int | None = None) -> str:
    """The tasks that a question is about: `these 8 tasks`, `tasks like these`."""
    if question == "population":
        return "tasks like these"
    if tasks == 1:
        return "this task"
    return f"these {tasks} tasks" if tasks else "these tasks"


def verdict_words(contrast: Contrast) -> tuple[str, str]:
    """The verdict of the question answered first, as it stands between the two names, and after them."""
    return _says(contrast, contrast.question)


def _says(contrast: Contrast, question: Question) -> tuple[str, str]:
    answer = contrast.by(question)
    found = answer.difference
    where = tasks_of(question, found.tasks)
    plain: Mapping[Verdict, str] = {
        "improvement": "is better than",
        "regression": "is worse than",
        "inconclusive": "may be better or worse than",
    }
    if answer.verdict != "equivalent":
        return plain[answer.verdict], f" on {where}"
    points = f"{contrast.margin * 100:.3g} points"
    below, above = found.high is not None and found.high < 0, found.low is not None and found.low > 0
    if below or above:
        return (
            f"is {'lower' if below else 'higher'} than",
            f", but by less than {points}, on average over {where}",
        )
    return "is, against", f", no worse and no better than {points}, on average over {where}"


def estimate(arm: ComparedArm, metric: MetricName) -> Estimate:
    """The value that the comparison stands on, with the interval about tasks like these."""
    return arm.stats.metrics[metric].estimate


def value(arm: ComparedArm, metric: MetricName) -> str:
    """An arm's value: `35%`, `$0.41`."""
    return SHOW[metric](estimate(arm, metric).value)


def interval(metric: MetricName, found: Estimate) -> str:
    """The interval of a value: `16% to 62%`; empty when there is none."""
    show = SHOW[metric]
    return f"{show(found.interval.low)} to {show(found.interval.high)}" if found.interval else ""


def change(metric: MetricName, number: float | None) -> str:
    """A difference: `+12.5 pts` of a rate, `-20%` of a baseline. Only no difference at all is shown as 0."""
    if number is None:
        return UNKNOWN
    unit = "%" if METRICS[metric].relative else " pts"
    scaled = number * 100
    if abs(scaled) >= 99_950:
        return f"x{number + 1:,.0f}" if number < 1e6 else ">x1,000,000"
    if abs(scaled) >= 1000:
        return f"x{number + 1:.3g}"
    digits = 0 if abs(scaled) >= 9.95 else 1
    shown = f"{scaled:+.{digits}f}"
    if scaled and not shown.strip("+-0."):
        return f"{'+' if scaled > 0 else '-'}<0.1{unit}"
    return f"{shown}{unit}" if scaled else f"0{unit}"


def change_interval(metric: MetricName, interval: Interval | None) -> str:
    """The interval of a difference: `-3.0 to +27`; the unit is the difference's."""
    if interval is None:
        return ""
    unit = "%" if METRICS[metric].relative else " pts"
    low, high = (change(metric, number).removesuffix(unit) for number in (interval.low, interval.high))
    return f"{low} to {high}"


def difference(contrast: Contrast, question: Question | None = None) -> str:
    """The difference and its interval: `+41 pts (+12 to +66)`."""
    found = contrast.by(question or contrast.question).difference
    interval = change_interval(contrast.metric, found.interval)
    return change(contrast.metric, found.value) + (f" ({interval})" if interval else "")


def no_verdicts(view: ComparisonView) -> list[str]:
    """The sentences in the place of verdicts on arms of which no trial counts: each reason once, with all its arms."""
    arms: dict[str, list[str]] = {}
    for arm in view.arms:
        why = uncounted(arm)
        if why is not None:
            arms.setdefault(why, []).append(arm.name)
    return [
        f"{', '.join(names)}: no verdict, since no trial of {'it' if len(names) == 1 else 'them'} counts ({why})"
        for why, names in arms.items()
    ]


def has_verdict(view: ComparisonView, pair: PairView) -> bool:
    """True if trials of both arms count."""
    return all(uncounted(view.arm(name)) is None for name in (pair.arm, pair.baseline))


def verdict(contrast: Contrast, question: Question | None = None) -> str:
    """The verdict in a word; unknown where there is no value to judge, `no answer` where there is no interval."""
    answer = contrast.by(question or contrast.question)
    if answer.difference.value is None:
        return UNKNOWN
    return answer.verdict if answer.difference.interval else NO_ANSWER


def shown(pair: PairView) -> Iterator[Contrast]:
    """The contrasts to show: sums, the cost of a pass and waits only where they have a value."""
    for contrast in pair.contrasts.values():
        metric = METRICS[contrast.metric]
        if (
            metric.name not in WAITS and metric.form in ("rate", "typical")
        ) or contrast.difference.value is not None:
            yield contrast


def metric_rows(
    view: ComparisonView, pair: PairView, question: Question
) -> Iterator[tuple[Contrast, list[str]]]:
    """Each metric's contrast, with its name, the baseline's value, the arm's, the difference and its interval."""
    own, base = view.arm(pair.arm), view.arm(pair.baseline)
    for contrast in shown(pair):
        found = contrast.by(question).difference
        both = value(base, contrast.metric), value(own, contrast.metric)
        ends = change_interval(contrast.metric, found.interval) or UNKNOWN
        yield contrast, [LABELS[contrast.metric], *both, change(contrast.metric, found.value), ends]


def headline(pair: PairView) -> str:
    """The answer in one sentence, about the pass rate: of which tasks it speaks, and what could turn it."""
    contrast = pair.contrasts["pass"]
    if contrast.difference.value is None:
        return f"{pair.arm} cannot be compared with {pair.baseline}: {contrast.difference.reason}"
    between, after = verdict_words(contrast)
    return f"{pair.arm} {between} {pair.baseline}{after}: {confidence(pair)}"


def confidence(pair: PairView) -> str:
    """The pass rate with its interval, the tasks that are lost, and what could turn the verdict."""
    return "; ".join(
        [f"pass rate {difference(pair.contrasts['pass'])}", *_lost(pair), *possible_verdicts(pair)]
    )


def _lost(pair: PairView) -> Iterator[str]:
    if lost := pair.broken:
        yield f"{plural(len(lost), 'task')} lost: {names(lost)}"


def possible_verdicts(pair: PairView) -> Iterator[str]:
    """The verdict that the excluded trials could have made."""
    contrast = pair.contrasts["pass"]
    answer = contrast.by(contrast.question)
    ends = answer.if_excluded
    if ends is None:
        return
    others = [
        one
        for one in (ends.verdict_against, ends.verdict_favour)
        if one not in (answer.verdict, "inconclusive")
    ]
    if others:
        yield f"the excluded trials could make it {' or '.join(map(_a, dict.fromkeys(others)))}"
    elif answer.verdict not in (ends.verdict_against, ends.verdict_favour) or (
        answer.verdict != "inconclusive" and "inconclusive" in (ends.verdict_against, ends.verdict_favour)
    ):
        yield "the excluded trials could undo that"
    if more := [task for task in pair.breakable if task not in pair.broken]:
        yield f"had they failed, {plural(len(more), 'task')} would be lost: {names(more)}"


def _a(of: Verdict) -> str:
    return of if of == "equivalent" else f"{'an' if of[0] in 'aeiou' else 'a'} {of}"


def elsewhere(pair: PairView) -> str | None:
    """The other question's answer on the pass rate; None where the headline has the only one."""
    contrast = pair.contrasts["pass"]
    if contrast.difference.value is None:
        return None
    if contrast.question == "population":
        return f"on these tasks there is no answer: {contrast.suite.difference.reason}"
    found = contrast.population.difference
    if found.interval is None:
        return f"on tasks like these there is no answer: {found.reason}"
    between, after = _says(contrast, "population")
    ends = change_interval("pass", found.interval)
    return f"{pair.arm} {between} {pair.baseline}{after}: {ends}"


def design(view: ComparisonView, pair: PairView) -> str:
    """The design that the verdicts stand on: tasks, trials, level and corrections."""
    found = pair.contrasts["pass"].difference
    corrected = f", corrected for {len(view.pairs)} comparisons" if len(view.pairs) > 1 else ""
    tasks = plural(found.tasks, "task")
    own, base = (
        {task.task: task.trials for task in view.arm(name).stats.tasks} for name in (pair.arm, pair.baseline)
    )
    each = {number for task in own.keys() & base.keys() for number in (own[task], base[task])}
    trials = (
        f"{plural(each.pop(), 'trial')} each"
        if len(each) == 1
        else f"uneven trials, worth {found.trials:.3g} each"
    )
    if view.plan:
        looks = len(view.plan.looks)
        corrected += f", valid at each of up to {looks} looks" if looks > 1 else ", for one look at the end"
    return f"{tasks}, {trials}; {view.level * 100:.3g}% intervals{corrected}"


def details(view: ComparisonView, pair: PairView) -> Iterator[str]:
    """Sentences about one pair: why there is no interval, what would settle it, what the excluded could change."""
    yield from _unreckoned(pair)
    main = pair.contrasts["pass"]
    if main.unpaired:
        what = "1 task counts" if main.unpaired == 1 else f"{main.unpaired} tasks count"
        yield f"{what} under one of the two only, and cannot be compared"
    yield from _flips(pair)
    yield from _smallest(main)
    yield from _settle(pair)
    yield from _few_tasks(pair)
    for contrast in pair.contrasts.values():
        if ends := contrast.by(contrast.question).if_excluded:
            yield _bounds(contrast, ends)


def _unreckoned(pair: PairView) -> Iterator[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for question in QUESTIONS:
        for contrast in shown(pair):
            found = contrast.by(question).difference
            if found.reason:
                unknown = found.value is None
                where = "" if unknown else f" on {tasks_of(question)}"
                label = LABELS[contrast.metric]
                name = label.partition(",")[0] if unknown else label
                reasons.setdefault((where, found.reason), []).append(name)
    for (where, reason), metrics in reasons.items():
        yield f"no interval for {'; '.join(dict.fromkeys(metrics))}{where}: {reason}"
    if pair.contrasts["pass"].suite.difference.exact:
        yield "the interval of the pass rate on these tasks ends at 0: the exact test does not exclude it"


def _smallest(contrast: Contrast) -> Iterator[str]:
    for question in QUESTIONS:
        answer = contrast.by(question)
        where = f"smallest difference in pass rate that this design finds on {tasks_of(question)}"
        if answer.smallest.value:
            number, low, high = (
                change("pass", None if end is None else min(end, 1.0)).lstrip("+")
                for end in (answer.smallest.value, answer.smallest.low, answer.smallest.high)
            )
            ends = f" ({low.removesuffix(' pts')} to {high.removesuffix(' pts')})" if low != high else ""
            yield f"{where}, in {POWER * 100:.0f} of 100 runs: {number}{ends}"
        elif answer.smallest.reason and answer.smallest.reason != answer.difference.reason:
            yield f"{where}: {answer.smallest.reason}"


def _settle(pair: PairView) -> Iterator[str]:
    main = pair.contrasts["pass"]
    for question in QUESTIONS:
        answer = main.by(question)
        if answer.needed and answer.difference.interval:
            yield f"to settle {LABELS['pass']} on {tasks_of(question)}: {_needed(answer, question)}"
    others: dict[Question, list[str]] = {}
    for contrast in shown(pair):
        answer = contrast.by(contrast.question)
        if contrast.metric not in ("pass", "score") and answer.needed and answer.difference.interval:
            size = f"{LABELS[contrast.metric]}: {_needed(answer, contrast.question)}"
            others.setdefault(contrast.question, []).append(size)
    for question, sizes in others.items():
        yield f"to settle the others on {tasks_of(question)}: {'; '.join(sizes)}"


def _needed(answer: Answer, question: Question) -> str:
    size = answer.needed or Range(None)
    unit = "trials of each task" if question == "suite" else "tasks"
    if size.value is None:
        least = f"; at least {size.low:,.0f}" if size.low else ""
        return f"{size.reason} {unit}{least}"
    if size.low is None or size.low == size.high:
        return f"{size.value:,.0f} {unit}"
    if size.high is None or size.high > 10 * size.low:
        return f"at least {size.low:,.0f} {unit}, and it may need far more"
    return f"about {size.value:,.0f} {unit} ({size.low:,.0f} to {size.high:,.0f})"


def _few_tasks(pair: PairView) -> Iterator[str]:
    """The limits of what a few tasks can tell about others, and one task that makes a sum."""
    tasks = max(
        (c.population.difference.tasks for c in shown(pair) if c.population.difference.interval), default=0
    )
    if 0 < tasks < ENOUGH_TASKS:
        yield (
            f"not promised on tasks like these: an effect on few tasks may be missing from {tasks}, "
            "in pass rate as in cost"
        )
    for contrast in shown(pair):
        if contrast.largest_share and contrast.largest_share > 0.5:
            yield f"one task makes {percent(contrast.largest_share)} of {LABELS[contrast.metric]}"


def _bounds(contrast: Contrast, ends: IfExcluded) -> str:
    metric = contrast.metric
    return (
        f"{LABELS[metric]}, had all excluded trials gone against {contrast.variant}: "
        f"{change(metric, ends.against.value)}, {ends.verdict_against}; "
        f"had all gone for it: {change(metric, ends.favour.value)}, {ends.verdict_favour}"
    )


def _flips(pair: PairView) -> Iterator[str]:
    for kind, says in (("gained", "now passes"), ("lost", "now fails")):
        of_kind = [flip for flip in pair.flips if flip.flip == kind]
        sure = [flip.task for flip in of_kind if flip.established]
        noisy = [flip.task for flip in of_kind if not flip.established]
        if sure:
            yield f"{says} (established): {names(sure)}"
        if noisy:
            yield f"{says} in most trials (may be noise): {names(noisy)}"


def flaky(arm: ComparedArm) -> str | None:
    """The tasks of an arm that both passed and failed."""
    tasks = arm.flaky
    return f"{arm.name}: {len(tasks)} flaky: {names(tasks)}" if tasks else None


def at_k(found: Sequence[AtK]) -> str:
    """`1: 35%, 3: 57% (7 of 8 tasks)`."""
    return ", ".join(
        f"{one.k}: {percent(one.value)}"
        + (f" ({one.tasks} of {one.tasks + one.left_out} tasks)" if one.left_out else "")
        for one in found
    )


_SHORT = 100
"""The most characters of a value that a line tells."""


def variant_line(arm: ComparedArm) -> str | None:
    """A variant on one line; None where what it sets is unknown."""
    if arm.asked is None:
        return None
    told = [
        f"{key} = {value if len(value) <= _SHORT else f'{value[:_SHORT]} ...'}"
        for key, value in arm.asked.items()
    ]
    return "; ".join(told) or "sets nothing: Claude Code as the tasks have it"


TAG_COLUMNS = ("tag", "tasks", "variant", "passed", "pass rate", LABELS["bill"], LABELS["pass_cost"])


def tag_cells(row: TagRow) -> Iterator[list[str]]:
    """A tag's lines, one for each variant, under `TAG_COLUMNS`."""
    for place, cell in enumerate(row.cells):
        first = ["", ""] if place else [row.tag, str(row.tasks)]
        counts = f"{cell.passed} of {cell.counted}"
        yield [*first, cell.arm, counts, percent(cell.rate), cost(cell.bill_usd), cost(cell.pass_cost_usd)]
