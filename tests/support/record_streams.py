"""Records `tests/data/streams/*.jsonl` anew: the real Claude Code's output against a scripted Messages API.

    python -m tests.support.record_streams [SCENE...]

Run it when a new version of Claude Code changes its stream. Beside each stream, `served.json` tells what the
API served (the tokens by model) and the exit code. Paths of this machine are replaced by a sandbox's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from tests.support.claude_cli import HEADLESS, ClaudeCli, Finished
from tests.support.messages_api import (
    Fail,
    Forever,
    Hang,
    MessagesApi,
    Say,
    Turn,
    Usage,
    Use,
    text_block,
    tool_block,
)

STREAMS = Path(__file__).parents[1] / "data" / "streams"

TaskRecording = Iterator[tuple[str, Finished]]


def work() -> list[Turn]:
    """A session that reads, edits, runs, and sees one of its tools fail."""
    return [
        Turn(
            [text_block("I look at the file first — “π” ≈ 3."), tool_block("Read", {"file_path": "calc.py"})],
            Usage(1200, 80, 0, 9000),
        ),
        Use(
            "Edit",
            {"file_path": "calc.py", "old_string": "a - b", "new_string": "a + b"},
            Usage(15, 95, 9000, 400),
        ),
        Turn(
            [
                tool_block("Bash", {"command": "python3 -c 'import calc; print(calc.add(1, 2))'"}),
                tool_block("Bash", {"command": "echo not good >&2; exit 3"}),
            ],
            Usage(9, 120, 9400, 210),
        ),
        Use("Write", {"file_path": "notes/done.txt", "content": "added\n"}, Usage(8, 60, 9610, 180)),
        Say("`add` adds now.", Usage(7, 42, 9790, 95)),
    ]


def success(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A run with text and tools in one message, two tools in one message, and a failing tool."""
    yield "success", cli.run("Fix calc.py")


def subagent(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A subagent in the foreground, on another model."""
    yield "subagent", cli.run("Count the files")


def max_turns(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A stop by `--max-turns`."""
    yield "max_turns", cli.run("Go on for ever", "--max-turns", "2")


def budget(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A stop by `--max-budget-usd`."""
    yield "budget", cli.run("Go on for ever", "--max-budget-usd", "0.000001")


def api_error(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A 400 after one good message."""
    yield "api_error", cli.run("Try")


def prompt_too_long(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A conversation too long for the model, which cannot be compacted either."""
    yield "prompt_too_long", cli.run("Try")


def background(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A subagent in the background, which ends after the main agent's first answer."""
    yield "background", cli.run("Count the files")


def unauthorized(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A 401, retried once."""
    yield "unauthorized", cli.run("Try", env={"CLAUDE_CODE_MAX_RETRIES": "1"})


def retried(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A 529, and then success."""
    yield "retried", cli.run("Try")


def resumed(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """A session of two prompts: one stream each."""
    first = cli.run("Fix calc.py")
    yield "resumed_1", first
    yield "resumed_2", cli.run("Now the notes", "--resume", first.init["session_id"])


def mcp(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """An MCP server that works and one that does not, a hook that reports CLAUDE.md, one MCP call."""
    (cli.cwd / "CLAUDE.md").write_text("Always say please.\n")
    (cli.cwd / "mcp_echo.py").write_text((Path(__file__).parent / "mcp_echo.py").read_text())
    servers = {
        "echo": {"command": "python3", "args": ["mcp_echo.py"]},
        "broken": {"command": "false", "args": []},
    }
    hooks = {"InstructionsLoaded": [{"hooks": [{"type": "command", "command": "cat >> loaded.jsonl"}]}]}
    config = json.dumps({"mcpServers": servers})
    settings = json.dumps({"hooks": hooks})
    options = ("--mcp-config", config, "--strict-mcp-config", "--settings", settings, "--include-hook-events")
    yield "mcp", cli.run("Echo", *options, env={"MCP_CONNECTION_NONBLOCKING": "false"})


def interrupted(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """SIGINT while the model is silent."""
    yield "interrupted", signalled(cli, api, signal.SIGINT)


def killed(cli: ClaudeCli, api: MessagesApi) -> TaskRecording:
    """SIGKILL while the model is silent; the last line is cut in its middle, inside a character."""
    run = signalled(cli, api, signal.SIGKILL)
    cut = run.stdout.index("π".encode()) + 1
    line = run.stdout.rindex(b"\n", 0, cut) + 1
    yield "killed", replace(run, stdout=run.stdout + run.stdout[line:cut])


def signalled(cli: ClaudeCli, api: MessagesApi, number: signal.Signals) -> Finished:
    """A run that does all its work, and is sent a signal before its answer."""
    pipe = subprocess.PIPE
    with cli.start(*HEADLESS, "Fix calc.py", stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process:
        api.wait_for_requests(len(work()))
        process.send_signal(number)
        out, err = process.communicate()
    return Finished(process.returncode, out, err.decode())


SCENES: list[tuple[Callable[[ClaudeCli, MessagesApi], TaskRecording], Callable[[], MessagesApi]]] = [
    (success, lambda: MessagesApi(work())),
    (
        subagent,
        lambda: MessagesApi(
            [
                Use(
                    "Agent",
                    {
                        "description": "count the files",
                        "prompt": "COUNT the files here",
                        "subagent_type": "general-purpose",
                        "model": "haiku",
                        "run_in_background": False,
                    },
                    Usage(1000, 64, 0, 8000),
                ),
                Say("There are two files.", Usage(20, 15, 8000, 300)),
            ],
            subagents={
                "COUNT": [
                    Use("Bash", {"command": "ls | wc -l"}, Usage(700, 33, 0, 5000)),
                    Say("Two files.", Usage(11, 12, 5000, 90)),
                ]
            },
        ),
    ),
    (
        max_turns,
        lambda: MessagesApi([Use("Bash", {"command": f"echo {n}"}, Usage(n, 40 + n)) for n in range(3)]),
    ),
    (
        budget,
        lambda: MessagesApi([Use("Bash", {"command": f"echo {n}"}, Usage(n, 40 + n)) for n in range(3)]),
    ),
    (api_error, lambda: MessagesApi([work()[0], Forever(Fail(400, "messages.1: bad block"))])),
    (prompt_too_long, lambda: MessagesApi([work()[0], Forever(Fail(400, "prompt is too long"))])),
    (
        background,
        lambda: MessagesApi(
            [
                Use(
                    "Agent",
                    {
                        "description": "count the files",
                        "prompt": "COUNT the files here",
                        "subagent_type": "general-purpose",
                    },
                    Usage(1000, 64, 0, 8000),
                ),
                Say("I wait for the count.", Usage(20, 15, 8000, 300)),
                Say("There are two files.", Usage(20, 16, 8300, 200)),
            ],
            subagents={
                "COUNT": [
                    Use("Bash", {"command": "sleep 0.3; ls | wc -l"}, Usage(700, 33, 0, 5000)),
                    Say("Two files.", Usage(11, 12, 5000, 90)),
                ]
            },
        ),
    ),
    (unauthorized, lambda: MessagesApi([Forever(Fail(401, "invalid x-api-key"))])),
    (retried, lambda: MessagesApi([Fail(529, "Overloaded"), Say("done", Usage(10, 42))])),
    (resumed, lambda: MessagesApi([*work(), Say("The notes are fine.", Usage(30, 20, 9885, 60))])),
    (
        mcp,
        lambda: MessagesApi(
            [
                Use("ToolSearch", {"query": "select:mcp__echo__say", "max_results": 5}, Usage(900, 30)),
                Use("mcp__echo__say", {"text": "please"}, Usage(20, 25)),
                Say("It said please.", Usage(15, 10)),
            ]
        ),
    ),
    (interrupted, lambda: MessagesApi([*work()[:-1], Forever(Hang())])),
    (killed, lambda: MessagesApi([*work()[:-1], Hang()])),
]


def anonymous(stream: bytes, cli: ClaudeCli) -> bytes:
    """The stream as a sandbox would have written it: no path, no process id of this machine."""

    def slug(path: Path | str) -> bytes:
        return re.sub(r"[^A-Za-z0-9]", "-", str(path)).encode()

    for old, new in [
        (str(cli.cwd).encode(), b"/home/user/repo"),
        (slug(cli.cwd), slug("/home/user/repo")),
        (str(cli.home).encode(), b"/home/user"),
        (f"/tmp/claude-{os.getuid()}/".encode(), b"/tmp/claude-1000/"),
    ]:
        stream = stream.replace(old, new)
    return re.sub(rb"/cc-socks/\d+\.sock", b"/cc-socks/100.sock", stream)


def main(names: list[str]) -> None:
    """Record the scenes of these names; without names, all."""
    table = STREAMS / "served.json"
    served = json.loads(table.read_text()) if names else {}
    for scene, make_api in SCENES:
        if names and scene.__name__ not in names:
            continue
        with tempfile.TemporaryDirectory() as root, make_api() as api:
            cli = ClaudeCli.fresh(Path(root), api.env(), {"calc.py": "def add(a, b):\n    return a - b\n"})
            for name, finished in scene(cli, api):
                (STREAMS / f"{name}.jsonl").write_bytes(anonymous(finished.stdout, cli))
                tokens = {model: asdict(usage) for model, usage in api.served.items()}
                served[name] = {"exit_code": finished.exit_code, "served": tokens}
    table.write_text(json.dumps(served, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
