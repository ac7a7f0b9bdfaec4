"""How a trial can end: the real CLI in a real sandbox meets each trouble, and the record says the truth about it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import e2b
import pytest

from harness.local.launch import LocalServer, start_server
from harness.models.model import api_model
from harness.models.provider import Provider, ProviderState
from harness.records.reading import list_runs, read_records
from harness.runs.resources import local_platform
from harness.sandboxes.platform import Platform
from harness.trials.timeouts import Timeouts
from tests.support.folders import ANSWER_CHECK, by_hand, says, task_folder, uses
from tests.support.messages_api import (
    OWN,
    Disconnect,
    Fail,
    Forever,
    Hang,
    MessagesApi,
    Page,
    Request,
    Say,
    Stall,
    Step,
    Turn,
    Usage,
    Use,
)
from tests.support.trials import HELPER, Story, tell, two_prompts_task

NO_RETRY = '[sandbox]\nenv = {CLAUDE_CODE_MAX_RETRIES = "0"}\n'
DIES_EARLY = r"""
[setup]
run = ['''mkdir ~/bin && cat >~/bin/claude <<'EOF' && chmod +x ~/bin/claude
#!/bin/bash
/opt/claude/claude "$@" | while IFS= read -r line; do
  printf '%s\n' "$line"
  case $line in *'"subtype":"init"'*) kill -KILL 0 ;; esac
done
EOF''']
[sandbox]
env = {PATH = "/home/user/bin:/opt/bin:/usr/local/bin:/usr/bin:/bin"}
"""
ANSWER = Use("Bash", {"command": "echo 42 >answer.txt"}, Usage(11, 7))
DONE = Say("Done.")


@dataclass(frozen=True)
class Trouble:
    """What happens, and what the record must say: outcome, what stopped the agent, the fault's cause and kind."""

    name: str
    script: Sequence[Step]
    told: tuple[str, str | None, str | None, str | None]
    toml: str = ""
    says: str = ""
    task: dict[str, Any] = field(default_factory=dict)
    api: dict[str, Any] = field(default_factory=dict)


def of_the_api(name: str, step: Fail | Disconnect | Page, kind: str, says: str) -> Trouble:
    """The API fails for everybody, the harness too."""
    own = Fail(500) if isinstance(step, Disconnect) else step
    told = ("error", None, "provider", kind)
    return Trouble(name, [ANSWER, Forever(step)], told, NO_RETRY, says, api={"own": own})


TROUBLES = [
    of_the_api("400", Fail(400, "credit balance is too low"), "bad_request", "Credit balance is too low"),
    of_the_api("403", Fail(403, "not for you"), "auth", "not for you"),
    of_the_api("404", Fail(404, "model: nobody"), "not_found", "HTTP 404"),
    of_the_api("429", Fail(429, "slow down"), "rate_limit", "slow down"),
    of_the_api("500", Fail(500, "oops"), "api_error", "oops"),
    of_the_api("529", Fail(529, "overloaded"), "overloaded", "overloaded"),
    of_the_api("breaks off", Disconnect("I wi"), "api_error", ""),
    of_the_api("a login page", Page(), "api_error", ""),
    Trouble(
        "401", [DONE], ("error", None, "provider", "auth"), says="refused the key", api={"keys": ["right"]}
    ),
    Trouble(
        "hangs",
        [Forever(Hang())],
        ("error", None, "provider", "silent"),
        "timeout = 12\n",
        "had sent nothing",
    ),
    Trouble(
        "stalls",
        [Forever(Stall())],
        ("error", None, "provider", "silent"),
        "timeout = 12\n",
        "had sent nothing",
    ),
    Trouble(
        "the setup is slow",
        [ANSWER, DONE],
        ("error", None, "task", "setup_timeout"),
        "[setup]\ntimeout = 3\nrun = ['true', 'sleep 600']\n",
        "'sleep 600' had not ended when the setup's 3 s were over",
    ),
    Trouble(
        "the setup fails",
        [ANSWER, DONE],
        ("error", None, "task", "setup_failed"),
        "[setup]\nrun = ['echo no such thing >&2; exit 3']\n",
        "ended with 3: no such thing",
    ),
    Trouble(
        "a home that is not there",
        [ANSWER, DONE],
        ("error", None, "task", "env"),
        "[sandbox]\nenv = {HOME = '/nonexistent'}\n",
        "task.toml: sandbox.env.HOME is '/nonexistent', with which the sandbox does not work",
    ),
    Trouble(
        "no folder of programs",
        [ANSWER, DONE],
        ("error", None, "task", "env"),
        "[sandbox]\nenv = {PATH = '/nonexistent'}\n",
        "sandbox.env.PATH is",
    ),
    Trouble(
        "a folder for temporary files that cannot be made",
        [ANSWER, DONE],
        ("error", None, "task", "env"),
        "[sandbox]\nenv = {TMPDIR = '/nonexistent/x'}\n",
        "sandbox.env.TMPDIR is",
    ),
    Trouble(
        "the CLI hangs at its start",
        [ANSWER, DONE],
        ("error", None, "agent", "did_not_start"),
        "timeout = 3\n"
        "[setup]\nrun = ['mkdir ~/bin; printf \"#!/bin/sh\\nsleep 600\\n\" >~/bin/claude; chmod +x ~/bin/claude']\n"
        "[sandbox]\nenv = {PATH = '/home/user/bin:/usr/local/bin:/usr/bin:/bin'}\n",
        "had not started after 3 s",
    ),
    Trouble(
        "too long",
        [ANSWER, Forever(Fail(400, "prompt is too long: 210000 tokens > 200000 maximum"))],
        ("passed", "prompt_too_long", None, None),
        NO_RETRY,
    ),
    Trouble(
        "a 429 on the way", [Fail(429, retry_after=0), ANSWER, DONE], ("passed", "completed", None, None)
    ),
    Trouble(
        "the API fails until the time is up",
        [ANSWER, Forever(Fail(529, "overloaded"))],
        ("error", None, "provider", "overloaded"),
        "timeout = 12\n",
        "was being asked again",
        api={"own": Fail(529)},
    ),
    Trouble(
        "the CLI dies",
        [Forever(Hang())],
        ("error", None, "agent", "died"),
        DIES_EARLY,
        "ended without a result",
    ),
    Trouble(
        "the model refuses",
        [ANSWER, Forever(Say("No.", stop_reason="refusal"))],
        ("passed", "refusal", None, None),
    ),
    Trouble(
        "the output limit",
        [ANSWER, Forever(Say("and", stop_reason="max_tokens"))],
        ("passed", "max_output", None, None),
    ),
    Trouble(
        "a server is left running",
        [
            ANSWER,
            Use("Bash", {"command": "sleep 600", "run_in_background": True}),
            DONE,
        ],
        ("passed", "completed", None, None),
        "timeout = 300\n",
    ),
    Trouble(
        "no CLI",
        [DONE],
        ("error", None, "agent", "not_installed"),
        '[sandbox]\ntemplate = "base"\n',
        "claude: not found",
    ),
    Trouble(
        "a check hangs",
        [ANSWER, DONE],
        ("failed", "completed", None, None),
        "[checks]\ntimeout = 0.5\n",
        task={"checks": {"slow.sh": "#!/bin/sh\nsleep 600\n", "answer.sh": ANSWER_CHECK}},
    ),
    Trouble(
        "the agent is slow",
        [ANSWER, Use("Bash", {"command": "tail -f /dev/null"})],
        ("passed", "timeout", None, None),
        "timeout = 12\n",
    ),
    Trouble(
        "turns are up",
        [ANSWER, ANSWER, DONE],
        ("passed", "max_turns", None, None),
        "[limits]\nmax_turns = 1\n",
    ),
    Trouble(
        "the budget is up",
        [Use("Bash", {"command": "ls"}, Usage(0, 100_000)), ANSWER, DONE],
        ("failed", "max_cost", None, None),
        "[limits]\nmax_cost_usd = 0.5\n",
    ),
]


SLOW = {"stalls", "500", "404", "403", "the API fails until the time is up"}
"""Kin of others that are told."""


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(trouble, id=trouble.name, marks=[pytest.mark.slow] * (trouble.name in SLOW))
        for trouble in TROUBLES
    ],
)
def test_each_ending_has_its_outcome_and_its_cause(
    server: LocalServer, tmp_path: Path, trouble: Trouble
) -> None:
    """Infrastructure is an error and says whose; what the agent or a check did is judged; nothing hangs."""
    task = task_folder(tmp_path, toml=trouble.toml, **trouble.task)
    with MessagesApi(trouble.script, **trouble.api) as api:
        story = tell(server, api, task)

    assert story.told() == trouble.told, story.record.error
    message = story.record.error.message if story.record.error else ""
    assert trouble.says in message
    if story.record.tokens_partial:
        assert story.record.cost_usd is None
    elif story.record.models and trouble.name not in ("breaks off", "the model refuses"):
        # Claude Code counts what a broken message's start told; what it is billed, nobody tells.
        assert_billed(story, api)


SETTINGS = "mkdir -p ~/.claude && echo '{\"env\": {%s}}' >~/.claude/settings.json; sleep 3"


def imitates(name: str, command: str, stop: str, *, toml: str = "", **api: Any) -> Trouble:
    """An agent that makes the same trouble with its own hands, and has not done its work."""
    steps = [Use("Bash", {"command": command}), Forever(Say("Done."))]
    return Trouble(name, steps, ("failed", stop, None, None), toml, api=api)


# A model's API of the agent's own, in its sandbox.
OWN_API = """
import http.server, json
ERROR = json.dumps({"type": "error", "error": {"type": "api_error", "message": "not now"}})
def stream(why):
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    events = [{"type": "message_start", "message": message},
              {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
              {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "No."}},
              {"type": "content_block_stop", "index": 0},
              {"type": "message_delta", "delta": {"stop_reason": why, "stop_sequence": None},
               "usage": {"output_tokens": 1}},
              {"type": "message_stop"}]
    return "".join(f"event: {one['type']}\\ndata: {json.dumps(one)}\\n\\n" for one in events)
class Api(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        status, body = ANSWER
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
http.server.ThreadingHTTPServer(("127.0.0.1", 8089), Api).serve_forever()
"""


def answers_itself(answer: str) -> str:
    """A command after which Claude Code asks a server that the agent has started."""
    own = OWN_API.replace("ANSWER", answer)
    start = (
        f"cat >/tmp/api.py <<'EOF'\n{own}\nEOF\nsetsid -f python3 /tmp/api.py >/dev/null 2>&1 </dev/null\n"
    )
    return start + SETTINGS % '"ANTHROPIC_BASE_URL": "http://127.0.0.1:8089"'


NO_MODEL = 'echo \'{"env": {"ANTHROPIC_MODEL": "nobody"}}\' >~/.claude/settings.json'


def knows_models(request: Request) -> Turn | Fail:
    """An API that has not got every model; its agent chooses another one for its next prompt."""
    if request.model == "nobody":
        return Fail(404, "model: nobody")
    return DONE if request.turns else Use("Bash", {"command": NO_MODEL})


IMITATED = [
    imitates(
        "the API cannot be reached",
        SETTINGS % '"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "CLAUDE_CODE_MAX_RETRIES": "0"',
        "api_error",
        toml=NO_RETRY,
    ),
    imitates(
        "the API cannot be reached until the time is up",
        SETTINGS % '"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"',
        "timeout",
        toml="timeout = 15\n",
    ),
    imitates(
        "the key is refused",
        SETTINGS % '"ANTHROPIC_API_KEY": "sk-ant-mine"',
        "timeout",
        toml="timeout = 15\n",
        keys=["sk-ant-scripted"],
    ),
    *(
        imitates(f"a {status}", answers_itself(f"({status}, ERROR)"), "api_error", toml=NO_RETRY)
        for status in (400, 403, 404, 429, 500, 529)
    ),
    imitates("a 529 until the time is up", answers_itself("(529, ERROR)"), "timeout", toml="timeout = 15\n"),
    imitates("the model refuses", answers_itself("(200, stream('refusal'))"), "refusal"),
    imitates("the output limit", answers_itself("(200, stream('max_tokens'))"), "max_output"),
    imitates("the CLI dies", "kill -9 $PPID; pkill -9 -f claude; sleep 60", "killed"),
    Trouble(
        "a model that there is not",
        [Forever(knows_models)],
        ("failed", "api_error", None, None),
        'prompts = ["one.md", "two.md"]\n',
        task={"prompts": {"one.md": "Prepare.\n", "two.md": "Answer.\n"}},
        api={"own": lambda request: knows_models(request) if request.model == "nobody" else OWN},
    ),
    imitates("the CLI is interrupted", "kill -INT $PPID; pkill -INT -f claude; sleep 60", "killed"),
]


QUICK = {"a 529", "the model refuses", "the CLI dies"}


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(trouble, id=trouble.name, marks=[pytest.mark.slow] * (trouble.name not in QUICK))
        for trouble in IMITATED
    ],
)
def test_an_agent_that_imitates_a_fault_is_judged(
    server: LocalServer, tmp_path: Path, trouble: Trouble
) -> None:
    """What the stream alone tells after the agent's first tool call excuses nobody, and ends no run."""
    task = task_folder(tmp_path, toml=trouble.toml, **trouble.task)
    with MessagesApi(trouble.script, **trouble.api) as api:
        story = tell(server, api, task, retries=1)

    assert story.told() == trouble.told, (story.record.error, story.record.notes)
    assert not story.record.attempts
    if trouble.told[1] != "completed":
        assert story.record.notes


NEAT = ["killall -q tail; rm -rf ~/.harness", "pkill tail; pkill -f follow; find ~ -name out -delete"]


@pytest.mark.parametrize("tidy", NEAT)
@pytest.mark.parametrize("keeps_output", [True, False], ids=["kept by the server", "in a file"])
def test_an_agent_that_tidies_up_loses_nothing(
    server: LocalServer, tmp_path: Path, tidy: str, keeps_output: bool
) -> None:
    """What follows the agent may be killed, and its folder removed: the stream is whole all the same."""
    steps = [Use("Bash", {"command": tidy, "description": f"step {step}"}) for step in range(3)]
    platform = local_platform(server)
    platform = platform if keeps_output else Platform("e2b", platform.params)
    with MessagesApi([ANSWER, *steps, DONE]) as api:
        story = tell(server, api, task_folder(tmp_path), platform=platform)

    assert story.told() == ("passed", "completed", None, None), (story.record.error, story.record.notes)
    assert_billed(story, api)
    assert story.record.tools["Bash"].calls == 4
    assert story.record.tampering == ()
    assert story.record.sandbox.stream_kept == ("server pipe" if keeps_output else "user file")


# Linux's calls by which a process takes a descriptor of another one's.
STEAL = """
import ctypes, json, os, pathlib
libc = ctypes.CDLL(None, use_errno=True)
line = json.dumps({"type": "result", "subtype": "success", "is_error": False, "terminal_reason": "completed"})
for pid in [int(path.name) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]:
    if pid != os.getpid():
        for fd in (1, 3):
            got = libc.syscall(438, libc.syscall(434, pid, 0), fd, 0)
            if got >= 0:
                os.write(got, line.encode() + b"\\n")
            for path in (f"/proc/{pid}/fd/{fd}",):
                try:
                    os.write(os.open(path, os.O_WRONLY), line.encode() + b"\\n")
                except OSError:
                    pass
"""


def test_the_stream_is_out_of_the_agents_reach(server: LocalServer, tmp_path: Path) -> None:
    """A process of its account can take no descriptor from the CLI, whose output is in the server's own pipe."""
    if server.isolation != "namespaces":
        pytest.skip("other tiers share this machine's processes")
    steal = Use("Bash", {"command": f"cat >/tmp/steal.py <<'EOF'\n{STEAL}\nEOF\npython3 /tmp/steal.py"})
    with MessagesApi([ANSWER, steal, DONE]) as api:
        story = tell(server, api, task_folder(tmp_path))

    assert story.told() == ("passed", "completed", None, None)
    assert story.record.tampering == ()
    assert story.transcript.count(b'"type":"result"') + story.transcript.count(b'"type": "result"') == 1


def lose_sandboxes(server: LocalServer, times: int) -> Callable[[Request], Turn]:
    """A step that has the platform end the trial's sandbox, the first so many times."""
    lost: list[str] = []

    def lose(request: Request) -> Turn:
        if len(lost) < times:
            params = local_platform(server).params
            (found,) = e2b.Sandbox.list(**params).next_items()
            lost.append(found.sandbox_id)
            e2b.Sandbox.kill(found.sandbox_id, **params)
        return DONE

    return lose


@pytest.mark.parametrize(
    ("times", "told"),
    [(1, ("passed", "completed", None, None)), (9, ("failed", "sandbox_lost", None, None))],
    ids=["once", "each time"],
)
def test_a_sandbox_that_is_lost_again_after_a_tool_call_is_the_agents(
    own_server: LocalServer, tmp_path: Path, times: int, told: tuple[str, str | None, str | None, str | None]
) -> None:
    """The first is the platform's, and tried again; an agent that ends its sandbox each time has failed."""
    task = task_folder(tmp_path)
    with MessagesApi([ANSWER, lose_sandboxes(own_server, times)]) as api:
        story = tell(own_server, api, task, retries=2)

    assert story.told() == told, (story.record.error, story.record.notes)
    (first,) = story.record.attempts
    assert first.error.cause == "sandbox"
    assert all(check.passed == (times == 1) for check in story.record.checks)
    assert story.record.checks


@pytest.fixture(scope="module")
def own_server() -> Iterator[LocalServer]:
    """A server whose sandboxes are this module's alone."""
    with start_server() as server:
        yield server


def test_one_request_of_the_harness_stands_for_many_trials() -> None:
    """Trials that meet the same trouble at the same time do not add to it."""

    async def ask_often(api: MessagesApi) -> list[ProviderState | None]:
        provider, model = Provider(), api_model(api.env(), loopback=True)
        return await asyncio.gather(*(provider.ask(model, model.env, "claude-x[1m]") for _ in range(20)))

    with MessagesApi([], own=Fail(529, "overloaded")) as api:
        states = asyncio.run(ask_often(api))

    assert set(states) == {ProviderState(529, "overloaded")}
    (request,) = api.own_requests
    assert (request.model, request.body["max_tokens"]) == ("claude-x", 1)


IMPATIENT = Timeouts(platform_s=5, model_s=3)


@pytest.mark.slow
def test_a_silent_model_is_noticed_before_the_time_is_up(server: LocalServer, tmp_path: Path) -> None:
    """A task may give its agent hours; a model that says nothing for as long as a run puts up with ends it sooner."""
    task = task_folder(tmp_path, toml="timeout = 3600\n")
    with MessagesApi([ANSWER, Forever(Hang())], own=Hang()) as api:
        story = tell(server, api, task, timeouts=IMPATIENT)

    assert story.told() == ("error", None, "provider", "silent"), story.record.error
    assert story.record.phases_ms.agent
    assert story.record.phases_ms.agent < 3_600_000 / 10
    assert story.record.tokens_partial


@pytest.mark.slow
def test_a_silent_tool_is_left_to_work(server: LocalServer, tmp_path: Path) -> None:
    """As long as the agent has time: what a call does is its own, however long it says nothing."""
    task = task_folder(tmp_path)
    work = Use("Bash", {"command": "sleep 8; echo 42 >answer.txt"})
    with MessagesApi([work, DONE]) as api:
        story = tell(server, api, task, timeouts=replace(IMPATIENT, model_s=6))

    assert story.told() == ("passed", "completed", None, None), story.record.error


def assert_billed(story: Story, api: MessagesApi) -> None:
    """The record's tokens are those that were served, by model and to the digit."""
    found = {
        name: Usage(model.input or 0, model.output or 0, model.cache_read or 0, model.cache_creation or 0)
        for name, model in story.record.models.items()
    }
    assert {name: usage for name, usage in found.items() if usage != Usage(0, 0, 0, 0)} == api.served
    tokens = story.record.tokens
    assert (
        Usage(tokens.input or 0, tokens.output or 0, tokens.cache_read or 0, tokens.cache_creation or 0)
        == api.total
    )


# What it cost

SONNET = "claude-sonnet-4-5"


def dollars(usage: Usage) -> float:
    """What Sonnet 4.5 costs at list prices: a million tokens are $3, $15, and for the caches $0.30 and $3.75."""
    return (usage.input * 3 + usage.output * 15 + usage.cache_read * 0.3 + usage.cache_creation * 3.75) / 1e6


def test_tokens_and_cost_are_what_the_api_billed(server: LocalServer, tmp_path: Path) -> None:
    """By model, over several prompts, subagents and retries, caches apart; cost at the models' list prices."""
    task = two_prompts_task(tmp_path)
    script: list[Step] = [
        Fail(429, retry_after=0),
        ANSWER,
        Use("Agent", {**HELPER, "run_in_background": False}, Usage(13, 17, 1_009, 2_003)),
        Say("Written.", Usage(101, 211, 307, 401)),
        Use("Bash", {"command": "cat answer.txt"}, Usage(19, 23, 29, 31)),
        Fail(529, retry_after=0),
        Say("Checked.", Usage(37, 41, 43, 47)),
    ]
    counting = [Use("Bash", {"command": "ls"}, Usage(53, 59, 61, 67)), Say("Two.", Usage(71, 73, 79, 83))]
    with MessagesApi(script, subagents={"COUNT": counting}) as api:
        story = tell(server, api, task)

    assert story.told() == ("passed", "completed", None, None), story.record.error
    assert not api.unscripted
    assert_billed(story, api)
    costs = {name: model.cost_usd or 0 for name, model in story.record.models.items()}
    assert len(costs) == 2
    assert costs[SONNET] == pytest.approx(dollars(api.served[SONNET]), rel=1e-9)
    assert story.record.cost_usd == pytest.approx(sum(costs.values()), rel=1e-9)
    assert story.record.api_retries == 2
    assert [turn.result for turn in story.record.turns] == ["Written.", "Checked."]
    assert story.record.tools["Bash"].in_subagents == 1


def test_a_faulty_attempts_spend_is_kept(server: LocalServer, tmp_path: Path) -> None:
    """Each attempt has its own tokens and cost, and the trial's is their sum: what was paid is paid."""
    task = task_folder(tmp_path, toml=NO_RETRY)
    broke: list[str] = []

    def busy_once(request: Request) -> Fail | Turn:
        broke.append(request.session_id)
        return Fail(529, "overloaded") if len(broke) == 1 else DONE

    with MessagesApi([ANSWER, busy_once], own=Fail(529)) as api:
        story = tell(server, api, task, retries=1)

    assert story.told() == ("passed", "completed", None, None)
    (first,) = story.record.attempts
    assert (first.error.cause, first.error.type) == ("provider", "overloaded")
    assert (first.tokens.total or 0) + (story.record.tokens.total or 0) == sum(vars(api.total).values())
    assert first.cost_usd
    assert story.record.total_cost_usd == first.cost_usd + (story.record.cost_usd or 0)
    assert first.transcript
    assert (story.folder.path / first.transcript).is_file()


# What the agent may not do


KEY = "sk-ant-api03-THIS-must-never-be-seen"


def test_no_key_shows_up_anywhere(
    as_e2b: LocalServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that prints its environment, writes it into the repo, and a check that shows it: all is redacted."""
    leak = Use(
        "Bash", {"command": "env; env >answer.txt; echo $ANTHROPIC_API_KEY; echo k=$ANTHROPIC_API_KEY >k.txt"}
    )
    task_folder(pytester.path / "tasks", checks={"leak.sh": "#!/bin/sh\ncat answer.txt k.txt; exit 1\n"})
    with MessagesApi([leak, Say(f"The key is {KEY}.")], keys=[KEY]) as api:
        for name, value in api.env(KEY).items():
            monkeypatch.setenv(name, value)
        result = pytester.runpytest_subprocess("tasks", "-v", "--junitxml=results/out.xml")

    result.assert_outcomes(failed=1)
    seen = [path for path in (pytester.path / "results").rglob("*") if path.is_file()]
    assert {"records.jsonl", "transcript.jsonl", "diff.patch", "leak.txt"} <= {path.name for path in seen}
    for text in (result.stdout.str(), result.stderr.str(), *(path.read_text() for path in seen)):
        assert KEY not in text
        assert as_e2b.api_key not in text
    assert "[redacted:ANTHROPIC_API_KEY]" in result.stdout.str()


def test_a_first_prompts_agent_has_no_hold_on_the_second(server: LocalServer, tmp_path: Path) -> None:
    """What it writes into the shell's start-up files neither ends the next prompt's run nor stands in for the CLI."""
    trap = (
        "for f in .profile .bash_profile .bashrc; do "
        """echo 'claude() { echo mine; }; setsid() { :; }; export PATH=/nowhere; echo mine; exit 0' >~/$f; done"""
    )
    write = Use("Write", {"file_path": "/home/user/repo/answer.txt", "content": "42\n"})
    toml = 'prompts = ["one.md", "two.md"]\n'
    task = task_folder(tmp_path, toml=toml, prompts={"one.md": "Prepare.\n", "two.md": "Answer.\n"})
    with MessagesApi([Use("Bash", {"command": trap}), DONE, write, DONE]) as api:
        story = tell(server, api, task)

    assert story.told() == ("passed", "completed", None, None), story.record.error
    assert len(story.record.turns) == 2
    assert_billed(story, api)


# Full disks


def test_results_that_do_not_fit_on_the_disk_are_the_harness_own_fault(
    server: LocalServer, tmp_path: Path
) -> None:
    """The trial is an error with what to do, and no other is started: each would meet it."""
    task = task_folder(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with MessagesApi([Use("Bash", {"command": "seq 20000"}), ANSWER, DONE]) as api:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            story = tell(server, api, task)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert story.told() == ("error", None, "harness", "disk")
    assert story.record.error
    assert "transcript.jsonl cannot be written: File too large" in story.record.error.message
    assert "--results" in (story.record.error.remedy or "")
    assert story.fault
    assert story.fault.fatal
    assert all(line.endswith(b"}") for line in story.transcript.splitlines())


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own with little room, which every user may look into."""
    if os.geteuid():
        pytest.skip("only root can mount one")
    with tempfile.TemporaryDirectory(prefix="small-disk-") as folder:
        os.chmod(folder, 0o755)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", folder], capture_output=True)
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.decode()}")
        os.chmod(folder, 0o1777)
        yield Path(folder)
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_an_agent_has_filled_is_judged_or_told(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the agent's doing, and counts: the work cannot be carried, or is judged as it is."""
    monkeypatch.setenv("TMPDIR", str(small_disk))
    task = task_folder(tmp_path, toml="timeout = 20\n[sandbox]\nenv = {CLAUDE_CODE_MAX_RETRIES = '0'}\n")
    fill = Use("Bash", {"command": "cat /dev/zero >big; df -h . ; exit 1"})
    with start_server() as full, MessagesApi([ANSWER, fill, DONE]) as api:
        story = tell(full, api, task)

    assert story.record.outcome == "failed"
    assert story.record.error is None
    assert story.record.notes


BOUNDED = """\
python3 -c 'b"x" * (1200 << 20)'; test $? = 137 || exit 3
head -c 200M /dev/zero >~/big && exit 4
rm ~/big; grep -qx 42 answer.txt
"""


def test_a_tasks_bounds_hold_in_its_sandboxes(server: LocalServer, tmp_path: Path) -> None:
    """Who goes beyond is refused or killed, by the agent's hand and by a check's; the trial goes on and is judged."""
    if not server.enforces >= {"memory", "disk"}:
        pytest.skip("memory and disk cannot be bounded here")
    toml = "[sandbox]\ncpus = 1.0\nmemory = 700\ndisk = 100\n"
    task = task_folder(tmp_path, toml=toml, checks={"bounded.sh": f"#!/bin/sh\n{BOUNDED}"})
    greedy = Use("Bash", {"command": f"sh -s <<'END'\n{BOUNDED}END\necho ended with $?"})
    with MessagesApi([ANSWER, greedy, DONE]) as api:
        story = tell(server, api, task)
    assert (story.told(), story.record.notes) == (("passed", "completed", None, None), ())
    assert b"ended with 0" in story.transcript


# Replays that cannot be played

RECORDED = by_hand([uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")], [says("Done.")])


@pytest.mark.usefixtures("as_e2b")
def test_without_a_replay_server_the_cli_is_not_started(pytester: pytest.Pytester) -> None:
    """It would ask the real API, with whatever it finds."""
    broken = (
        "[setup]\nrun = ['mkdir ~/bin; printf \"#!/bin/sh\\nexit 3\\n\" >~/bin/python3; chmod +x ~/bin/python3']\n"
        "[sandbox]\nenv = {PATH = '/home/user/bin:/usr/local/bin:/usr/bin:/bin'}\n"
    )
    task_folder(pytester.path / "tasks", toml=broken, replay=RECORDED)
    result = pytester.runpytest("tasks")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["infrastructure (provider, replay): the replay server did not start*"])
    (run,) = list_runs(pytester.path / "results")
    (record,) = read_records(run.path).records
    (asked,) = (run.path / str(record.transcript)).read_text().splitlines()
    assert json.loads(asked)["subtype"] == "turn"


@pytest.mark.usefixtures("as_e2b")
def test_an_earlier_run_that_cannot_be_replayed_has_records_that_say_so(pytester: pytest.Pytester) -> None:
    """A damaged transcript is no reason to lose the record of the attempt."""
    task_folder(pytester.path / "tasks", replay=RECORDED)
    pytester.runpytest("tasks").assert_outcomes(passed=1)
    (run,) = list_runs(pytester.path / "results")
    (first,) = read_records(run.path).records
    (run.path / str(first.transcript)).write_text("no session\n")
    result = pytester.runpytest("tasks", "--replay", str(run.path), "--results", "again")
    result.assert_outcomes(errors=1)
    (again,) = list_runs(pytester.path / "again")
    (record,) = read_records(again.path).records
    assert record.error
    assert (record.error.cause, record.error.type) == ("provider", "bad_recording")
