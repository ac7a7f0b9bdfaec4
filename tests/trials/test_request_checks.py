"""What the model was sent, Claude Code's stderr and the tests' outcomes, compared with what was asked for."""

from __future__ import annotations

import hashlib

import pytest

from harness.records.egress import SentRequest, SentText
from harness.records.record_parts import TestOutcome
from harness.tasks.manifest import RunnerSpec
from harness.trials.check_plan import Ended
from harness.trials.judged_again import judged_again
from harness.trials.request_checks import differences_in_request
from harness.trials.runners.judging import judge_tests
from harness.trials.runners.tests_check import judge_junit
from harness.trials.stderr_checks import differences_in_stderr
from harness.variants.variant import ClaudeMd, Removed, Text, Variant


def sent_text(text: str, chars: int | None = None) -> SentText:
    """A text of a request; of more `chars` than were kept, if they are given."""
    return SentText(hashlib.sha256(text.encode()).hexdigest(), chars or len(text), text)


def instructions(path: str, text: str) -> SentText:
    """A context as Claude Code words it."""
    return sent_text(f"Contents of {path} (project instructions, checked into the codebase):\n\n{text}\n")


@pytest.mark.parametrize("name", ["system_prompt", "append_system_prompt"])
def test_a_prompt_is_demanded_of_the_request_as_far_as_it_was_kept(name: str) -> None:
    """It may be part of any block; a block that was cut off may have had it."""
    variant = Variant(**{name: Text("Be terse.\n")})  # type: ignore[arg-type]
    blocks = [
        sent_text("You are ... Be terse. Use tools."),
        sent_text("You are ..."),
        sent_text("You are ...", 90_000),
    ]
    found = [differences_in_request(variant, SentRequest("m", system=(block,))) for block in blocks]
    assert found == [(), (f"the request did not have the text of `{name}`",), ()]


def test_agents_md_is_demanded_of_the_request_or_must_be_gone() -> None:
    """Where a CLAUDE.md is why it is missing, that is said."""
    given, removed = Variant(agents_md=Text("Test first.\n")), Variant(agents_md=Removed())
    with_it, without, beside = (
        SentRequest("m", context=(instructions(f"/home/user/repo/{name}", text),))
        for name, text in (("AGENTS.md", "Test first."), ("notes.md", "None."), ("CLAUDE.md", "Other."))
    )
    missing = "the request did not have the AGENTS.md"
    assert [differences_in_request(given, sent) for sent in (with_it, without, beside)] == [
        (),
        (missing,),
        (f"{missing}: Claude Code reads it only where the repo has no CLAUDE.md",),
    ]
    assert [differences_in_request(removed, sent) for sent in (with_it, without)] == [
        ("AGENTS.md was to be taken away, and was in the request",),
        (),
    ]


def test_an_import_from_the_home_folder_is_demanded_of_the_request() -> None:
    """`~/` is the home of whoever the repo belongs to."""
    variant = Variant(claude_md=ClaudeMd("See @~/notes.md\n"))
    context = (
        instructions("/home/user/repo/CLAUDE.md", "See @~/notes.md"),
        instructions("/home/user/notes.md", "x"),
    )
    assert differences_in_request(variant, SentRequest("m", context=context)) == ()
    missing = differences_in_request(variant, SentRequest("m", context=context[:1]))
    assert missing == ("repo/CLAUDE.md imports notes.md, and the request did not have it",)


def test_a_warning_about_effort_or_a_beta_counts_against_who_asked_for_it() -> None:
    """Other warnings, and those about what was not asked for, do not."""
    stderr = (
        "Warning: --effort is not known\nwarning: beta 'b-1' is ignored\nnote: --effort\nwarning: other\n"
    )
    effort, beta = (f"Claude Code said on stderr: {line}" for line in stderr.splitlines()[:2])
    assert differences_in_stderr(Variant(effort="high"), stderr) == (effort,)
    assert differences_in_stderr(Variant(betas=("b-1",)), stderr) == (beta,)
    assert differences_in_stderr(Variant(), stderr) == ()


@pytest.mark.parametrize(("failed", "last"), [(20, "  t19: failed"), (23, "  and 3 more")])
def test_of_many_tests_that_failed_the_first_are_named_and_the_rest_counted(failed: int, last: str) -> None:
    """No line speaks of more where there are none."""
    outcomes: dict[str, TestOutcome] = {f"t{number}": "failed" for number in range(failed)}
    spec = RunnerSpec(runner="pytest", paths=["tests"], must_pass=list(outcomes))
    words = judge_tests(spec, outcomes, None).words.splitlines()
    assert (words[0], words[-1]) == (f"0 of {failed} demanded tests passed", last)


def test_the_evidence_of_a_foreign_report_is_the_report() -> None:
    """Whoever judges it again reads what the tool wrote, and no reading of ours."""
    report = '<testsuite><testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
    spec = RunnerSpec(runner="junit", command="make test", report="r.xml", must_pass=["a"])
    evidence = judge_junit(spec, Ended(0, report.encode() + b"\0")).evidence
    assert (evidence["junit"], "outcomes" in evidence) == (report + "\0", False)
    again = judged_again({"exit_code": 0, "timed_out": False, "duration_ms": 1, **evidence})
    assert (again["passed"], [test["outcome"] for test in again["tests"]]) == (True, ["passed", "failed"])
