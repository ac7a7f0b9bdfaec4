"""A recorded session, played to the real Claude Code, is the same session: its work, its tokens, its cost."""

from __future__ import annotations

import ast
import http.client
import json
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.models import replay_server
from harness.models.model import TaskRecording
from harness.models.replay_server import NOT_RECORDED, Player
from harness.tasks import recording as recordings
from harness.tasks.recording import BadRecording, parse_recording
from tests.support.claude_cli import ClaudeCli

STREAMS = Path(__file__).parents[1] / "data" / "streams"
SERVER = (sys.executable, "-m", "harness.models.replay_server")
SERVED = json.loads((STREAMS / "served.json").read_text())
BUGGY = {"calc.py": "def add(a, b):\n    return a - b\n"}

Json = dict[str, Any]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def player(lines: Iterable[bytes | str]) -> Player:
    return Player(parse_recording(lines))


def recording(*names: str) -> Player:
    return player(b"".join((STREAMS / f"{name}.jsonl").read_bytes() for name in names).splitlines())


def by_hand(*contents: list[Json], **header: Any) -> list[str]:
    """The lines of a minimal handwritten recording."""
    first = {"type": "replay", "schema": 1, "written_by": "hand", **header}
    return [json.dumps(first), *(json.dumps(assistant(content)) for content in contents)]


def assistant(content: list[Any], **message: Any) -> Json:
    return {"type": "assistant", "message": {"content": content, **message}}


def text(said: str) -> Json:
    return {"type": "text", "text": said}


def call(name: str, **arguments: Any) -> Json:
    return {"type": "tool_use", "name": name, "input": arguments}


def user(said: str = "go") -> Json:
    return {"role": "user", "content": [text(said)]}


def request(*messages: Json, **more: Any) -> Json:
    tools = [{"name": "Bash", "input_schema": {"type": "object"}}]
    return {"model": "claude-x", "tools": tools, "messages": list(messages) or [user()], **more}


def conversation(recording: Player, *messages: Json, agent: str = "") -> list[Json]:
    """All messages of the recording, each asked for with those before it, until it has no more."""
    history, replies = list(messages) or [user()], []
    while (reply := recording.reply(request(*history), agent))["type"] == "message":
        replies.append(reply)
        history += [{"role": "assistant", "content": reply["content"]}, user("and then?")]
    return replies


def tokens(replies: list[Json]) -> dict[str, dict[str, int]]:
    """Their usage by model, as `served.json` has it."""
    names = {
        "input": "input_tokens",
        "output": "output_tokens",
        "cache_read": "cache_read_input_tokens",
        "cache_creation": "cache_creation_input_tokens",
    }
    total: dict[str, dict[str, int]] = {}
    for reply in replies:
        model = total.setdefault(reply["model"], dict.fromkeys(names, 0))
        for name, key in names.items():
            model[name] += reply["usage"][key]
    return total


def model_usage(result: Json) -> Json:
    """A result's `modelUsage` without what depends on the clock or the machine, cost included."""
    return {
        model: {name: value for name, value in used.items() if name != "contextWindow"}
        for model, used in result["modelUsage"].items()
    }


# The recording


@pytest.mark.parametrize(("billed", "played"), [(35, [10, 25]), (30, [10, 20]), (5, [5, 0])])
def test_what_messages_lack_or_exceed_is_settled_from_the_last_on(billed: int, played: list[int]) -> None:
    """A request that the stream does not show is the last message's; no message uses less than nothing."""
    lines = [assistant([text("a")], model="m", usage={"input_tokens": tokens}) for tokens in (10, 20)]
    result = {"type": "result", "modelUsage": {"m": {"inputTokens": billed}}}
    replies = conversation(player(map(json.dumps, [*lines, result])))

    assert [reply["usage"]["input_tokens"] for reply in replies] == played


@pytest.mark.parametrize(
    "names",
    [
        ["success"],
        ["subagent"],
        ["background"],
        ["max_turns"],
        ["budget"],
        ["mcp"],
        ["retried"],
        ["api_error"],
        ["resumed_1"],
        ["resumed_1", "resumed_2"],
    ],
    ids="+".join,
)
def test_its_messages_use_what_the_recorded_session_was_billed(names: list[str]) -> None:
    """Over all its conversations, by model and to the digit."""
    played = recording(*names)
    replies = conversation(played)
    for number, prompt in enumerate(played.recording.prompts.values()):
        replies += conversation(played, user(prompt), agent=f"agent-{number}")

    assert tokens(replies) == SERVED[names[-1]]["served"]
    assert played.recording.notes == []


def test_each_run_of_a_session_uses_its_own_share() -> None:
    """The second run's result counts from the session's start, its messages do not."""
    replies = conversation(recording("resumed_1", "resumed_2"))

    assert tokens(replies[:-1]) == SERVED["resumed_1"]["served"]


def test_older_results_tell_a_runs_share_by_the_difference() -> None:
    """Without `model_usage_since_last_result`, the result before is taken off."""
    lines = []
    for name in ("resumed_1", "resumed_2"):
        for line in (STREAMS / f"{name}.jsonl").read_bytes().splitlines():
            event = json.loads(line)
            event.pop("model_usage_since_last_result", None)
            lines.append(json.dumps(event))
    replies = conversation(player(lines))

    assert tokens(replies[:-1]) == SERVED["resumed_1"]["served"]
    assert tokens(replies) == SERVED["resumed_2"]["served"]


def test_a_killed_run_keeps_its_lower_bound() -> None:
    """Its cut last line is noted, its messages play, its output tokens are those of the messages' starts."""
    played = recording("killed")

    assert tokens(conversation(played))["claude-opus-5-5"] == {
        **SERVED["killed"]["served"]["claude-opus-5-5"],
        "output": 4,
    }
    assert played.recording.notes == ["the last line is cut: the recorded run was killed"]


def test_usage_without_a_message_is_noted() -> None:
    """A model that only answered requests beside the conversation cannot be played; that is told."""
    lines = (STREAMS / "success.jsonl").read_text().splitlines()
    result = json.loads(lines[-1])
    result["model_usage_since_last_result"]["claude-haiku-5-5"] = {"inputTokens": 7, "outputTokens": 2}

    (note,) = parse_recording([*lines[:-1], json.dumps(result)]).notes
    assert note.startswith("claude-haiku-5-5")
    assert note.endswith("7 input_tokens, 2 output_tokens")


@pytest.mark.parametrize(
    ("answered", "asked"),
    [
        ("claude-x-4-20260101", "claude-x-4"),
        ("claude-x-4", "claude-x-4[1m]"),
        ("claude-x-4-20260101", "us.anthropic.claude-x-4-v1:0"),
    ],
)
def test_a_bill_under_another_name_is_the_messages_bill(answered: str, asked: str) -> None:
    """The bill goes by the model that was asked for, the messages by the one that answered."""
    message = assistant([text("done")], model=answered, usage={"input_tokens": 3, "output_tokens": 1})
    result = {"type": "result", "modelUsage": {asked: {"inputTokens": 3, "outputTokens": 42}}}
    played = player([json.dumps(message), json.dumps(result)])

    assert [reply["usage"]["output_tokens"] for reply in conversation(played)] == [42]
    assert played.recording.notes == []


def test_the_request_alone_decides() -> None:
    """A request that is sent again gets the same message, whatever was asked in between."""
    played = recording("success")
    first = played.reply(request())
    later = request(user(), {"role": "assistant", "content": first["content"]}, user())

    assert played.reply(later)["id"] == "msg_0002"
    assert played.reply(request()) == first
    assert played.reply(later)["id"] == "msg_0002"


def test_one_message_is_put_together_from_its_events() -> None:
    """A stream has an event for each content block; the API sends them in one message."""
    kinds = [[block["type"] for block in reply["content"]] for reply in conversation(recording("success"))]

    assert kinds == [["text", "tool_use"], ["tool_use"], ["tool_use", "tool_use"], ["tool_use"], ["text"]]


def test_beyond_its_end_is_an_error_that_says_so() -> None:
    """The client is told how many messages there are."""
    played = player(by_hand([text("done")]))
    reply = played.reply(request(user(), {"role": "assistant", "content": "done"}, user()))

    assert reply["error"]["type"] == "invalid_request_error"
    assert reply["error"]["message"].startswith("replay: the recording ends after 1 message")


def test_a_known_tool_call_tells_where_the_session_is() -> None:
    """Whatever became of the messages before it."""
    played = recording("success")
    third = conversation(played)[2]

    assert (
        played.reply(request(user(), {"role": "assistant", "content": third["content"]}, user()))["id"]
        == "msg_0004"
    )


def test_a_message_that_no_model_said_does_not_count() -> None:
    """After an interrupted turn, Claude Code puts in an answer of its own when it resumes."""
    played = player(by_hand([call("Bash", command="ls")], [text("done")]))
    first = played.reply(request())
    history = [user(), {"role": "assistant", "content": first["content"]}, user()]
    filler = {"role": "assistant", "content": [text("No response requested.")]}

    assert played.reply(request(*history, filler, user("next")))["content"] == [text("done")]


def test_asking_beside_the_conversation_costs_nothing() -> None:
    """A request without the agent's tools (a title, a web search) takes no message, and uses no tokens."""
    played = recording("success")
    web_search = [{"type": "web_search_20250305", "name": "web_search"}]

    for aside in (request(tools=[]), request(tools=web_search)):
        reply = played.reply(aside)
        assert reply["content"] == [text(NOT_RECORDED)]
        assert set(tokens([reply])["claude-x"].values()) == {0}


def test_an_aside_that_wants_json_gets_json() -> None:
    """A title is asked for in a format."""
    aside = request(tools=[], output_config={"format": {"type": "json_schema"}})

    (block,) = recording("success").reply(aside)["content"]
    assert json.loads(block["text"]) == {}


def test_a_session_without_tools_has_no_asides() -> None:
    """Where nobody has tools, a request without tools is the conversation."""
    assert player(by_hand([text("four")])).reply(request(tools=[]))["content"] == [text("four")]


# Directories


@pytest.mark.parametrize(
    ("recorded", "played"),
    [
        ("/home/user/repo", "/live"),
        ("/home/user/repo/a.py", "/live/a.py"),
        ("cd /home/user/repo && ls '/home/user/repo/b'", "cd /live && ls '/live/b'"),
        ("Look into /home/user/repo.", "Look into /live."),
        ("/home/user/repo2/a.py", "/home/user/repo2/a.py"),
        ("/home/user/repo.bak", "/home/user/repo.bak"),
        ("/home/user/repo-old", "/home/user/repo-old"),
        ("/mnt/home/user/repo", "/mnt/home/user/repo"),
        ("/home/user", "/home/user"),
    ],
)
def test_tool_calls_name_the_live_directory(recorded: str, played: str) -> None:
    """The recorded directory is replaced as a whole path or a parent in one, anywhere in the input."""
    content = [call("Any", path=recorded, nested={"list": [recorded, 7]})]
    lines = by_hand(content, [text("done")], cwd="/home/user/repo")
    moved = Player(parse_recording(lines), "/live")

    assert moved.reply(request())["content"][0]["input"] == {"path": played, "nested": {"list": [played, 7]}}


def test_without_a_live_directory_paths_stay() -> None:
    """So a sandbox that has the recorded directory needs nothing."""
    content = [call("Any", path="/home/user/repo/a.py")]
    unmoved = player(by_hand(content, [text("done")], cwd="/home/user/repo"))

    assert unmoved.reply(request())["content"][0]["input"] == {"path": "/home/user/repo/a.py"}


# Subagents


def two_subagents(first: str, second: str) -> Player:
    lines = by_hand(
        [call("Agent", prompt=first) | {"id": "A"}, call("Agent", prompt=second) | {"id": "B"}], [text("end")]
    )
    for parent, said in (("A", "I am A"), ("B", "I am B")):
        lines.append(json.dumps(assistant([text(said)]) | {"parent_tool_use_id": parent}))
    return player(lines)


def test_subagents_are_told_apart_by_their_prompts() -> None:
    """Each plays its own messages, whatever Claude Code puts around the prompt."""
    played = two_subagents("Count the files", "Count the lines")

    assert played.reply(request(user("Count the lines")), "x")["content"] == [text("I am B")]
    forked = [user("go"), {"role": "assistant", "content": "..."}, user("Your directive: Count the files")]
    assert played.reply(request(*forked), "y")["content"] == [text("I am A")]


def test_a_subagent_without_a_header_is_known_by_its_prompt() -> None:
    """Versions of Claude Code that name no agent in the request."""
    played = two_subagents("Count the files", "Count the lines")

    assert played.reply(request(user("Count the lines")))["content"] == [text("I am B")]


def test_subagents_with_the_same_prompt_play_one_recording_each() -> None:
    """The first that asks plays the first, and a repeated request stays with its own."""
    played = two_subagents("Count", "Count")
    said = [played.reply(request(user("Count")), agent)["content"][0]["text"] for agent in "xyyx"]

    assert said == ["I am A", "I am B", "I am B", "I am A"]


def test_an_unknown_subagent_is_an_error_that_says_so() -> None:
    """It must not play somebody else's messages."""
    reply = two_subagents("Count the files", "Count the lines").reply(request(user("Paint")), "x")

    assert "no recorded subagent has the prompt 'Paint'" in reply["error"]["message"]


def test_a_subagent_that_was_not_recorded_is_an_error_that_says_so() -> None:
    """A run that was killed before the subagent said anything."""
    played = player(by_hand([call("Agent", prompt="Count") | {"id": "A"}], [text("end")]))

    error = played.reply(request(user("Count")), "x")["error"]
    assert error["message"].startswith("replay: the recording of the subagent of A ends after 0 messages")


def test_a_foreground_subagents_last_message_comes_from_its_result() -> None:
    """The stream has no event for it; the tool call's result has its text, model and usage."""
    played = recording("subagent")
    last = conversation(played, user("COUNT the files here"), agent="x")[-1]

    assert last["content"] == [text("Two files.")]
    assert tokens([last]) == {
        "claude-haiku-5-5": {"input": 11, "output": 12, "cache_read": 5000, "cache_creation": 90}
    }


def test_a_subagents_last_message_is_played_once() -> None:
    """Also when the stream has an event for it beside the call's result."""
    lines = (STREAMS / "subagent.jsonl").read_text().splitlines()
    (index,) = [index for index, line in enumerate(lines) if '"totalToolUseCount"' in line]
    parent = json.loads(lines[index])["message"]["content"][0]["tool_use_id"]
    event = assistant([text("Two files.")], id="msg_0003", model="claude-haiku-5-5")
    lines.insert(index, json.dumps(event | {"parent_tool_use_id": parent}))

    said = conversation(player(lines), user("COUNT the files here"), agent="x")
    assert [reply["id"] for reply in said] == ["msg_0002", "msg_0003"]


# Written by hand


def test_a_minimal_recording_has_declared_defaults() -> None:
    """Ids of its own, the model that is asked for, no tokens, the stop reason that the content implies."""
    played = player(by_hand([call("Bash", command="ls"), call("Bash", command="pwd")], [text("done")]))
    first, last = conversation(played)

    assert len({block["id"] for block in first["content"]}) == 2
    assert first["id"] != last["id"]
    assert tokens([first, last]) == {
        "claude-x": dict.fromkeys(["input", "output", "cache_read", "cache_creation"], 0)
    }
    assert (first["stop_reason"], last["stop_reason"]) == ("tool_use", "end_turn")
    assert (played.recording.written_by, played.recording.model) == ("hand", None)


def test_usage_written_by_hand_is_played_as_written() -> None:
    """There is no result to settle it with."""
    line = json.dumps(
        assistant([text("done")], model="claude-y", usage={"input_tokens": 3, "output_tokens": 9})
    )

    (reply,) = conversation(player([by_hand()[0], line]))
    assert tokens([reply]) == {"claude-y": {"input": 3, "output": 9, "cache_read": 0, "cache_creation": 0}}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "there is no assistant message"),
        (["{"], "line 1 is not JSON"),
        (["[]"], "line 1 is not a JSON object"),
        ([json.dumps({"type": "replay", "schema": 2})], "line 1: schema is 2, this version plays 1"),
        ([json.dumps({"type": "replay", "schema": 1, "cwd": 3})], "line 1: cwd must be a string"),
        ([json.dumps({"type": "assistant"})], "line 1: an assistant event needs a message with a list"),
        ([json.dumps(assistant([]))], "line 1: an assistant event needs a message with a list"),
        (
            [json.dumps(assistant([{"type": "text"}]))],
            "line 1: content[0] is a text and needs a string `text`",
        ),
        ([json.dumps(assistant(["text"]))], "line 1: content[0] needs a type"),
        ([json.dumps(assistant([text("a")], model=7))], "line 1: model must be a string"),
        ([json.dumps({"type": "result", "modelUsage": [1]})], "line 1: no result event has this form"),
        ([json.dumps({"type": "result", "modelUsage": {"m": {"inputTokens": "1"}}})], "is no whole number"),
        ([json.dumps(assistant([text("a"), {"type": "tool_use", "input": {}}]))], "needs a string `name`"),
        ([json.dumps(assistant([{"type": "tool_use", "name": "Bash"}]))], "needs an object `input`"),
        (
            [json.dumps(assistant([text("a")], usage={"input_tokens": "7"}))],
            "usage.input_tokens must be a whole",
        ),
        ([json.dumps(assistant([text("a")], usage=[1]))], "usage must be an object"),
        (
            [json.dumps(assistant([text("a")]) | {"parent_tool_use_id": "X"})],
            "'X' names no tool call before it",
        ),
        (by_hand([call("A") | {"id": "X"}], [call("B") | {"id": "X"}]), "the tool call id 'X' is used twice"),
        (by_hand([call("Bash")]), "it ends with a tool call"),
    ],
)
def test_a_bad_recording_is_told_before_it_plays(lines: list[str], problem: str) -> None:
    """Where, and what is wrong."""
    with pytest.raises(BadRecording) as caught:
        parse_recording(lines)
    assert any(problem in told for told in caught.value.problems), caught.value.problems


BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "tool_use", "thinking", "new"])},
    optional={"text": JSON, "id": JSON, "name": JSON, "input": JSON},
)
MESSAGE = st.fixed_dictionaries(
    {"content": st.lists(BLOCK | JSON, max_size=3) | JSON},
    optional={"id": JSON, "model": JSON, "usage": JSON, "stop_reason": JSON},
)
EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["replay", "system", "assistant", "user", "result"])},
    optional={
        "schema": st.just(1) | JSON,
        "subtype": st.sampled_from(["init", "task_started"]),
        "cwd": JSON,
        "message": MESSAGE | JSON,
        "parent_tool_use_id": JSON,
        "tool_use_id": JSON,
        "prompt": JSON,
        "tool_use_result": st.fixed_dictionaries(
            {"status": st.just("completed"), "agentId": JSON, "content": JSON}
        ),
        "modelUsage": st.dictionaries(st.text(max_size=2), JSON, max_size=2) | JSON,
        "model_usage_since_last_result": JSON,
    },
)


@given(st.lists(EVENT | JSON, max_size=5))
def test_any_lines_are_a_recording_or_a_list_of_problems(events: list[Any]) -> None:
    """Never a crash: people write these by hand."""
    try:
        answer = player([json.dumps(event) for event in events]).reply(request())["type"]
    except BadRecording as bad:
        answer = bad.problems[0]

    assert answer == "message" or answer.startswith(("line ", "there is no assistant message"))


def test_all_problems_are_told_at_once() -> None:
    """Nobody likes to find them one by one."""
    with pytest.raises(BadRecording) as caught:
        parse_recording(["{", "[]", json.dumps(assistant([]))])
    assert [told[:6] for told in caught.value.problems] == ["line 1", "line 2", "line 3"]


# The server


@contextmanager
def playing(transcript: Path, *args: str) -> Iterator[str]:
    """The server as a process of its own; yields its URL."""
    command = [*SERVER, "--transcript", str(transcript), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def ask(url: str, method: str, path: str, body: bytes | Iterator[bytes] | None = None) -> tuple[int, Json]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=90)
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read() or "null")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with playing(STREAMS / "success.jsonl") as url:
        yield url


def assembled(stream: str) -> Json:
    """What a client makes of server-sent events, by the API's rules."""
    message: Json = {}
    for line in stream.splitlines():
        event: Json = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {"type": ""}
        match event:
            case {"type": "message_start"}:
                message = event["message"]
            case {"type": "content_block_start"}:
                message["content"].append(event["content_block"])
            case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": part}}:
                message["content"][event["index"]]["input"] = json.loads(part)
            case {"type": "content_block_delta", "delta": delta}:
                field = delta["type"].removesuffix("_delta")
                message["content"][event["index"]][field] += delta[field]
            case {"type": "message_delta"}:
                message |= event["delta"]
                message["usage"] |= event["usage"]
    return message


def test_streamed_a_message_is_the_same(tmp_path: Path) -> None:
    """Every kind of block, the stop reason and the usage."""
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "abc="}
    hidden = {"type": "redacted_thinking", "data": "xyz="}
    content = [thought, hidden, text("I look — “π”"), call("Bash", command="ls")]
    usage = {"input_tokens": 3, "output_tokens": 42, "cache_read_input_tokens": 5}
    transcript = tmp_path / "replay.jsonl"
    lines = [json.dumps(assistant(content, usage=usage)), json.dumps(assistant([text("done")]))]
    transcript.write_text("\n".join(lines))
    with playing(transcript) as url:
        _, whole = ask(url, "POST", "/v1/messages", json.dumps(request()).encode())
        body = json.dumps(request(stream=True)).encode()
        with urllib.request.urlopen(f"{url}/v1/messages", body) as response:
            stream = response.read().decode()

    assert assembled(stream) == whole
    assert '"output_tokens": 1' in stream.splitlines()[1], "a message's start tells one output token"


def test_it_answers_without_streaming_too(url: str) -> None:
    """The body is the message itself."""
    status, message = ask(url, "POST", "/v1/messages?beta=true", json.dumps(request()).encode())

    assert (status, message["id"], message["stop_reason"]) == (200, "msg_0001", "tool_use")


def test_a_body_may_come_in_chunks(url: str) -> None:
    """As some HTTP clients send it."""
    whole = json.dumps(request()).encode()

    assert ask(url, "POST", "/v1/messages", iter([whole[:9], whole[9:]]))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/v1/messages", b"{", 400, "invalid_request_error"),
        ("POST", "/v1/messages", b"[]", 400, "invalid_request_error"),
        ("POST", "/v1/messages", b"{}", 400, "invalid_request_error"),
        ("POST", "/v1/complete", b"{}", 404, "not_found_error"),
        ("PUT", "/v1/messages", b"{}", 404, "not_found_error"),
    ],
)
def test_what_is_no_request_gets_an_error(
    url: str, method: str, path: str, body: bytes, status: int, kind: str
) -> None:
    """In the API's form, and the server goes on."""
    answered, error = ask(url, method, path, body)

    assert (answered, error["type"], error["error"]["type"]) == (status, "error", kind)


def test_probes_and_token_counts_are_answered(url: str) -> None:
    """What Claude Code asks of an API beside messages."""
    assert ask(url, "HEAD", "/api/hello")[0] == 200
    assert ask(url, "GET", "/v1/models") == (200, {})
    assert ask(url, "POST", "/v1/messages/count_tokens", b"{}")[1]["input_tokens"] >= 0


def test_the_ready_file_has_the_url(tmp_path: Path) -> None:
    """It is there, whole, when the server listens."""
    ready = tmp_path / "ready"
    with playing(STREAMS / "success.jsonl", "--ready", str(ready)) as url:
        assert ready.read_text() == url + "\n"
        assert ask(ready.read_text().strip(), "GET", "/")[0] == 200


def test_it_ends_with_its_parent() -> None:
    """Killed or not, the process that started it takes it along: its end of the pipe closes."""
    command = f"{shlex.join(SERVER)} --transcript {STREAMS / 'success.jsonl'} & wait"
    with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline().startswith("http://127.0.0.1:")
        shell.kill()
        assert shell.communicate(timeout=90)[0] == ""


@pytest.mark.parametrize(
    ("content", "args", "told"),
    [
        ("{\n[]\n", [], ["line 1 is not JSON", "line 2 is not a JSON object"]),
        (None, [], ["No such file"]),
        ("", ["--port"], ["usage:"]),
        ("", ["--port", "x"], ["usage:"]),
        ("", ["--cdw", "/"], ["usage:"]),
    ],
)
def test_what_cannot_be_served_ends_with_code_2(
    tmp_path: Path, content: str | None, args: list[str], told: list[str]
) -> None:
    """And with the reasons on stderr."""
    transcript = tmp_path / "replay.jsonl"
    if content is not None:
        transcript.write_text(content)
    command = [*SERVER, "--transcript", str(transcript), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    assert done.returncode == 2
    assert all(words in done.stderr for words in told), done.stderr


def test_a_taken_port_ends_with_code_2(url: str) -> None:
    """Not with a traceback."""
    port = url.rpartition(":")[2]
    command = [
        *SERVER,
        "--transcript",
        str(STREAMS / "success.jsonl"),
        "--port",
        port,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize("module", [replay_server, recordings])
def test_it_needs_only_the_standard_library_of_python_3_9(module: ModuleType) -> None:
    """It runs in sandboxes with any Python: old syntax, no package but its other file."""
    tree = ast.parse(Path(str(module.__file__)).read_text(), feature_version=(3, 9))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in imported - {recordings.__name__}} <= set(
        sys.stdlib_module_names
    )


def test_its_files_are_enough_for_it(tmp_path: Path) -> None:
    """Python finds nothing else in a sandbox, neither harness nor a package of the sandbox's own."""
    for name, data in TaskRecording(STREAMS / "success.jsonl", None, by_hand=False).files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    below = tmp_path / ".harness"
    command = [sys.executable, "-I", "-S", below / "replay", "--transcript", below / "replay.jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdout is not None
        try:
            assert ask(process.stdout.readline().strip(), "GET", "/")[0] == 200
        finally:
            process.kill()


# The real Claude Code


def play(root: Path, transcript: Path, *prompts: str) -> tuple[ClaudeCli, list[Any]]:
    """Play a transcript to the real binary in a fresh repo, one run for each prompt."""
    cli = ClaudeCli.fresh(root, {"ANTHROPIC_API_KEY": "none"}, BUGGY)
    model = parse_recording(transcript.read_bytes().splitlines()).model
    options = ["--model", model] if model else []
    runs: list[Any] = []
    with playing(transcript, "--cwd", str(cli.cwd)) as url:
        for prompt in prompts:
            resume = ["--resume", runs[-1].init["session_id"]] if runs else []
            runs.append(cli.run(prompt, *options, *resume, env={"ANTHROPIC_BASE_URL": url}))
    return cli, runs


def recorded_result(name: str) -> Json:
    result: Json = json.loads((STREAMS / f"{name}.jsonl").read_text().splitlines()[-1])
    return result


def test_claude_code_does_the_recorded_work_again(tmp_path: Path) -> None:
    """The files, the tokens and the cost are those of the recorded session."""
    cli, (run,) = play(tmp_path, STREAMS / "success.jsonl", "Fix calc.py")

    assert (cli.cwd / "calc.py").read_text() == "def add(a, b):\n    return a + b\n"
    assert (cli.cwd / "notes" / "done.txt").read_text() == "added\n"
    assert model_usage(run.result) == model_usage(recorded_result("success"))
    assert run.result["result"] == recorded_result("success")["result"]


def test_claude_code_plays_subagents(tmp_path: Path) -> None:
    """On their own model, with their own tokens."""
    _, (run,) = play(tmp_path, STREAMS / "subagent.jsonl", "Count the files")

    assert model_usage(run.result) == model_usage(recorded_result("subagent"))


def test_claude_code_plays_several_prompts(tmp_path: Path) -> None:
    """The runs of a session, recorded one after another, are played by runs that resume it."""
    both = tmp_path / "both.jsonl"
    both.write_bytes(b"".join((STREAMS / f"resumed_{n}.jsonl").read_bytes() for n in (1, 2)))
    _, runs = play(tmp_path, both, "Fix calc.py", "Now the notes")

    for number, run in enumerate(runs, 1):
        assert model_usage(run.result) == model_usage(recorded_result(f"resumed_{number}"))
        assert run.result["result"] == recorded_result(f"resumed_{number}")["result"]


def test_claude_code_is_told_where_a_recording_ends(tmp_path: Path) -> None:
    """Its run ends with an API error that names the recording, and does not hang."""
    _, (run,) = play(tmp_path, STREAMS / "max_turns.jsonl", "Go on")

    assert run.exit_code == 1
    assert run.result["terminal_reason"] == "api_error"
    assert "replay: the recording ends after 2 messages" in run.result["result"]


def test_claude_code_may_compact_the_conversation(tmp_path: Path) -> None:
    """The recording goes on where it was, although the messages that were played are gone."""
    lines = by_hand(
        [call("Bash", command="echo one")], [call("Bash", command="echo two > two")], [text("end")]
    )
    full = json.loads(lines[1])
    full["message"]["usage"] = {"input_tokens": 990_000, "output_tokens": 5}
    transcript = tmp_path / "long.jsonl"
    transcript.write_text("\n".join([lines[0], json.dumps(full), *lines[2:]]))
    cli, (run,) = play(tmp_path, transcript, "go")

    assert run.of("system", "compact_boundary")
    assert (cli.cwd / "two").exists()
    assert run.result["result"] == "end"
