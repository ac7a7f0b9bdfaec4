"""What the harness takes for granted about Claude Code, asked of the real binary.

Each test names a fact that code stands on; a version of Claude Code that changes it fails here, and not in a
user's records. Runs are shared among facts, since each costs most of a second.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import mcp_echo
from tests.support.claude_cli import HEADLESS, ClaudeCli, Finished
from tests.support.messages_api import (
    Disconnect,
    Fail,
    Forever,
    Hang,
    MessagesApi,
    Say,
    Step,
    Turn,
    Usage,
    Use,
    text_block,
    tool_block,
)

NO_API = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "none"}
LS = Use("Bash", {"command": "ls"}, Usage(11, 42))
SESSION = "11111111-1111-4111-8111-111111111111"

Json = dict[str, Any]
Factory = pytest.TempPathFactory


@dataclass(frozen=True)
class Seen:
    """Runs of one session, and the API that they talked to."""

    api: MessagesApi
    runs: list[Finished]

    @property
    def run(self) -> Finished:
        (run,) = self.runs
        return run


def watch(root: Path, script: list[Step], *args: str, env: dict[str, str] | None = None, **api: Any) -> Seen:
    """One run of the prompt "go"."""
    with MessagesApi(script, **api) as server:
        return Seen(server, [ClaudeCli.fresh(root, server.env()).run("go", *args, env=env)])


def signalled(root: Path, number: signal.Signals) -> Finished:
    """A run that calls a tool, and is sent a signal while the model is silent."""
    with MessagesApi([LS, Forever(Hang())]) as api:
        cli, pipe = ClaudeCli.fresh(root, api.env()), subprocess.PIPE
        with cli.start(*HEADLESS, "go", stdin=subprocess.DEVNULL, stdout=pipe) as process:
            try:
                api.wait_for_requests(2)
                process.send_signal(number)
                out, _ = process.communicate(timeout=90)
            finally:
                process.kill()
    return Finished(process.returncode, out, "")


def billed(result: Json) -> dict[str, Usage]:
    """A result's `modelUsage`, in the API's terms."""
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return {model: Usage(*(used[name] for name in names)) for model, used in result["modelUsage"].items()}


def messages(run: Finished) -> list[list[Json]]:
    """The main agent's assistant events, those of one message together."""
    by_id: dict[str, list[Json]] = {}
    for event in run.of("assistant"):
        if event["parent_tool_use_id"] is None:
            by_id.setdefault(event["message"]["id"], []).append(event)
    return list(by_id.values())


def tool_results(run: Finished) -> list[Json]:
    """The tool results in the stream."""
    blocks = [block for event in run.of("user") for block in event["message"]["content"]]
    return [block for block in blocks if block["type"] == "tool_result"]


# How it is called


def test_stream_json_needs_verbose(tmp_path: Path) -> None:
    """Without `--verbose` it exits 1 and says so."""
    run = ClaudeCli.fresh(tmp_path, NO_API).run("go", base=("-p", "--output-format", "stream-json"))

    assert run.exit_code == 1
    assert "requires --verbose" in run.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="the rule is for root")
def test_root_may_skip_permissions_only_in_a_sandbox(tmp_path: Path) -> None:
    """As root it exits 1 without `IS_SANDBOX=1`."""
    run = ClaudeCli.fresh(tmp_path, NO_API).run("go", env={"IS_SANDBOX": ""})

    assert run.exit_code == 1
    assert "cannot be used with root" in run.stderr


@pytest.mark.slow
def test_an_open_silent_stdin_costs_three_seconds(tmp_path: Path) -> None:
    """It waits for a prompt there, although it has one, and warns."""
    silent, keep_open = os.pipe()
    with MessagesApi([Say("done")]) as api, os.fdopen(silent, "rb") as stdin, os.fdopen(keep_open, "wb"):
        cli, pipe = ClaudeCli.fresh(tmp_path, api.env()), subprocess.PIPE
        with cli.start(*HEADLESS, "go", stdin=stdin, stdout=pipe, stderr=pipe) as process:
            _, stderr = process.communicate(timeout=90)

    assert b"no stdin data received in 3s" in stderr


# A session of two prompts


@pytest.fixture(scope="module")
def session(tmp_path_factory: Factory) -> Seen:
    """Text and a failing tool in one message, a tool that works, an answer; a wrong call; another prompt."""
    script: list[Step] = [
        Turn([text_block("I look"), tool_block("Bash", {"command": "exit 3"})], Usage(3, 42, 100, 50)),
        LS,
        Say("done", Usage(5, 6)),
        Say("done again", Usage(7, 8)),
    ]
    with MessagesApi(script) as api:
        cli = ClaudeCli.fresh(tmp_path_factory.mktemp("session"), api.env())
        ways = (["--session-id", SESSION], ["--session-id", SESSION], ["--resume", SESSION])
        return Seen(api, [cli.run("go", *way) for way in ways])


def test_session_id_names_a_new_session(session: Seen) -> None:
    """It is the session's id from the start; given twice, it is refused."""
    first, again, _ = session.runs

    assert first.init["session_id"] == SESSION
    assert again.exit_code == 1
    assert "already in use" in again.stderr


def test_resume_goes_on_with_a_session(session: Seen) -> None:
    """Under the same id, with all earlier messages in its requests."""
    resumed = session.runs[2]

    assert resumed.init["session_id"] == SESSION
    assert session.api.requests[-1].turns == 3


def test_one_message_comes_as_an_event_for_each_block(session: Seen) -> None:
    """With the same id and the same usage: counted by event, it would count twice."""
    first = messages(session.runs[0])[0]

    assert [event["message"]["content"][0]["type"] for event in first] == ["text", "tool_use"]
    assert first[0]["message"]["usage"] == first[1]["message"]["usage"]


def test_an_event_tells_the_output_tokens_of_the_messages_start(session: Seen) -> None:
    """Input and cache are right there, output is a lower bound."""
    usage = messages(session.runs[0])[0][0]["message"]["usage"]

    assert usage["input_tokens"] == 3
    assert usage["cache_read_input_tokens"] == 100
    assert usage["output_tokens"] == 1


def test_a_failed_tool_is_told_by_its_result(session: Seen) -> None:
    """`is_error` stands in the tool result, in the order of the calls."""
    assert [result["is_error"] for result in tool_results(session.runs[0])] == [True, False]


def test_model_usage_is_what_the_api_served(session: Seen) -> None:
    """To the digit, over the whole session: a resumed run's result counts the runs before."""
    first, _, resumed = session.runs

    assert billed(resumed.result) == session.api.served
    assert billed(first.result) == {model: Usage(19, 90, 100, 50) for model in session.api.served}


def test_usage_and_turns_are_the_runs_own(session: Seen) -> None:
    """Unlike `modelUsage` and `total_cost_usd`, after `--resume`."""
    first, _, resumed = session.runs

    assert resumed.result["usage"]["output_tokens"] == 8
    assert resumed.result["num_turns"] == 1
    assert resumed.result["total_cost_usd"] > first.result["total_cost_usd"] > 0


def test_a_results_own_share_of_the_session_is_told_too(session: Seen) -> None:
    """`model_usage_since_last_result`, by model."""
    (share,) = session.runs[2].result["model_usage_since_last_result"].values()

    assert (share["inputTokens"], share["outputTokens"]) == (7, 8)


def test_no_other_traffic(session: Seen) -> None:
    """With the variables that silence it, it asks for nothing but messages, and for none beside the session's."""
    assert session.api.probes == []
    assert len(session.api.requests) == 4


def test_the_prompt_comes_from_stdin(session: Seen) -> None:
    """As the user's message, at the end of what Claude Code puts before it."""
    assert session.api.requests[0].prompt.endswith("\ngo")


# Models and subagents


def test_usage_is_told_and_priced_by_the_model_that_was_asked_for(tmp_path: Path) -> None:
    """Whatever model the replies name."""
    seen = watch(tmp_path, [Say("done")], "--model", "claude-haiku-4-5", answering_as="claude-opus-4-5")

    assert list(seen.run.result["modelUsage"]) == ["claude-haiku-4-5"]
    assert messages(seen.run)[0][0]["message"]["model"] == "claude-opus-4-5"


@pytest.fixture(scope="module")
def foreground(tmp_path_factory: Factory) -> Seen:
    """A subagent that the main agent waits for."""
    agent = {"description": "count", "prompt": "COUNT", "subagent_type": "general-purpose", "model": "haiku"}
    script: list[Step] = [Use("Agent", {**agent, "run_in_background": False}, Usage(10, 20)), Say("done")]
    counting = [Use("Bash", {"command": "ls"}, Usage(1, 30, 5, 6)), Say("two", Usage(2, 31))]
    return watch(tmp_path_factory.mktemp("foreground"), script, subagents={"COUNT": counting})


def test_usage_leaves_subagents_out_and_model_usage_has_them(foreground: Seen) -> None:
    """By model, as the API served them."""
    assert foreground.run.result["usage"]["output_tokens"] == 25
    assert billed(foreground.run.result) == foreground.api.served
    assert len(foreground.api.served) == 2


def test_a_subagents_events_name_its_tool_call(foreground: Seen) -> None:
    """`parent_tool_use_id` is the id of the main agent's call."""
    call = messages(foreground.run)[0][0]["message"]["content"][0]
    parents = {event["parent_tool_use_id"] for event in foreground.run.of("assistant")}

    assert parents == {None, call["id"]}


def test_a_waited_for_subagents_last_message_is_no_event(foreground: Seen) -> None:
    """It stands in the call's result only, with its usage."""
    said = [block.get("text") for e in foreground.run.of("assistant") for block in e["message"]["content"]]
    results = [event.get("tool_use_result") for event in foreground.run.of("user")]
    (end,) = [result for result in results if isinstance(result, dict) and "agentId" in result]

    assert "two" not in said
    assert end["content"][-1]["text"] == "two"
    assert end["usage"]["output_tokens"] == 31


def test_a_subagents_requests_carry_its_id(foreground: Seen) -> None:
    """In a header of their own; its prompt is its first user message."""
    main, sub = foreground.api.requests[:2]

    assert (main.agent_id, sub.prompt.endswith("COUNT")) == ("", True)
    assert sub.agent_id != ""
    assert sub.session_id == main.session_id


def test_init_and_requests_name_the_subagent_tool_differently(foreground: Seen) -> None:
    """`Task` in the `init` event, `Agent` in requests and in tool calls."""
    asked = {tool.get("name") for tool in foreground.api.requests[0].body["tools"]}

    assert "Task" in foreground.run.init["tools"]
    assert "Agent" not in foreground.run.init["tools"]
    assert "Agent" in asked


@pytest.fixture(scope="module")
def background(tmp_path_factory: Factory) -> Seen:
    """A subagent that the main agent does not wait for."""
    agent = {"description": "count", "prompt": "COUNT", "subagent_type": "general-purpose"}
    script: list[Step] = [Use("Agent", agent), Say("I wait", Usage(3, 4)), Say("two, it says", Usage(5, 6))]
    counting = [Use("Bash", {"command": "sleep 0.3"}, Usage(1, 30)), Say("two", Usage(2, 31))]
    return watch(tmp_path_factory.mktemp("background"), script, subagents={"COUNT": counting})


def test_subagents_run_in_the_background_and_bring_a_turn_of_their_own(background: Seen) -> None:
    """One run then has several `init` and several `result` events; turns add up over them."""
    run = background.run

    assert len(run.of("system", "init")) == 2
    assert [result["result"] for result in run.of("result")] == ["I wait", "two, it says"]
    assert [result["num_turns"] for result in run.of("result")] == [2, 1]


def test_the_last_of_several_results_tells_all_tokens(background: Seen) -> None:
    """`modelUsage` is cumulative, within a run too."""
    assert billed(background.run.of("result")[-1]) == background.api.served


# How it ends


def test_max_turns_stops_it(tmp_path: Path) -> None:
    """Exit code 1, `terminal_reason: max_turns`, no text; its tokens are told."""
    seen = watch(tmp_path, [LS, LS], "--max-turns", "1")
    result = seen.run.result

    assert seen.run.exit_code == 1
    assert (result["subtype"], result["terminal_reason"]) == ("error_max_turns", "max_turns")
    assert (result["is_error"], result.get("result")) == (True, None)
    assert billed(result) == seen.api.served


def test_max_budget_stops_it(tmp_path: Path) -> None:
    """Exit code 1, `terminal_reason: budget_exhausted`; `usage` is all zeros, `modelUsage` is right."""
    seen = watch(tmp_path, [LS, LS], "--max-budget-usd", "0.000001")
    result = seen.run.result

    assert seen.run.exit_code == 1
    assert (result["subtype"], result["terminal_reason"]) == ("error_max_budget_usd", "budget_exhausted")
    assert result["usage"]["output_tokens"] == 0
    assert billed(result) == seen.api.served


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_killed_it_tells_no_result(tmp_path: Path, number: signal.Signals) -> None:
    """Its tokens come from the events before."""
    run = signalled(tmp_path, number)

    assert run.exit_code in (128 + number, -number)
    assert run.of("result") == []
    assert len(messages(run)) == 1


def test_interrupted_it_ends_as_if_all_were_well(tmp_path: Path) -> None:
    """After SIGINT the exit code is 0; a result may come, or, after a long silence, none."""
    run = signalled(tmp_path, signal.SIGINT)

    assert run.exit_code == 0
    assert {result["terminal_reason"] for result in run.of("result")} <= {"aborted_streaming"}


def test_a_killed_runs_tokens_are_in_no_later_result(tmp_path: Path) -> None:
    """A run that resumes its session does not know them; and it sends an answer that no model gave."""
    with MessagesApi([LS, Hang(), Say("done", Usage(5, 6))]) as api:
        cli, pipe = ClaudeCli.fresh(tmp_path, api.env()), subprocess.PIPE
        with cli.start(
            *HEADLESS, "go", "--session-id", SESSION, stdin=subprocess.DEVNULL, stdout=pipe
        ) as process:
            api.wait_for_requests(2)
            cli.wait_until_stored(SESSION, "tool_result")
            process.kill()
        resumed = cli.run("go on", "--resume", SESSION)
        history = [message["content"] for message in api.requests[-1].body["messages"]]

    assert list(billed(resumed.result).values()) == [Usage(5, 6)]
    assert [text_block("No response requested.")] in history


# The API's failures


def api_error(run: Finished) -> tuple[int, str, int | None, str]:
    """How a run ended that the API failed: exit code, terminal reason, status, message."""
    result = run.result
    assert (result["subtype"], result["is_error"]) == ("success", True)
    return run.exit_code, result["terminal_reason"], result["api_error_status"], result["result"]


def test_a_refused_request_ends_it_as_a_success_with_an_error(tmp_path: Path) -> None:
    """Only `terminal_reason` and `api_error_status` tell; an assistant event of no model's says it too."""
    seen = watch(tmp_path, [LS, Forever(Fail(400, "credit balance is too low"))])
    last = messages(seen.run)[-1][0]

    assert api_error(seen.run)[:3] == (1, "api_error", 400)
    assert (last["is_api_error_message"], last["message"]["model"]) == (True, "<synthetic>")
    assert billed(seen.run.result) == seen.api.served


def test_a_bad_request_is_sent_again_without_a_word(tmp_path: Path) -> None:
    """With fewer betas, before it ends the run."""
    seen = watch(tmp_path, [Forever(Fail(400, "messages.0: bad"))])

    assert api_error(seen.run)[:3] == (1, "api_error", 400)
    assert len({request.headers["anthropic-beta"] for request in seen.api.requests}) > 1
    assert seen.run.of("system", "api_retry") == []


def test_a_prompt_that_is_too_long_ends_it_with_a_reason_of_its_own(tmp_path: Path) -> None:
    """After it tried to compact the conversation."""
    seen = watch(tmp_path, [LS, Forever(Fail(400, "prompt is too long"))])

    assert api_error(seen.run)[:3] == (1, "prompt_too_long", 400)
    assert seen.run.of("system", "status")[0]["status"] == "compacting"


def test_forbidden_ends_it_at_once(tmp_path: Path) -> None:
    """A 403 is not asked for twice."""
    seen = watch(tmp_path, [Forever(Fail(403, "no"))])

    assert api_error(seen.run)[:3] == (1, "api_error", 403)
    assert len(seen.api.requests) == 1


def first_retry(cli: ClaudeCli) -> Json:
    """Start it, wait for its first retry, and kill it."""
    with cli.start(*HEADLESS, "go", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        events = map(json.loads, process.stdout)
        retry: Json = next(event for event in events if event.get("subtype") == "api_retry")
        process.kill()
    return retry


def test_a_wrong_key_is_retried_ten_times(tmp_path: Path) -> None:
    """It announces each time, with the status."""
    with MessagesApi([Say("done")], keys=["right"]) as api:
        retry = first_retry(ClaudeCli.fresh(tmp_path, api.env("wrong")))

    assert (retry["attempt"], retry["max_retries"], retry["error_status"]) == (1, 10, 401)


def test_a_refused_connection_is_retried_ten_times(tmp_path: Path) -> None:
    """It announces each time, without a status."""
    retry = first_retry(ClaudeCli.fresh(tmp_path, NO_API))

    assert (retry["attempt"], retry["max_retries"], retry["error_status"]) == (1, 10, None)


def test_retries_can_be_bounded(tmp_path: Path) -> None:
    """By `CLAUDE_CODE_MAX_RETRIES`."""
    env = {"CLAUDE_CODE_MAX_RETRIES": "0"}
    seen = watch(tmp_path, [Forever(Fail(529, "busy"))], env=env)

    assert api_error(seen.run)[:3] == (1, "api_error", 529)
    assert len(seen.api.requests) == 1


def test_retry_after_is_obeyed(tmp_path: Path) -> None:
    """A 429 is retried, no sooner than it says; the run then succeeds."""
    seen = watch(tmp_path, [Fail(429, retry_after=1), Say("done")])
    (retry,) = seen.run.of("system", "api_retry")

    assert (retry["error_status"], retry["retry_delay_ms"] >= 1000) == (429, True)
    assert seen.run.result["terminal_reason"] == "completed"


def test_a_message_that_breaks_off_leaves_no_event(tmp_path: Path) -> None:
    """It is asked for again, and only the whole one is shown. What the start of the other told (one token of output, as
    ever) is counted if Claude Code had come to read it before the connection broke."""
    seen = watch(tmp_path, [Disconnect("I wi", Usage(100, 100)), Say("I will", Usage(10, 5))])

    assert [event["message"]["content"][0]["text"] for (event,) in messages(seen.run)] == ["I will"]
    assert len(seen.run.of("system", "api_retry")) == 1
    ((model, whole),) = seen.api.served.items()
    assert billed(seen.run.result)[model] in (whole, whole + Usage(100, 1))


def test_a_silent_model_is_given_up_after_a_time_of_ones_choice(tmp_path: Path) -> None:
    """By `API_TIMEOUT_MS`, as an API error without a status."""
    env = {"API_TIMEOUT_MS": "300", "CLAUDE_CODE_MAX_RETRIES": "0"}
    code, reason, status, said = api_error(watch(tmp_path, [Forever(Hang())], env=env).run)

    assert (code, reason, status) == (1, "api_error", None)
    assert "timed out" in said


# The proof that a variant was applied


@pytest.fixture(scope="module")
def applied(tmp_path_factory: Factory) -> tuple[Seen, Path]:
    """CLAUDE.md and a hook that tells of it; an MCP server that works, and one that does not."""
    servers = {
        "echo": {"command": "python3", "args": [mcp_echo.__file__]},
        "broken": {"command": "false", "args": []},
    }
    commands = {event: f"echo {event} says so >&2" for event in ("SessionStart", "UserPromptSubmit")}
    commands["InstructionsLoaded"] = "cat >>loaded.jsonl; echo InstructionsLoaded says so >&2"
    hooks = {event: [{"hooks": [{"type": "command", "command": text}]}] for event, text in commands.items()}
    script: list[Step] = [
        Use("ToolSearch", {"query": "select:mcp__echo__say", "max_results": 5}),
        Use("mcp__echo__say", {"text": "please"}),
        Say("done"),
    ]
    options = ["--mcp-config", json.dumps({"mcpServers": servers}), "--strict-mcp-config"]
    options += ["--settings", json.dumps({"hooks": hooks}), "--include-hook-events"]
    with MessagesApi(script) as api:
        files = {"CLAUDE.md": "Always say please.\n"}
        cli = ClaudeCli.fresh(tmp_path_factory.mktemp("applied"), api.env(), files)
        run = cli.run("go", *options, env={"MCP_CONNECTION_NONBLOCKING": "false"})
    return Seen(api, [run]), cli.cwd


def test_init_tells_each_mcp_servers_state(applied: tuple[Seen, Path]) -> None:
    """Those of the file, connected before the first turn or failed."""
    servers = applied[0].run.init["mcp_servers"]

    assert {server["name"]: server["status"] for server in servers} == {
        "echo": "connected",
        "broken": "failed",
    }


def test_mcp_tools_show_in_init_and_not_in_the_first_request(applied: tuple[Seen, Path]) -> None:
    """They are deferred: request bodies tell nothing about what was set up."""
    seen, _ = applied
    asked = [tool.get("name") for tool in seen.api.requests[0].body["tools"]]

    assert "mcp__echo__say" in seen.run.init["tools"]
    assert "mcp__echo__say" not in asked


def test_an_mcp_tools_call_is_named_after_its_server(applied: tuple[Seen, Path]) -> None:
    """In its tool_use event, and its result is the server's."""
    seen, _ = applied
    calls = [event["message"]["content"][0].get("name") for (event,) in messages(seen.run)]

    assert calls == ["ToolSearch", "mcp__echo__say", None]
    assert tool_results(seen.run)[1]["content"] == [text_block("please")]


def test_a_hook_is_told_of_each_loaded_claude_md(applied: tuple[Seen, Path]) -> None:
    """With its path and the reason, at no cost in tokens."""
    seen, repo = applied
    loaded = [json.loads(line) for line in (repo / "loaded.jsonl").read_text().splitlines()]

    assert [(told["file_path"], told["memory_type"], told["load_reason"]) for told in loaded] == [
        (str(repo / "CLAUDE.md"), "Project", "session_start")
    ]
    assert "Always say please." in seen.api.requests[0].prompt


def test_the_stream_tells_what_hooks_say_before_the_session_starts(applied: tuple[Seen, Path]) -> None:
    """On stderr it is not shown to the model. The hook of instructions has no events."""
    seen, _ = applied
    told = [event["stderr"] for event in seen.run.of("system", "hook_response")]
    kinds = [event.get("subtype") for event in seen.run.events]

    assert told == ["SessionStart says so\n", "UserPromptSubmit says so\n"]
    assert kinds.index("init") > max(index for index, kind in enumerate(kinds) if kind == "hook_response")
    assert "says so" not in json.dumps([request.body for request in seen.api.requests])


def test_init_tells_the_version(applied: tuple[Seen, Path]) -> None:
    """A record of it needs no second call."""
    init = applied[0].run.init

    assert init["claude_code_version"].count(".") == 2
    assert {"session_id", "model", "cwd", "permissionMode"} <= init.keys()
