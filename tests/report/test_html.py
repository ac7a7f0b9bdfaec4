"""The HTML report, in a real Chromium: it says what the records say, runs nothing of an agent's, and needs no mouse."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from math import dist
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cli import main
from harness.errors import UsageError
from harness.records.events import turn_marker
from harness.records.record import TrialRecord
from harness.records.record_parts import CheckResult, ErrorRecord, Tampering, ToolCounts
from harness.records.redaction import NO_REDACTION
from harness.records.store import RunFolder
from harness.report.html.charts import Scale, scale_of, spread
from harness.report.html.places import HEIGHT, RADIUS, lane_offsets, letter_offsets
from harness.report.html.render import write_report
from harness.report.html.trials import PackLimits, pack_trial
from harness.report.sanitize import sanitize
from tests.support.browser import chromium, chromium_path
from tests.support.records import a_record
from tests.support.runs import line, made_up_run, message

HOSTILE = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=1</script>",
    "'\"><img src=x onerror=window.hit=1>",
    "<svg onload=window.hit=1>",
    "--><iframe srcdoc='<script>parent.hit=1</script>'>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:window.hit=1",
    "\u2028window.hit=1\u2029",
    "\u202egnp.exe\u2066\u200f\u2028",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x00\x9b",
    "&lt;b&gt;&amp;",
    "</style></template></textarea><plaintext>",
)


MARKUP = "img, iframe, object, embed, plaintext, textarea, [onload], [onerror], [srcdoc]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = chromium_path()
    if path is None:
        pytest.skip("there is no Chromium: `apt-get install chromium` brings it")
    with chromium(path) as found:
        yield found


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """A page that fails its test when a script fails, or when it asks for anything but the file."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: None if asked.url.startswith("file:") else faults.append(asked.url))
    yield page
    context.close()
    assert faults == []


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two variants x twelve tasks x three trials."""
    results = tmp_path_factory.mktemp("results")
    made_up_run(results, tasks=12, trials=3)
    return write_report(results, [], results / "report.html").path


def url(path: Path, fragment: str = "") -> str:
    return f"file://{path}{fragment}"


def a_run(results: Path, *records: TrialRecord, run_id: str = "20261123-090141-3f9c") -> RunFolder:
    run = RunFolder.create(results, run_id, {}, NO_REDACTION)
    for record in records:
        run.append(record.model_copy(update={"run_id": run_id}))
    return run


def written(results: Path, *names: str, **options: Any) -> str:
    return write_report(results, names, results / "report.html", **options).path.read_text(encoding="utf-8")


def unpacked(pack: str) -> Any:
    return json.loads(gzip.decompress(base64.b64decode(pack)))


# What it says


def test_it_answers_the_question_first(tab: Any, report: Path) -> None:
    """The first screen has the verdict, the interval and the price, without a click."""
    tab.goto(url(report))
    answer = tab.locator("article.pair").first
    assert "with-docs is better than" in re.sub(r"\s+", " ", answer.locator("h3").inner_text())
    assert re.search(r"Pass rate \+\d+ pts \(.* to .*\)", answer.inner_text())
    assert re.search(r"The bill \+\d+% \(.* to .*\), from \$.* to \$.* a trial", answer.inner_text())
    box = answer.bounding_box()
    assert box["y"] + box["height"] < 900


def compared_run(results: Path) -> Path:
    """Three variants, of which two bring a CLAUDE.md; two tasks share a tag. A value is half a letter."""
    run = made_up_run(results, tasks=3, variants=("plain", "brief", "long"), trials=2, steps=1)
    tasks = sorted({json.loads(line)["task"] for line in (run / "records.jsonl").open()})
    about = {
        "command": "pytest tasks --seed 7",
        "seed": 7,
        "variants": {
            "plain": {},
            "brief": {"claude_md": {"sha256": "a" * 64, "chars": 12, "mode": "append"}, "model": "haiku"},
            "long": {
                "claude_md": {"sha256": "b" * 64, "chars": 20},
                "settings": {"env": {"A": "\ud800"}, "autoUpdates": False},
            },
        },
        "texts": {"brief": {"claude_md": "Be brief.\n"}, "long": {"claude_md": "Be brief.\nBe kind.\n"}},
        "tasks": {
            task: {"description": f"About {task}", "tags": [["shared"], ["shared"], ["alone"]][place]}
            for place, task in enumerate(tasks)
        },
    }
    (run / "run.json").write_text(json.dumps(about))
    return run


def test_an_output_that_is_no_file_stays_what_it_is(tmp_path: Path) -> None:
    """A device is written to, and a link's file is written: neither is replaced."""
    run = made_up_run(tmp_path, tasks=1, trials=1, steps=1)
    for name, behind in {"device": Path("/dev/null"), "link": tmp_path / "page.html"}.items():
        (tmp_path / name).symlink_to(behind)
        assert write_report(tmp_path, [str(run)], tmp_path / name).size > 10_000
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_it_says_what_was_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In every form: what each variant sets, its texts (or their difference), the command, and the numbers by tag."""
    run = compared_run(tmp_path)
    page = write_report(tmp_path, [str(run)], None, "brief").path.read_text(encoding="utf-8")
    compared = page[page.index('<section id="compared"') : page.index('<section id="variants"')]
    for said in (
        "12 characters, after the repo&#39;s own, sha256 aaaaaaaaaaaa",
        "haiku",
        "pytest tasks --seed 7",
    ):
        assert said in compared
    assert '<span class="add">+Be kind.\n</span>' in compared
    assert "Sets nothing" in compared
    assert "taken away" not in compared, "a setting that is false is there"
    tags = page[page.index('<section id="tags"') : page.index('<section id="amounts"')]
    assert "shared" in tags
    assert "alone" not in tags
    for form in ("terminal", "markdown", "json"):
        assert main(["compare", str(run), "--format", form]) == 0
        said = capsys.readouterr().out
        assert "12 characters" in said or '"claude_md": "12 characters' in said
        assert "shared" in said
    assert json.loads(said)["variants"][1]["texts"] == {"CLAUDE.md": "Be brief.\n"}
    assert json.loads(said)["by_tag"][0]["cells"][0]["counted"] == 4


def test_every_trial_has_its_place(tab: Any, report: Path) -> None:
    """The grid has a row for each task, a cell for each variant, and a mark for each trial."""
    tab.goto(url(report))
    assert tab.locator("#grid tbody tr").count() == 12
    assert tab.locator("#grid td.cell").count() == 24
    assert tab.locator("#grid .mark").count() == 72


def test_the_navigation_leads_to_every_section(tmp_path: Path) -> None:
    """In the page's order; a section without content is neither linked nor there."""
    for tools, more in (({}, []), ({"Bash": ToolCounts(calls=1, errors=0)}, ["tools"])):
        a_run(tmp_path, a_record(tools=tools))
        text = written(tmp_path)
        sections = re.findall(r'<section id="(\w+)"', text)
        assert sections == ["verdict", "compared", "variants", "tasks", "amounts", *more, "notes"]
        assert re.findall(r'<a href="#(\w+)">', text) == sections


def test_a_replayed_run_says_so_before_all_else(tmp_path: Path) -> None:
    """Its numbers measure the plumbing."""
    a_run(tmp_path, a_record(model_source="replay", replay_by_hand=True))
    text = written(tmp_path)
    assert text.index("measures the plumbing") < text.index('<main id="main">')


def test_one_variant_is_told_by_itself(tmp_path: Path) -> None:
    """With its rate and interval, and with how to get a comparison."""
    a_run(tmp_path, *(a_record(task=f"t{place}") for place in range(5)))
    text = written(tmp_path)
    assert "nothing to compare" in text
    assert "5 of 5 trials passed" in text


def test_runs_can_be_compared(tmp_path: Path) -> None:
    """The same variant in two runs is two columns, each named with its run."""
    for run_id in ("20261101-000000-aaaa", "20261102-000000-bbbb"):
        a_run(tmp_path, *(a_record(task=f"t{place}") for place in range(5)), run_id=run_id)
    text = written(tmp_path, "20261101", "20261102")
    assert "default @ 20261101-000000-aaaa" in text
    assert "default @ 20261102-000000-bbbb" in text
    assert text.count('class="card pair') == 1


def test_means_of_different_tasks_are_no_change(tmp_path: Path) -> None:
    """Where a task is not compared, the price is told as the change over those that are, without the means."""
    for run_id, tasks in (("20261101-000000-aaaa", 4), ("20261102-000000-bbbb", 3)):
        costs = [0.1 * (place + 1) for place in range(tasks)]
        a_run(tmp_path, *(a_record(task=f"t{cost}", cost_usd=cost) for cost in costs), run_id=run_id)
    text = written(tmp_path, "20261101", "20261102")
    assert '<p class="sure">The bill 0%; a typical trial&#39;s cost 0%.</p>' in text


def test_two_tasks_have_no_interval_that_pushes_the_page_away(tmp_path: Path) -> None:
    """Of 1755 and 997 ms nothing can be said about others: no interval, and its reason."""
    for name in ("one", "two"):
        a_run(
            tmp_path,
            *(
                a_record(task=f"t{ms}", variant=name, duration_ms=ms, cost_usd=ms / 1000)
                for ms in (1755, 997)
            ),
        )
    text = written(tmp_path)
    assert not re.search(r"\d{8,}:\d\d min|e\+\d\d", text[: text.index('<script type="text/plain"')])
    assert "tell too little about others" in text


def test_the_baseline_can_be_named(tmp_path: Path) -> None:
    """And a wrong name is told with the right ones."""
    a_run(tmp_path, a_record(variant="one"), a_record(variant="two"))
    assert "All metrics of A against B" in written(tmp_path, baseline="two")
    with pytest.raises(UsageError, match="three") as caught:
        written(tmp_path, baseline="three")
    assert "one, two" in str(caught.value)


def test_nothing_known_is_no_zero(tmp_path: Path) -> None:
    """A run of which no cost, time or outcome is known still has its page, with dashes."""
    a_run(
        tmp_path, a_record(outcome="error", score=None), a_record(variant="b", outcome="invalid", score=None)
    )
    text = written(tmp_path)
    assert "No trial's cost is known" in text
    assert "$0" not in text.replace("$0.00<", "")


# From the command line


def test_the_command_says_where_the_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default in the run's folder; the last run, if none is named."""
    run = a_run(tmp_path, a_record())
    assert main(["report", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"{run.path / 'report.html'} (1 trial, ")
    assert (run.path / "report.html").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_wrong_wishes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No run, no records, no place to write: each in a line, with a remedy, and nothing is left behind."""
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert "pytest tasks" in capsys.readouterr().err
    empty = a_run(tmp_path)
    empty.records_file.touch()
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert "has no records" in capsys.readouterr().err
    empty.records_file.write_text("torn")
    for command in ("report", "export", "compare"):
        assert main([command, str(empty.path), *(["--to", "x.csv"] if command == "export" else [])]) == 2
        assert "records.jsonl:1 is no record, and left out" in capsys.readouterr().err
    empty.records_file.write_text("")
    a_run(tmp_path, a_record())
    (tmp_path / "file").touch()
    assert main(["report", "--results", str(tmp_path), "--output", f"{tmp_path}/file/report.html"]) == 2
    assert "--output" in capsys.readouterr().err
    assert not list(tmp_path.rglob(".report-*"))


def test_torn_records_are_told(tmp_path: Path) -> None:
    """A line that is no record is named in the notes."""
    run = a_run(tmp_path, a_record())
    with run.records_file.open("a") as file:
        file.write('{"torn')
    assert "records.jsonl:2 is no whole record" in written(tmp_path)


# A trial


def open_trial(tab: Any, path: Path, number: int = 0) -> None:
    """Its transcript, whatever it opens on."""
    tab.goto(url(path, f"#trial-{number}"))
    tab.wait_for_selector("#panel .facts")
    tab.keyboard.press("1")


def test_a_trial_can_be_read(tab: Any, tmp_path: Path) -> None:
    """Messages, each call with its result beside it, the diff by file, the checks' output, the record."""
    run = made_up_run(tmp_path, tasks=1, variants=["only"], trials=1, steps=4)
    open_trial(tab, write_report(tmp_path, [run.name], None).path)
    assert tab.locator("#panel .said").count() == 4
    assert tab.locator("#panel details.tool").count() == 4
    assert tab.locator("#panel details.tool pre.result").count() == 4
    tab.get_by_role("tab", name="Diff").click()
    assert tab.locator("#panel .file summary").inner_text() == "rooms/calendar.py +1 \N{MINUS SIGN}1"
    assert tab.locator("#panel .add").inner_text().strip().startswith("+        return all")
    tab.get_by_role("tab", name="Checks").click()
    assert tab.locator("#panel .check").count() == 2
    tab.get_by_role("tab", name="Record").click()
    assert json.loads(tab.locator("#panel pre").inner_text())["task"] == "fix-booking-overlap"


def test_what_was_asked_is_told(tab: Any, tmp_path: Path) -> None:
    """Each turn begins with its prompt, as text: a prompt may be somebody else's too."""
    run = made_up_run(tmp_path, tasks=1, variants=["only"], trials=1, steps=4)
    (transcript,) = run.rglob("transcript.jsonl")
    asked = "Fix <b>the</b> overlap.\nKeep the tests."
    transcript.write_bytes(turn_marker(1, asked) + transcript.read_bytes())
    open_trial(tab, write_report(tmp_path, [run.name], None).path)
    # `inner_text` is empty until the browser has drawn a step, which it does only once the step is on the screen.
    assert tab.locator("#panel .asked").text_content() == asked
    assert tab.locator("#panel .step").first.locator("h3").text_content() == "prompt 1"


def test_paper_is_white_and_nothing_is_cut(tab: Any, report: Path) -> None:
    """Printed from a dark screen, at the width of A4; an open trial is what is printed, with all its steps."""
    tab.set_viewport_size({"width": 690, "height": 900})
    tab.emulate_media(media="print", color_scheme="dark")
    tab.goto(url(report))
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    width, ground = tab.evaluate(
        "[document.documentElement.scrollWidth, getComputedStyle(document.body).backgroundColor]"
    )
    assert width <= 690
    assert min(map(int, re.findall(r"\d+", ground))) > 230
    open_trial(tab, report)
    tab.wait_for_selector("#panel pre.result")
    assert tab.locator("#panel pre.result").last.is_visible()
    assert not tab.locator("article.pair").first.is_visible()
    assert tab.evaluate("document.documentElement.scrollHeight > 900")


def test_the_whole_trial_is_there() -> None:
    """Errors, attempts, tampering and notes are told before the transcript."""
    record = a_record(
        outcome="error",
        score=None,
        error=ErrorRecord(cause="provider", type="rate_limit", message="E2B answered 429", remedy="wait"),
        tampering=(Tampering(path="tests/x.py", change="deleted"),),
        notes=("one note",),
    )
    told = "\n".join(unpacked(pack_trial(Path("/nowhere"), record, PackLimits()))["notices"])
    assert "E2B answered 429 (wait)" in told
    assert "deleted the protected file tests/x.py" in told
    assert "one note" in told


@pytest.mark.parametrize(
    ("transcript", "said"),
    [
        (None, "This trial has no transcript"),
        ("trials/gone.jsonl", "is missing: .*trials/gone.jsonl is not there"),
        ("../secret.txt", "outside of its run's folder"),
        ("/etc/passwd", "outside of its run's folder"),
        ("link", "outside of its run's folder"),
        ("trials", "is missing"),
    ],
)
def test_a_missing_transcript_is_told(tmp_path: Path, transcript: str | None, said: str) -> None:
    """And a record, which may be anybody's, brings no file of this machine into a page that is passed around."""
    run = tmp_path / "run"
    (run / "trials").mkdir(parents=True)
    (tmp_path / "secret.txt").write_text("secret")
    (run / "link").symlink_to(tmp_path / "secret.txt")
    content = unpacked(pack_trial(run, a_record(transcript=transcript, diff=transcript), PackLimits()))
    assert re.search(said, content["transcript_note"])
    assert content["transcript"] == []
    assert content["diff"] is None


def test_a_long_trial_is_cut_in_the_middle(tmp_path: Path) -> None:
    """It says how much is left out and where all of it is; its beginning and its end stay."""
    lines = [message([{"type": "text", "text": f"{number} " + "x" * 500}]) for number in range(100)]
    (tmp_path / "transcript.jsonl").write_bytes(b"".join(lines))
    (tmp_path / "diff.patch").write_text("+y\n" * 4_000)
    limits = PackLimits(transcript=10_000, piece=400, diff=1_000)
    record = a_record(transcript="transcript.jsonl", diff="diff.patch")
    content = unpacked(pack_trial(tmp_path, record, limits))
    bodies = [step["body"] for step in content["transcript"]]
    assert bodies[0].startswith("0 x")
    assert bodies[-1].startswith("99 x")
    assert "102 characters left out" in bodies[0]
    assert sum(map(len, bodies)) <= 10_000
    left_out = re.match(
        r"(\d+) of 100 steps are left out here; .*/transcript.jsonl", content["transcript_note"]
    )
    assert left_out
    assert int(left_out[1]) == 100 - (len(bodies) - 1)
    assert content["diff"] == ("+y\n" * 4_000)[:1_000]
    assert "first 1,000 of 12,000" in content["diff_note"]


# Nothing of an agent's runs


def hostile_record(text: str, place: int, run: RunFolder) -> TrialRecord:
    """A record that has the text wherever an agent, a file or another's record could put it."""
    task, variant = f"{text} {place}", f"v{place % 2} {' '.join(HOSTILE)}"
    folder = run.trial(task, variant, 1)
    events = [
        line(
            type="system", subtype="init", cwd=text, model=text, mcp_servers=[{"name": text, "status": text}]
        ),
        message([{"type": "text", "text": f"{text}\n```\n{text}\n```\n**{text}** `{text}`"}]),
        message([{"type": "thinking", "thinking": text}]),
        message([{"type": "tool_use", "id": text, "name": text, "input": {"command": text, text: text}}]),
        line(
            type="user", message={"content": [{"type": "tool_result", "tool_use_id": text, "content": text}]}
        ),
        line(type="result", subtype=text),
        text.encode() + b"\n",
    ]
    return a_record(
        task,
        variant,
        1,
        outcome="failed",
        score=0.0,
        checks=(CheckResult(name=text, passed=False, score=0, exit_code=1, duration_ms=1, output_tail=text),),
        tools={text: ToolCounts(calls=1, errors=0), f"mcp__{text}__{text}": ToolCounts(calls=1, errors=0)},
        mcp_servers={text: text},
        model=text,
        claude_version=text,
        template=text,
        cost_usd=0.1,
        notes=(text,),
        tampering=(Tampering(path=text, change="added"),),
        transcript=folder.write("transcript.jsonl", b"".join(events)),
        diff=folder.write(
            "diff.patch", f"diff --git a/{text} b/{text}\n+++ b/{text}\n@@ 1 @@\n+{text}\n".encode()
        ),
    )


def hostile_setup() -> dict[str, Any]:
    """A run.json that has the texts wherever it may have one: tasks in pairs share a tag, so that tags are shown."""
    everything = " ".join(HOSTILE)
    variants = [f"v{place} {everything}" for place in range(2)]
    return {
        "command": everything,
        "harness_version": everything,
        "variants": {name: {text: {text: text} for text in HOSTILE} for name in variants},
        "texts": {
            name: {"claude_md": f"{name}\n" + "\n".join(HOSTILE), **dict.fromkeys(HOSTILE, name)}
            for name in variants
        },
        "tasks": {
            f"{text} {place}": {"description": text, "tags": [text, everything]}
            for place, text in enumerate(HOSTILE)
        },
    }


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("hostile")
    run = RunFolder.create(results, "20261123-090141-3f9c", hostile_setup(), NO_REDACTION)
    for place, text in enumerate(HOSTILE):
        run.append(hostile_record(text, place, run))
    return write_report(results, [], None).path


def test_nothing_of_an_agents_runs(tab: Any, hostile: Path) -> None:
    """Whatever names, messages, results, diffs and checks hold, in every part of every trial: it is shown as text.

    Letters that turn a line's direction are written out, and a terminal's codes are gone. The page's policy would
    stop scripts too, and say so; that it has nothing to stop is what is tested.
    """
    texts = []
    for number in range(len(HOSTILE)):
        open_trial(tab, hostile, number)
        tab.wait_for_selector("#panel .said")
        tab.keyboard.press("e")
        for name in ("Diff", "Checks", "Record", "Transcript"):
            texts.append(tab.locator("body").inner_text())
            assert tab.locator(MARKUP).count() == 0
            tab.get_by_role("tab", name=name).click()
    assert tab.evaluate("window.hit") is None
    assert tab.locator("script:not([type])").count() == 1
    shown = "\n".join(texts)
    tab.keyboard.press("Escape")
    for place in ("compared", "tags"):
        assert "<plaintext>" in tab.locator(f"#{place}").inner_text()
    assert "<script>window.hit=1</script>" in shown
    assert "{{ 7 * 7 }}{% raw %}" in shown
    assert "\\u202egnp.exe\\u2066" in shown
    assert not re.search("[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\x1b]", shown)


def test_the_policy_lets_no_other_script_run(browser: Any, report: Path) -> None:
    """Even where markup would come through one day: an inline script and a request are both refused."""
    page = browser.new_page()
    page.goto(url(report))
    blocked = page.evaluate(
        """() => new Promise((resolve) => {
            const seen = [];
            const see = (event) => seen.push(event.effectiveDirective);
            document.addEventListener("securitypolicyviolation", see);
            const script = document.createElement("script");
            script.textContent = "window.hit = 1";
            document.body.append(script);
            const image = document.createElement("img");
            image.onerror = () => requestAnimationFrame(() => resolve(seen.sort()));
            image.src = "https://example.invalid/x.png";
            document.body.append(image);
        })"""
    )
    assert blocked == ["img-src", "script-src-elem"]
    assert page.evaluate("window.hit") is None
    page.close()


class Tags(HTMLParser):
    """The sequence of a page's tags and their attributes' names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[Any] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(tag)


def tags_of(folder: Path, word: str) -> list[Any]:
    """The tags of the page of two records that have a word wherever they have text."""
    results = folder / str(len(list(folder.iterdir())))
    texts: dict[str, Any] = {
        "model": word,
        "tools": {word: ToolCounts(calls=1, errors=0)},
        "mcp_servers": {word: word},
        "notes": (word,),
    }
    a_run(results, *(a_record(word, f"{word}{place}", **texts) for place in range(2)))
    return Tags(written(results)).found


@pytest.fixture(scope="session")
def tags_of_a_word(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return tags_of(tmp_path_factory.mktemp("word"), "word")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1, max_size=30) | st.sampled_from(HOSTILE))
def test_no_text_makes_markup(tmp_path: Path, tags_of_a_word: list[Any], text: str) -> None:
    """A page has the same tags whatever its records' texts are."""
    assert tags_of(tmp_path, text) == tags_of_a_word


@given(st.text())
def test_packed_trials_mean_nothing_in_html(text: str) -> None:
    """Whatever they hold, they are letters, digits and `+/=`."""
    pack = pack_trial(Path("/nowhere"), a_record(notes=(text,), model=text), PackLimits())
    assert re.fullmatch(r"[A-Za-z0-9+/=]*", pack)
    assert unpacked(pack)["notices"] == [sanitize(text).encode("utf-8", "replace").decode()]


@given(st.text())
def test_harmless_text_is_left_alone(text: str) -> None:
    """What was made harmless once stays as it is, has no control character, and lost none of its lines."""
    clean = sanitize(text)
    assert sanitize(clean) == clean
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", clean)


# Without a mouse


def test_the_keyboard_suffices(tab: Any, report: Path) -> None:
    """One stop for the whole grid, arrows within it, Enter opens, Escape closes and comes back to the mark."""
    tab.goto(url(report))
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "find"
    tab.keyboard.press("Tab")
    here = "document.activeElement.getAttribute('href')"
    assert tab.evaluate(here) == tab.locator("#grid .mark").first.get_attribute("href")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowRight")
    second = tab.locator("#grid tbody tr").nth(1).locator(".mark").nth(1).get_attribute("href")
    assert tab.evaluate(here) == second
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#panel .facts")
    title = tab.locator("#trial-title").inner_text()
    tab.keyboard.press("2")
    assert tab.get_by_role("tab", name="Diff").get_attribute("aria-selected") == "true"
    tab.keyboard.press("n")
    tab.wait_for_function("title => document.getElementById('trial-title').innerText !== title", arg=title)
    tab.keyboard.press("p")
    tab.wait_for_function("title => document.getElementById('trial-title').innerText === title", arg=title)
    tab.keyboard.press("n")
    tab.wait_for_function("title => document.getElementById('trial-title').innerText !== title", arg=title)
    tab.keyboard.press("Escape")
    assert not tab.locator("#trial").evaluate("dialog => dialog.open")
    third = tab.locator("#grid tbody tr").nth(1).locator(".mark").nth(2).get_attribute("href")
    assert tab.evaluate(here) == third
    assert "#" not in tab.url


def test_tasks_can_be_found(tab: Any, report: Path) -> None:
    """By kind, by name, and in another order; how many are shown is said aloud."""
    tab.goto(url(report))
    row = tab.locator("#grid tbody tr:not([hidden])")
    tab.get_by_role("button", name="Flaky").click()
    flaky = row.count()
    assert 0 < flaky < 12
    assert tab.locator("#shown").inner_text() == f"{flaky} of 12 tasks"
    tab.get_by_role("button", name="All tasks").click()
    tab.locator("#find").fill("booking")
    assert row.count() == 2
    tab.locator("#find").fill("")
    tab.locator("#sort").select_option("rate")
    rates = [float(rate) for rate in row.evaluate_all("rows => rows.map((row) => row.dataset.rate)")]
    assert rates == sorted(rates)


# In every light

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((part, at) => part * top[3] + under[at] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = rgba(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own.slice(0, 3) : over(own, ground(element.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const poor = new Map();
  for (const element of document.querySelectorAll("body *")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const aside = element.closest("script, style, noscript, :disabled, .sr, svg title");
    if (!says || aside || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const under = element.matches(".letter")
      ? rgba(getComputedStyle(element.previousElementSibling).fill).slice(0, 3)
      : ground(element.closest("svg") ? element.closest("svg").parentElement : element);
    const [high, low] = [light(over(rgba(ink), under)), light(under)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const name = element.className?.baseVal ?? element.className;
    if (ratio < 4.5) poor.set(`${element.tagName}.${name}`, ratio.toFixed(2));
  }
  return [...poor].map((pair) => pair.join(" "));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Any, tmp_path: Path, scheme: Any) -> None:
    """All text has the contrast of WCAG AA (4.5 to 1), in both schemes, in the page and in a trial."""
    made_up_run(tmp_path, tasks=12, variants=[f"v{number}" for number in range(8)], trials=2)
    path = write_report(tmp_path, [], None).path
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(url(path))
    assert page.evaluate(CONTRAST) == []
    page.goto(url(path, "#trial-1"))
    page.wait_for_selector("#panel .facts")
    page.keyboard.press("e")
    for key in "1234":
        page.keyboard.press(key)
        assert page.evaluate(CONTRAST) == []
    context.close()


def test_the_scheme_follows_the_system_until_it_is_chosen(browser: Any, report: Path) -> None:
    """Dark where the system is; the button goes through light and dark, and a reload keeps the choice."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(url(report))
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light
    context.close()


def test_a_narrow_screen_shows_it_all(browser: Any, report: Path) -> None:
    """A telephone scrolls tables, and never the page, sideways."""
    context = browser.new_context(viewport={"width": 360, "height": 700})
    page = context.new_page()
    page.goto(url(report))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    # The grid fits; what does not is marked, and nothing else.
    wide = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
    for whole in ("#grid", ".metrics >> nth=0"):
        assert not page.locator(whole).evaluate(
            "table => table.scrollWidth > table.parentElement.clientWidth"
        )
    assert page.evaluate(f"{wide}.length") == page.locator(".scrolls:visible").count() > 0
    context.close()


def test_a_failed_trial_opens_on_what_failed(tab: Any, report: Path) -> None:
    """It is called by its names, and shows its failed check first, until the reader picks another part."""
    tab.goto(url(report))
    tab.locator("#grid .mark.failed").first.click()
    tab.wait_for_selector("#panel .check")
    title = tab.locator("#trial-title").inner_text()
    assert re.fullmatch(r"✗ failed [\w-]+, (default|with-docs), trial [123]", title)
    assert tab.locator("#panel .check").first.inner_text().startswith("✗ failed")
    tab.keyboard.press("1")
    tab.keyboard.press("n")
    tab.wait_for_selector("#panel .said")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=5))
def test_no_letter_hides_another_in_the_cost_plot(points: list[tuple[int, int]]) -> None:
    """Nor another variant's point, whatever the width; also where all points are one."""
    for anchors in (points, points[:1] * len(points)):
        offsets = letter_offsets([(float(x), float(y)) for x, y in anchors])
        for width in (230, 360, 700, 860):
            spots = [(x * width / 100, y * HEIGHT / 100) for x, y in anchors]
            letters = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(spots, offsets, strict=True)]
            for place, letter in enumerate(letters):
                assert all(dist(letter, other) > 2 * RADIUS for other in letters[:place])
                assert all(dist(letter, spot) >= RADIUS for at, spot in enumerate(spots) if at != place)


def test_whiskers_on_each_other_have_lanes() -> None:
    """Three that are one lie beside each other; one elsewhere stays where it is."""
    same = (10.0, 40.0, 50.0)
    found = lane_offsets([same, same, same, (60.0, 80.0, 50.0), None], HEIGHT)
    assert len(set(found[:3])) == 3
    assert found[3:] == [0.0, 0.0]


@pytest.mark.parametrize("width", [360, 1280])
def test_names_stay_in_their_column(browser: Any, tmp_path: Path, width: int) -> None:
    """A long one is folded, and does not run into whom it is compared with."""
    names = ("default", "with-docs", "haiku-terse-no-claude-md")
    run = made_up_run(tmp_path, tasks=4, variants=names, steps=2)
    # A task's name is said in sentences, too.
    records = (run / "records.jsonl").read_text()
    (run / "records.jsonl").write_text(re.sub(r'("task": "[\w-]+)', r"\1" + "x" * 400, records))
    path = write_report(tmp_path, [str(run)], None).path
    context = browser.new_context(viewport={"width": width, "height": 700})
    page = context.new_page()
    page.goto(url(path))
    room = page.evaluate(
        "[...document.querySelectorAll('.glance th[scope=row]')].map(cell => "
        "cell.getBoundingClientRect().right - cell.firstElementChild.getBoundingClientRect().right)"
    )
    assert len(room) == 2
    assert min(room) >= 0
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.slow
def test_two_thousand_trials(tab: Any, tmp_path: Path) -> None:
    """All are there, and the last one opens."""
    made_up_run(tmp_path, tasks=100, variants=["a", "b", "c", "d"], trials=5)
    path = write_report(tmp_path, [], None).path
    tab.goto(url(path))
    assert tab.locator("#grid .mark").count() == 2_000
    open_trial(tab, path, 1_999)
    assert tab.locator("#panel .said").count() == 12


# Drawing


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50))
def test_drawings_stay_inside(values: list[float]) -> None:
    """Each value has a place on its scale, in order, and so have the ticks and the dots."""
    scale = scale_of(values)
    places = [scale.at(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 100 for place in places)
    ticks = [tick.at for tick in scale.ticks(str)]
    assert ticks == sorted(ticks)
    assert len(ticks) <= 12
    found = spread(values, scale)
    assert found.low_at <= found.median_at <= found.high_at
    assert found.dots.count("M") == len(values)


def test_what_lies_outside_is_held_at_the_edge() -> None:
    """An interval that leaves the chart ends at its edge."""
    assert Scale(-1, 1).at(5) == 100
    assert Scale(-1, 1).at(-5) == 0
    assert Scale(-1, 1).at(0) == 50
