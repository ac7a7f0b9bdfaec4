"""What E2B's page on Claude Code does in Python, call by call, works here as it is written there.

The prompts are our own. What a test adds to a program are addresses: where the model's API and the git server are.
Two calls are written as Claude Code wants them, not as the page has them: `stream-json` with `--verbose`, and
`--resume` where the page has `--session-id`.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.local.launch import LocalServer
from tests.support.git_server import GitServer
from tests.support.messages_api import MessagesApi, Say, Use

CREATE = 'Sandbox.create("claude", envs={\n    "ANTHROPIC_API_KEY": os.environ["ANTHROPIC_API_KEY"],\n}'


@pytest.fixture(autouse=True)
def _as_e2b(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("API_KEY", server.api_key), ("API_URL", server.url), ("SANDBOX_URL", server.url)):
        monkeypatch.setenv(f"E2B_{name}", value)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-scripted")
    if server.isolation != "namespaces":
        pytest.skip(f"the {server.isolation} tier has no way to ports of this machine alone")


def told_by(program: str, api: MessagesApi, *ports: str) -> tuple[str, dict[str, Any]]:
    """Run a program that says CREATE; what it prints, and its names."""
    allowed = [f"127.0.0.1:{api.port}", *ports]
    env = ", ".join(
        f"{name!r}: {value!r}" for name, value in api.env().items() if name != "ANTHROPIC_API_KEY"
    )
    addressed = CREATE.replace(
        "envs={", f"network={{'allow_out': {allowed}, 'deny_out': ['0.0.0.0/0']}}, envs={{{env},"
    )
    said, names = io.StringIO(), {"__name__": "__main__"}
    with contextlib.redirect_stdout(said):
        exec(compile(program.replace("CREATE", addressed), "program.py", "exec"), names)
    return said.getvalue(), names


def test_headless() -> None:
    program = """
import os
from e2b import Sandbox

sandbox = CREATE)

result = sandbox.commands.run(
    'claude --dangerously-skip-permissions -p "Say hello"',
)

print(result.stdout)
sandbox.kill()
"""
    with MessagesApi([Say("hello to you")]) as api:
        assert told_by(program, api)[0] == "hello to you\n\n"


def test_a_cloned_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
import os
from e2b import Sandbox

sandbox = CREATE, timeout=600)

sandbox.git.clone("ADDRESS",
    path="/home/user/repo",
    username="x-access-token",
    password=os.environ["GITHUB_TOKEN"],
    depth=1,
)

result = sandbox.commands.run(
    'cd /home/user/repo && claude --dangerously-skip-permissions -p "Change a.txt"',
    on_stdout=lambda data: print(data, end=""),
)

diff = sandbox.commands.run("cd /home/user/repo && git diff")
print(diff.stdout)

sandbox.kill()
"""
    monkeypatch.setenv("GITHUB_TOKEN", "a-token-0123456789")
    script = [Use("Bash", {"command": "echo new >a.txt"}), Say("changed")]
    with GitServer(tmp_path, "a-token-0123456789") as git, MessagesApi(script) as api:
        git.commit("widget", {"a.txt": "old\n"})
        program = program.replace("ADDRESS", git.url("widget"))
        said, _ = told_by(program, api, git.origin.removeprefix("http://"))
    assert said.startswith("changed\n")
    assert "-old\n+new\n" in said


def test_structured_output() -> None:
    program = """
import os
import json
from e2b import Sandbox

sandbox = CREATE)

result = sandbox.commands.run(
    'claude --dangerously-skip-permissions --output-format json -p "Say hello"',
)

response = json.loads(result.stdout)
print(response)

sandbox.kill()
"""
    with MessagesApi([Say("hello")]) as api:
        _, names = told_by(program, api)
    assert (names["response"]["result"], names["response"]["is_error"]) == ("hello", False)


def test_streamed_output() -> None:
    program = """
import os
import json
from e2b import Sandbox

sandbox = CREATE)
kinds = []

def handle_event(data):
    for line in data.strip().split("\\n"):
        if line:
            kinds.append(json.loads(line)["type"])

result = sandbox.commands.run(
    'mkdir -p repo && cd /home/user/repo && '
    'claude --dangerously-skip-permissions --output-format stream-json --verbose -p "Say hello"',
    on_stdout=handle_event,
)

sandbox.kill()
"""
    with MessagesApi([Say("hello")]) as api:
        _, names = told_by(program, api)
    assert {"system", "assistant", "result"} <= set(names["kinds"])


def test_a_session_is_resumed_and_claude_md_is_read() -> None:
    program = """
import os
import json
from e2b import Sandbox

sandbox = CREATE, timeout=600)
sandbox.files.write("/home/user/repo/CLAUDE.md", "Always whistle-while-working.")

initial = sandbox.commands.run(
    'cd /home/user/repo && claude --dangerously-skip-permissions --output-format json -p "Plan"',
)

response = json.loads(initial.stdout)
session_id = response["session_id"]

follow_up = sandbox.commands.run(
    f'cd /home/user/repo && claude --dangerously-skip-permissions --resume {session_id} -p "Do step 1"',
    on_stdout=lambda data: print(data, end=""),
)

sandbox.kill()
"""
    with MessagesApi([Say("a plan"), Say("step 1 is done")]) as api:
        said, _ = told_by(program, api)
        last = json.dumps(api.requests[-1].body)
    assert said == "step 1 is done\n"
    assert "a plan" in last
    assert "whistle-while-working" in last


def test_a_template_of_ones_own(server: LocalServer) -> None:
    name = f"my-claude-{secrets.token_hex(4)}"
    program = f"""
from e2b import Template, default_build_logger

template = (
    Template()
    .from_template("claude")
)

Template.build(template, "{name}",
    cpu_count=2,
    memory_mb=2048,
    on_build_logs=default_build_logger(),
)
"""
    with MessagesApi([]) as api:
        assert "FROM claude" in told_by(program, api)[0]
    url = f"{server.url}/templates/{name}"
    assert httpx.delete(url, headers={"X-API-KEY": server.api_key}).status_code == 204
