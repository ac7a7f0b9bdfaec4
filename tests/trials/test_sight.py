"""What the proxy outside of the sandbox sees of the model's API is in the record, and decides where a stream cannot."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.records.record_parts import ApiRecord
from harness.variants.variant import Variant
from tests.support.folders import task_folder
from tests.support.messages_api import (
    Disconnect,
    Fail,
    Forever,
    Hang,
    MessagesApi,
    Say,
    Step,
    Usage,
    Use,
)
from tests.support.trials import HELPER, Story, tell, two_prompts_task

SECRET = "sk-ant-0123456789abcdef"
NO_RETRY = '[sandbox]\nenv = {CLAUDE_CODE_MAX_RETRIES = "0"}\n'
ANSWER = Use("Bash", {"command": "echo 42 >answer.txt"}, Usage(11, 7))
DONE = Say("Done.", Usage(3, 2))


@pytest.fixture(autouse=True)
def _only_with_a_proxy(server: LocalServer) -> None:
    if "network" not in server.enforces:
        pytest.skip("only the full tier has a proxy")


def seen(story: Story) -> ApiRecord:
    """What the record has of the API."""
    assert story.record.api is not None, story.record.api_unseen
    return story.record.api


def assert_counted(story: Story, api: MessagesApi) -> None:
    """The proxy has counted what the API billed, by model, and each request."""
    record = seen(story)
    assert {
        model: (c.input, c.output, c.cache_read, c.cache_creation) for model, c in record.models.items()
    } == {model: (u.input, u.output, u.cache_read, u.cache_creation) for model, u in api.served.items()}
    assert record.requests == len(api.exchanges) == sum(record.endings.values()) + record.open


def test_what_the_api_answered_is_counted_over_turns_retries_subagents_and_cut_streams(
    server: LocalServer, tmp_path: Path
) -> None:
    """To the token, by model; what broke off is apart; and the stream of an honest agent differs in nothing."""
    task = two_prompts_task(tmp_path)
    script: list[Step] = [
        Fail(429, retry_after=0),
        ANSWER,
        Use("Agent", {**HELPER, "run_in_background": False}, Usage(13, 17, 1_009, 2_003)),
        Disconnect("I wi", Usage(5, 1)),
        Say("Written.", Usage(101, 211, 307, 401)),
        Use("Bash", {"command": "cat answer.txt"}, Usage(19, 23, 29, 31)),
        Fail(529, retry_after=0),
        Disconnect(),
        Say("Checked.", Usage(37, 41, 43, 47)),
    ]
    counting = [Use("Bash", {"command": "ls"}, Usage(53, 59, 61, 67)), Say("Two.", Usage(71, 73, 79, 83))]
    with MessagesApi(script, subagents={"COUNT": counting}, keys=[SECRET]) as api:
        story = tell(server, api, task, key=SECRET, key_outside=True)

    assert story.told() == ("passed", "completed", None, None), story.record.error
    assert not api.unscripted
    assert_counted(story, api)
    record = seen(story)
    assert record.endings == {"200": 7, "429": 1, "529": 1, "cut": 2}
    assert (record.tokens_broken.input, record.tokens_broken.output) == (5, 1)
    assert record.beyond_stream == 0
    assert story.record.notes == ()
    assert story.record.api_unseen is None
    assert "api" not in json.dumps(story.record.asked)


NESTED = "env -u CLAUDECODE claude -p --model claude-haiku-4-5 'Write 42.' </dev/null; echo 42 >answer.txt"
CURL = (
    "curl -sS $ANTHROPIC_BASE_URL/v1/messages -H 'content-type: application/json' --compressed -d "
    """'{"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'"""
    "; echo 42 >answer.txt"
)


@pytest.mark.parametrize(
    "command", [pytest.param(NESTED, marks=pytest.mark.slow, id="claude -p"), pytest.param(CURL, id="curl")]
)
def test_what_else_asks_the_model_shows(server: LocalServer, tmp_path: Path, command: str) -> None:
    """Its tokens are counted with the model that answered, and a note tells of them."""
    helper = Usage(1_000, 200)
    with MessagesApi(
        [Use("Bash", {"command": command}, Usage(11, 7)), DONE],
        models={"claude-haiku-4-5": [Forever(Say("42", helper))]},
        keys=[SECRET],
    ) as api:
        story = tell(server, api, task_folder(tmp_path), key=SECRET, key_outside=True)

    assert story.told() == ("passed", "completed", None, None), story.record.error
    assert_counted(story, api)
    assert seen(story).models["claude-haiku-4-5"].output == 200
    assert seen(story).beyond_stream == 1_200
    assert any("1200 were asked for by something else in the sandbox" in note for note in story.record.notes)


FAKE = """
import http.server, json
def events():
    use = {"type": "message", "id": "m", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
           "stop_reason": None, "usage": {"input_tokens": 900, "output_tokens": 1}}
    yield {"type": "message_start", "message": use}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Done."}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}}
    yield {"type": "message_stop"}
class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in events():
            self.wfile.write(f"event: {event['type']}\\ndata: {json.dumps(event)}\\n\\n".encode())
    do_GET = do_HEAD = lambda self: (self.send_response(200), self.end_headers())
http.server.ThreadingHTTPServer(("127.0.0.1", 4242), Model).serve_forever()
"""


@pytest.mark.slow
def test_a_model_of_the_agents_own_shows(server: LocalServer, tmp_path: Path) -> None:
    """What it answers to the second prompt is in the stream, and was not the API's."""
    settings = '{"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:4242"}}'
    command = (
        f"cat >/tmp/model.py <<'EOF'\n{FAKE}\nEOF\n(setsid python3 /tmp/model.py >/dev/null 2>&1 &)\n"
        "until curl -sf http://127.0.0.1:4242/; do :; done\n"
        f"mkdir -p ~/.claude; echo '{settings}' >~/.claude/settings.json; echo 42 >answer.txt"
    )
    task = task_folder(
        tmp_path,
        toml='prompts = ["one.md", "two.md"]\n',
        prompts={"one.md": "Write the answer.\n", "two.md": "Check it.\n"},
    )
    with MessagesApi([Use("Bash", {"command": command}, Usage(11, 7)), DONE], keys=[SECRET]) as api:
        story = tell(server, api, task, key=SECRET, key_outside=True)

    assert story.told() == ("passed", "completed", None, None), story.record.error
    assert_counted(story, api)
    assert seen(story).beyond_stream == -1_000
    assert any("1000 were not the API's" in note for note in story.record.notes)


def test_what_was_really_sent_is_kept(server: LocalServer, tmp_path: Path) -> None:
    """The first request of the main agent by its texts, tools, effort and betas; each other one's by their hashes."""
    task = task_folder(tmp_path, repo={"CLAUDE.md": "# Rules\n\nAlways say please.\n", "a.txt": "a\n"})
    helper = {"description": "d", "prompt": "COUNT", "subagent_type": "general-purpose"}
    variant = Variant("v", args=("--effort", "low", "--append-system-prompt", "Be brief, be right."))
    steps = [Use("Agent", {**helper, "run_in_background": False}), ANSWER, DONE]
    with MessagesApi(steps, subagents={"COUNT": [Say("Two.")]}, keys=[SECRET]) as api:
        story = tell(server, api, task, key=SECRET, key_outside=True, variant=variant)

    assert story.told() == ("passed", "completed", None, None), story.record.error
    body = api.requests[0].body
    sent = seen(story).sent
    assert sent
    assert sent.model == body["model"]
    assert sent.effort == "low"
    assert set(sent.tools) == {tool["name"] for tool in body["tools"]}
    assert set(sent.betas) == set(api.requests[0].headers["anthropic-beta"].split(","))
    hashes = [hashlib.sha256(block["text"].encode()).hexdigest() for block in body["system"]]
    assert list(sent.system) == hashes
    assert sent.file
    kept = json.loads((story.folder.path / sent.file).read_text())
    assert "Always say please." in "".join(text["text"] for text in kept["first"]["context"])
    assert "Be brief, be right." in "".join(text["text"] for text in kept["first"]["system"])
    (subagent,) = [request for request in api.requests if request.agent_id]
    asked = hashlib.sha256(subagent.body["system"][-1]["text"].encode()).hexdigest()
    assert asked in kept["hashes"]
    assert asked not in hashes


# Who decides `error`


def test_trouble_that_the_proxy_saw_is_the_providers(server: LocalServer, tmp_path: Path) -> None:
    """Also when the API is well again by the time that the harness asks itself; nobody has to."""
    with MessagesApi([ANSWER, Forever(Fail(529, "busy"))], keys=[SECRET]) as api:
        story = tell(server, api, task_folder(tmp_path, toml=NO_RETRY), key=SECRET, key_outside=True)

    assert story.told() == ("error", None, "provider", "overloaded")
    assert api.own_requests == []
    assert seen(story).endings["529"] >= 1


@pytest.mark.slow
def test_silence_that_the_proxy_saw_is_the_providers(server: LocalServer, tmp_path: Path) -> None:
    """An API that owes its answer when the time is up has failed, whatever it tells the harness then."""
    task = task_folder(tmp_path, toml="timeout = 8\n")
    with MessagesApi([ANSWER, Forever(Hang())], keys=[SECRET]) as api:
        story = tell(server, api, task, key=SECRET, key_outside=True)

    assert story.told() == ("error", None, "provider", "silent"), story.record.notes
    assert api.own_requests == []


SETTINGS = "mkdir -p ~/.claude && echo '{\"env\": {%s}}' >~/.claude/settings.json; sleep 3"
IMITATIONS = {
    "a dead address": SETTINGS % '"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"',
    "the API's host at another port": SETTINGS % '"ANTHROPIC_BASE_URL": "http://localhost:9"',
}


@pytest.mark.slow
@pytest.mark.parametrize("command", IMITATIONS.values(), ids=IMITATIONS)
def test_trouble_that_only_the_stream_tells_of_is_judged(
    server: LocalServer, tmp_path: Path, command: str
) -> None:
    """The proxy has seen nothing of it."""
    with MessagesApi([Use("Bash", {"command": command}), Forever(DONE)], keys=[SECRET]) as api:
        story = tell(server, api, task_folder(tmp_path, toml=NO_RETRY), key=SECRET, key_outside=True)

    assert story.told() == ("failed", "api_error", None, None), story.record.error
    assert story.record.notes


# Where nobody sees it


def test_a_key_in_the_sandbox_leaves_the_api_unseen(server: LocalServer, tmp_path: Path) -> None:
    """The record says why; null is no 0."""
    with MessagesApi([ANSWER, DONE]) as api:
        story = tell(server, api, task_folder(tmp_path))
    assert story.record.api is None
    assert "the key was in the sandbox" in (story.record.api_unseen or "")


def test_refused_requests_are_in_the_notes(server: LocalServer, tmp_path: Path) -> None:
    """Each place once, with the reason and how often."""
    command = "for i in 1 2; do curl -sS https://pypi.org/; done; echo 42 >answer.txt"
    check = "curl -sS http://npmjs.org/; test $? = 0 -a ! -e answer.txt"
    task = task_folder(tmp_path, toml=f"[checks.run]\ninstalls = {json.dumps(check)}\n", checks={})
    with MessagesApi([Use("Bash", {"command": command}), DONE]) as api:
        story = tell(server, api, task)
    assert story.record.outcome == "failed"
    assert set(story.record.notes) == {
        "harness refused a request to pypi.org:443 (2 times): pypi.org:443 is not in the sandbox's allow_out",
        "while the work was judged, harness refused a request to npmjs.org:80: "
        "npmjs.org:80 is not in the sandbox's allow_out",
    }


@pytest.mark.parametrize("passes", [False, True])
def test_what_checks_in_the_agents_sandbox_cannot_reach_is_told_as_theirs(
    server: LocalServer, tmp_path: Path, passes: bool
) -> None:
    """Where a check fails: refused by the rules, and allowed with no way there; the agent's own is told in any case."""
    check = "curl -sS http://npmjs.org/; curl -sS http://nowhere.invalid/; " + ("true" if passes else "false")
    places = 'sandbox.network = ["nowhere.invalid"]\nchecks.sandbox = "agent"\n'
    toml = f"{places}checks.run.installs = {json.dumps(check)}\n"
    task = task_folder(tmp_path, toml=toml, checks={})
    command = "curl -sS http://npmjs.org/; echo 42 >answer.txt"
    with MessagesApi([Use("Bash", {"command": command}), DONE]) as api:
        story = tell(server, api, task)
    assert story.record.outcome == ("passed" if passes else "failed"), story.record.error
    notes = [note.partition(": ")[0] for note in story.record.notes]
    judged = [
        "while the work was judged, harness refused a request to npmjs.org:80",
        "while the work was judged, there was no way to nowhere.invalid:80",
    ]
    assert sorted(notes) == ["harness refused a request to npmjs.org:80", *([] if passes else judged)]
