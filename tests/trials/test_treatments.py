"""Each kind of treatment, through the real CLI: the model got it, or it is told that it did not.

What Claude Code passes over in silence must not count as applied, unless docs/variants.md lists it as unprovable.
"""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from harness.errors import ProblemsError
from harness.local.launch import LocalServer
from harness.variants.declared import load_variants
from harness.variants.sham import sham_of
from harness.variants.variant import Variant
from tests.support.folders import task_folder, write_files
from tests.support.messages_api import MessagesApi, Say, Step, Usage, Use
from tests.support.treatments import RULES, TREATMENTS, Treatment
from tests.support.trials import Story, tell

WRITE = Use("Bash", {"command": "echo 42 >answer.txt"})
DOCS = Path(__file__).parents[2] / "docs" / "variants.md"


def declared(folder: Path, toml: str, files: dict[str, str | bytes] | None = None) -> Variant:
    write_files(folder, {"variants.toml": f"[v]\n{toml}\n", **(files or {})})
    return load_variants(folder / "variants.toml").variants[0]


def told(
    server: LocalServer,
    root: Path,
    toml: str,
    script: list[Step] | None = None,
    task: str = "",
    files: dict[str, str | bytes] | None = None,
) -> tuple[Story, MessagesApi]:
    """A trial whose requests the proxy saw."""
    folder = task_folder(root, toml=task)
    with MessagesApi(script or [WRITE, Say("done"), Say("done")]) as api:
        return tell(server, api, folder, variant=declared(root, toml, files), key_outside=True), api


@pytest.mark.parametrize(
    "treatment", [one for one in TREATMENTS if one.told == "collection"], ids=lambda one: one.name
)
def test_what_can_be_seen_before_is_refused_before(tmp_path: Path, treatment: Treatment) -> None:
    """With what is wrong, and before anything runs."""
    with pytest.raises(ProblemsError) as problems:
        declared(tmp_path, treatment.toml, dict(treatment.files))
    assert treatment.words in str(problems.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "treatment", [one for one in TREATMENTS if one.told != "collection"], ids=lambda one: one.name
)
def test_a_treatment_reaches_the_model_or_is_told(
    server: LocalServer, tmp_path: Path, treatment: Treatment
) -> None:
    """A trial passes with what the model was really sent, and is invalid, with the reason, without it."""
    variant = declared(tmp_path, treatment.toml, dict(treatment.files))
    folder = task_folder(tmp_path, repo={"question.txt": "6 x 7?\n", **treatment.repo})
    with MessagesApi([WRITE, Say("done"), Say("done")]) as api:
        story = tell(server, api, folder, variant=variant, key_outside=True)
    record = story.record
    sent = json.dumps(api.requests[0].body, ensure_ascii=False).replace("\\n", "\n") if api.requests else ""
    why = " ".join((*record.differences, record.error.message if record.error else "", *record.notes))

    outcome = {"nowhere": "passed"}.get(treatment.told, treatment.told)
    assert (record.outcome, treatment.words in why) == (outcome, True), why
    assert [text for text in treatment.shows if text not in sent] == []
    if outcome == "passed":
        assert [text for text in treatment.hides if text in sent] == []
        assert record.notes == ()


def test_what_counts_as_applied_and_may_not_be_is_listed() -> None:
    """In docs/variants.md, in at most six kinds."""
    listed = DOCS.read_text().partition("### What cannot be proven")[2].partition("\n#")[0]
    kinds = [line.partition("**")[2].partition("**")[0] for line in listed.splitlines() if line[:2] == "- "]
    assert len(kinds) <= 6
    assert {one.unprovable for one in TREATMENTS if one.unprovable} <= {kind.strip(".") for kind in kinds}


def test_a_sham_has_the_shape_and_none_of_the_words() -> None:
    """The same characters, lines, headings and lists."""
    text = f"# Rules\n\n- {RULES}1. Never push.\n"
    sham = sham_of(text)
    assert list(map(len, sham.split("\n"))) == list(map(len, text.split("\n")))
    assert (sham[:2], sham.split("\n")[2][:2], sham.split("\n")[3][:3]) == ("# ", "- ", "1. ")
    assert not {"small", "functions;", "push."} & set(sham.split())


def test_permissions_hold_and_denials_are_recorded(server: LocalServer, tmp_path: Path) -> None:
    """Without a rule for it a command is denied: the agent fails, and the record says by what."""
    story, api = told(server, tmp_path, 'permission_mode = "dontAsk"\nallowed_tools = ["Read"]')
    record = story.record

    assert (record.outcome, record.permission_mode) == ("failed", "dontAsk")
    assert record.permission_denials == {"Bash": 1}
    assert "Bash" in (record.tools_offered or ())
    assert '"is_error": true' in json.dumps(api.requests[1].body)


def test_structured_output_and_stderr_are_recorded(server: LocalServer, tmp_path: Path) -> None:
    """The answer in the schema's form, and a warning after a good end."""
    toml = 'json_schema = {type = "object", required = ["sum"]}\nargs = ["--betas-of-none"]'
    toml = toml.replace('\nargs = ["--betas-of-none"]', '\nmodel = "no-model-of-theirs"')
    script: list[Step] = [WRITE, Use("StructuredOutput", {"sum": 42}), Say("done")]
    story, _ = told(server, tmp_path, toml, script)
    record = story.record

    assert record.outcome == "passed"
    assert record.turns[-1].structured_output == {"sum": 42}
    assert record.stderr
    assert "unrecognized_model" in (story.folder.path / record.stderr).read_text()


def test_a_prompt_that_asks_no_model_is_told(server: LocalServer, tmp_path: Path) -> None:
    """And is no silent failure."""
    folder = task_folder(tmp_path, prompts={"prompt.md": "/cost"})
    with MessagesApi([]) as api:
        story = tell(server, api, folder, key_outside=True)

    assert story.record.outcome == "failed"
    assert [turn.asked_model for turn in story.record.turns] == [False]
    assert "answered prompt 1 by itself, and no model was asked" in " ".join(story.record.notes)


THREE_TURNS = '[[turns]]\nprompt = "prompt.md"\n' * 3


@pytest.mark.slow
def test_versions_of_claude_code_side_by_side(server: LocalServer, tmp_path: Path) -> None:
    """Each is what was asked for, by its program's digest too, and its tokens are counted to the digit.

    Also on a template of one's own.
    """
    try:
        httpx.head("https://registry.npmjs.org/@anthropic-ai/claude-code", timeout=10)
    except httpx.HTTPError as error:
        pytest.skip(f"npm's registry cannot be reached: {error}")
    digests = set()
    for version in ("2.1.228", "2.1.277", "latest"):
        script: list[Step] = [
            Use("Bash", {"command": "echo 42 >answer.txt"}, usage=Usage(11, 7, 3, 2)),
            Say("done", Usage(100, 17, 5, 1)),
            Say("checked", Usage(1000, 29, 0, 4)),
            Say("told", Usage(2, 3, 4, 5)),
        ]
        toml = f'claude_version = "{version}"\nclaude_md = {{text = "Be kind."}}'
        toml += '\ntemplate = "own/Dockerfile"' if version == "2.1.277" else ""
        files: dict[str, str | bytes] = {"own/Dockerfile": "FROM claude\nRUN echo hi >/home/user/hi\n"}
        story, api = told(server, tmp_path / version, toml, script, THREE_TURNS, files)
        record = story.record
        assert (record.outcome, record.differences, record.notes) == ("passed", (), ())
        assert version in (record.claude_version, "latest")
        assert record.tokens.model_dump() == vars(api.total)
        assert [turn.tokens.total for turn in record.turns] == [146, 1033, 14]
        digests.add(record.claude_sha256)
    assert len(digests - {None}) == 3


def test_a_version_that_npm_has_not_is_told(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm is not reached: with what to do."""
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    story, _ = told(server, tmp_path, 'claude_version = "2.1.229"')

    assert story.record.error
    told_as = (story.record.error.cause, story.record.error.type)
    assert told_as == ("task", "claude_version"), story.record.error
    assert "NPM_CONFIG_REGISTRY" in str(story.record.error.remedy)


@pytest.mark.parametrize("version", ["2.1.227", "1.0.0", "0.2.14", "new", "v2.1.300"])
def test_a_version_that_is_not_supported_is_refused(tmp_path: Path, version: str) -> None:
    """With the lowest that is."""
    with pytest.raises(ProblemsError, match=r"2\.1\.228"):
        declared(tmp_path, f'claude_version = "{version}"')
