"""A comparison as JSON, for other tools: both questions of every metric, and the gate. Unknown numbers are null."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.report import phrases
from harness.report.arms import ComparedArm
from harness.report.comparison import ComparisonView, PairView
from harness.report.gate import Gate
from harness.report.sanitize import sanitize_json
from harness.stats.results import Answer, Contrast, Difference


def render(view: ComparisonView, gate: Gate | None = None) -> str:
    """All of it as one object."""
    content = {
        "level": view.level,
        "runs": [{"source": setup.source, **dict(setup.facts)} for setup in view.setups],
        "tasks": list(view.tasks),
        "task_words": {name: asdict(words) for name, words in view.words.items()},
        "variants": [_arm(arm) for arm in view.arms],
        "by_tag": [asdict(row) for row in view.tags],
        "pairs": [_pair(pair) for pair in view.pairs],
        "notes": list(view.notes),
        "gate": {"words": gate.words, "failed": gate.failed, "unsettled": gate.unsettled} if gate else None,
    }
    return sanitize_json(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _arm(arm: ComparedArm) -> dict[str, Any]:
    """A variant by itself: what it is, and its means over tasks, in US dollars and milliseconds."""
    return {
        "name": arm.name,
        "source": arm.source,
        "sets": arm.asked,
        "texts": arm.texts,
        "models": arm.models,
        "claude_versions": arm.claude_versions,
        "templates": arm.templates,
        "trials": arm.trials,
        "passed": arm.passed,
        "failed": arm.failed,
        "error": arm.errors,
        "invalid": arm.invalid,
        "excluded": [{"outcome": one.outcome, "why": one.why, "trials": one.trials} for one in arm.excluded],
        "spent_usd": arm.spent_usd,
        "means": {name: summary.estimate.value for name, summary in arm.stats.metrics.items()},
    }


def _pair(pair: PairView) -> dict[str, Any]:
    return {
        "variant": pair.arm,
        "baseline": pair.baseline,
        "headline": phrases.headline(pair),
        "lost": list(pair.broken),
        "lost_if_excluded_failed": list(pair.breakable),
        "flips": [asdict(flip) for flip in pair.flips],
        "metrics": {name: _contrast(contrast) for name, contrast in pair.contrasts.items()},
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "answered_first": contrast.question,
        "margin": contrast.margin,
        "unpaired": contrast.unpaired,
        **{question: _answer(contrast.by(question)) for question in phrases.QUESTIONS},
    }


def _answer(answer: Answer) -> dict[str, Any]:
    ends = answer.if_excluded
    return {
        **_difference(answer.difference),
        "verdict": answer.verdict,
        "smallest_difference": asdict(answer.smallest),
        "needed": asdict(answer.needed) if answer.needed else None,
        "if_excluded": {
            "against": {**_difference(ends.against), "verdict": ends.verdict_against},
            "favour": {**_difference(ends.favour), "verdict": ends.verdict_favour},
        }
        if ends
        else None,
    }


def _difference(found: Difference) -> dict[str, Any]:
    """Points as shares of 1, or the change as a share of the baseline."""
    interval = found.interval
    return {
        "difference": found.value,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "level": found.level,
        "tasks": found.tasks,
        "trials": found.trials,
        "reason": found.reason,
    }
