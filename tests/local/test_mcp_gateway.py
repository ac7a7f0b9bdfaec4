"""`create(mcp=...)`: MCP servers behind one address of the sandbox; real Claude Code is a client."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import Sandbox, SandboxException

from harness.local.launch import LocalServer

Api = dict[str, str]

ECHO = (Path(__file__).parents[1] / "support" / "mcp_echo.py").read_text()
FROM_HERE = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "url.file:///home/user/repos/.insteadOf",
    "GIT_CONFIG_VALUE_0": "https://github.com/",
}
"""git's own way to take repositories from another place."""

LIBRARY = """
import json, sys
about = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "library", "version": "1"},
         "capabilities": {"prompts": {}, "resources": {}}}
book = {"uri": "book://one", "name": "one"}
text = {"type": "text", "text": "Summarize."}
answers = {
    "initialize": about, "ping": {},
    "prompts/list": {"prompts": [{"name": "summary"}]},
    "prompts/get": {"messages": [{"role": "user", "content": text}]},
    "resources/list": {"resources": [book]},
    "resources/read": {"contents": [{"uri": "book://one", "text": "Once upon a time."}]},
}
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        known = request["method"] in answers
        reply = {"result": answers[request["method"]]} if known else {"error": {"code": -32601, "message": "no"}}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}), flush=True)
"""
"""An MCP server with a prompt and a resource, and no tools."""

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def repositories(api: Api, server: LocalServer) -> Iterator[str]:
    """A snapshot with repositories in it, each of an MCP server."""
    if server.isolation != "namespaces":
        pytest.skip(f"the {server.isolation} tier has no network of the sandbox's own for the gateway")
    with Sandbox.create("mcp-gateway", **api) as sandbox:
        for name, program in (("echo", ECHO), ("other", ECHO), ("library", LIBRARY)):
            sandbox.files.write(f"repos/me/{name}/server.py", program)
            git = "git -c user.name=me -c user.email=me@here"
            sandbox.commands.run(f"cd repos/me/{name} && git init -q && git add . && {git} commit -qm x")
        sandbox.commands.run("sudo chown -R root: repos")  # git clones nobody else's repository

        yield sandbox.create_snapshot().snapshot_id


def with_gateway(template: str, api: Api, **servers: dict[str, Any]) -> Sandbox:
    """A sandbox that serves these repositories' MCP servers."""
    config = {f"github/me/{name}": settings for name, settings in servers.items()}
    return Sandbox.create(template, mcp=config, envs=FROM_HERE, **api)


def test_claude_code_uses_the_gateway_by_the_sdks_url(repositories: str, api: Api) -> None:
    """As on E2B's page: get_mcp_url() and get_mcp_token() given to `claude mcp add` in the sandbox, it connects, over
    TLS that it trusts; and whoever connects to the sandbox later finds the same token."""
    with with_gateway(repositories, api, echo={"runCmd": "python3 server.py"}) as sandbox:
        url, token = sandbox.get_mcp_url(), sandbox.get_mcp_token()
        assert url.startswith(f"https://50005-{sandbox.sandbox_id}.")
        add = f"claude mcp add --transport http gateway {url} --header 'Authorization: Bearer {token}'"
        shown = sandbox.commands.run(f"{add} && claude mcp list").stdout
        assert f"gateway: {url} (HTTP) - ✔ Connected" in shown
        assert Sandbox.connect(sandbox.sandbox_id, **api).get_mcp_token() == token


def test_what_all_servers_have_is_served_to_who_has_the_token(repositories: str, api: Api) -> None:
    """Each server's tools, prompts and resources, tools of one name told apart; a call reaches its server; without
    the token 401."""
    run = {"runCmd": "python3 server.py"}
    with with_gateway(repositories, api, echo=run, other=run, library=run) as sandbox:
        client = httpx.Client(
            base_url=api["api_url"],
            headers={
                "Host": sandbox.get_host(50005),
                "Accept": "application/json, text/event-stream",
                "Authorization": f"Bearer {sandbox.get_mcp_token()}",
            },
        )
        assert client.post("/mcp", headers={"Authorization": "Bearer no"}, json=INITIALIZE).status_code == 401
        opened = client.post("/mcp", json=INITIALIZE)
        client.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"})

        def ask(method: str, **params: Any) -> str:
            request = {"jsonrpc": "2.0", "id": 2, "method": method, "params": params}
            return client.post("/mcp", json=request).text

        listed = ask("tools/list")
        assert '"name":"say"' in listed
        assert '"name":"other-say"' in listed
        for tool in ("say", "other-say"):
            assert f"hello {tool}" in ask("tools/call", name=tool, arguments={"text": f"hello {tool}"})
        assert "Unknown tool" in ask("tools/call", name="sing", arguments={})
        assert '"name":"summary"' in ask("prompts/list")
        assert "Summarize." in ask("prompts/get", name="summary")
        assert "book://one" in ask("resources/list")
        assert "Once upon a time." in ask("resources/read", uri="book://one")
        assert "error" in ask("resources/read", uri="book://two")


def test_a_server_is_installed_first_and_has_its_variables(repositories: str, api: Api) -> None:
    """installCmd runs in the repository before runCmd does, and `envs` are the server's."""
    run = 'test "$KEY" = value && exec python3 installed.py'
    settings = {"installCmd": "cp server.py installed.py", "runCmd": run, "envs": {"KEY": "value"}}
    with with_gateway(repositories, api, echo=settings) as sandbox:
        assert sandbox.get_mcp_token()


def test_no_setting_is_in_a_process_list(repositories: str, api: Api) -> None:
    """Neither in the sandbox's nor in this machine's: settings may be secrets, and so is the token."""
    settings = {"runCmd": "python3 server.py", "envs": {"KEY": "canaryOfTheGateway"}}
    with with_gateway(repositories, api, echo=settings) as sandbox:
        lists = [
            sandbox.commands.run("cat /proc/[0-9]*/cmdline", user=user).stdout for user in ("user", "root")
        ]
        lists += [_read(file) for file in Path("/proc").glob("[0-9]*/cmdline")]
        assert sum("--config-fd" in one for one in lists) >= 2
        for secret in ("canaryOfTheGateway", str(sandbox.get_mcp_token())):
            assert not [one for one in lists if secret in one]


def _read(file: Path) -> str:
    """What a process was started with; nothing where it has ended meanwhile."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"runCmd": "echo no such luck >&2; exit 3"}, "github/me/echo did not start.*: no such luck"),
        ({"runCmd": "exit 3"}, r"github/me/echo did not start \(exit 3\): [^(]+$"),
        ({"installCmd": "echo broken >&2; exit 1", "runCmd": "true"}, "broken"),
        ({"installCmd": "true"}, "needs a runCmd"),
    ],
)
def test_a_server_that_cannot_start_fails_the_create(
    repositories: str, api: Api, settings: dict[str, str], words: str
) -> None:
    """create raises with the reason, and leaves no sandbox behind."""
    before = {
        one.sandbox_id for one in Sandbox.list(api_key=api["api_key"], api_url=api["api_url"]).next_items()
    }
    with pytest.raises(SandboxException, match=words):
        with_gateway(repositories, api, echo=settings)
    after = {
        one.sandbox_id for one in Sandbox.list(api_key=api["api_key"], api_url=api["api_url"]).next_items()
    }
    assert after <= before


@pytest.mark.slow
def test_one_that_cannot_be_fetched_says_so(api: Api) -> None:
    """In npm's words, and before the one who waits for the sandbox gives up."""
    with pytest.raises(SandboxException, match=r"(?s)memory did not start.*npm error.*registry.npmjs.org"):
        Sandbox.create(mcp={"memory": {}}, network={"deny_out": ["0.0.0.0/0"]}, **api)


def test_a_name_that_is_not_known_here_is_said(repositories: str, api: Api) -> None:
    """E2B's catalogue is large; what the local server lacks is refused with the way out."""
    with pytest.raises(SandboxException, match=r"'exa' is not known.*runCmd"):
        Sandbox.create(mcp={"exa": {"apiKey": "x"}}, **api)


def test_the_page_on_the_local_server_can_be_copied(
    repositories: str, api: Api, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its examples do what they say; the MCP server of one is this test's own, since there may be no network."""
    for name, value in (("API_KEY", server.api_key), ("API_URL", server.url), ("SANDBOX_URL", server.url)):
        monkeypatch.setenv(f"E2B_{name}", value)
    page = (Path(__file__).parents[2] / "docs" / "local-server.md").read_text(encoding="utf-8")
    hello, template, rules, gateway = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "Claude Code" in printed_by(hello)
    assert printed_by(template) == "hello\nhello\n\n"
    url = f"{server.url}/templates/site"
    assert httpx.delete(url, headers={"X-API-KEY": server.api_key}).status_code == 204
    printed_by(rules)
    own = '{"github/me/echo": {"runCmd": "python3 server.py"}}'
    gateway = gateway.replace('{"filesystem": {"paths": ["/home/user"]}}', f"{own}, envs={FROM_HERE}")
    assert own in gateway
    listed = 'print(sandbox.commands.run("claude mcp list").stdout)'
    assert "✔ Connected" in printed_by(gateway.replace('"claude"', f'"{repositories}"') + listed)


def printed_by(example: str) -> str:
    """Run an example as a program of its own would be run; what it prints. Its sandbox goes afterwards."""
    said = io.StringIO()
    names: dict[str, Any] = {"__name__": "__main__", "__file__": "example.py"}
    with contextlib.redirect_stdout(said):
        exec(compile(example, "example.py", "exec"), names)
    names["sandbox"].kill()
    return said.getvalue()
