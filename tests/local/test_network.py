"""What a sandbox can reach: the rules, and the only ways out."""

from __future__ import annotations

import asyncio
import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from e2b import Sandbox, SandboxException
from hypothesis import given
from hypothesis import strategies as st

from harness.local.boxes.box import Box
from harness.local.boxes.types import BoxError
from harness.local.network.policy import ALL_TRAFFIC, Injection, NetworkPolicy, NetworkPolicyError, Rule
from harness.local.network.splice import splice
from harness.local.network.upstream import connect
from harness.local.template import claude_template
from tests.support.boxes import isolation, read_until, run, tell
from tests.support.messages_api import MessagesApi, Say

NOTHING = NetworkPolicy(allow_internet_access=False)


def only(*rules: str) -> NetworkPolicy:
    return NetworkPolicy(allow_out=rules, deny_out=(ALL_TRAFFIC,))


class Page(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    def do_GET(self) -> None:
        body = f"{self.command} {self.path} connection={self.headers['Connection']}\n".encode()
        body += "".join(f"key={key}\n" for key in self.headers.get_all("X-Api-Key", [])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def web_server(authority: trustme.CA | None = None) -> Iterator[int]:
    """A server on this machine's loopback, speaking TLS if there is an authority for it; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


# --- the rules

PUBLIC, OTHER = "93.184.216.34", "8.8.8.8"


@pytest.mark.parametrize(
    ("policy", "host", "address", "port", "allowed"),
    [
        (NetworkPolicy(), "example.com", PUBLIC, 443, True),
        (NOTHING, "example.com", PUBLIC, 443, False),
        (NetworkPolicy(deny_out=(ALL_TRAFFIC,)), "example.com", PUBLIC, 443, False),
        (NetworkPolicy(deny_out=("8.8.8.0/24",)), "dns.google", OTHER, 53, False),
        (NetworkPolicy(deny_out=("8.8.8.0/24",)), "example.com", PUBLIC, 443, True),
        (NetworkPolicy(deny_out=("8.8.8.8:53",)), "dns.google", OTHER, 443, True),
        (only("example.com"), "example.com", PUBLIC, 443, True),
        (only("example.com"), "www.example.com", PUBLIC, 443, False),
        (only("example.com"), "EXAMPLE.COM.", PUBLIC, 443, True),
        (only("*.example.com"), "www.example.com", PUBLIC, 443, True),
        (only("*.example.com"), "example.com", PUBLIC, 443, False),
        (only("*.example.com"), "evilexample.com", PUBLIC, 443, False),
        (only("example.com:443"), "example.com", PUBLIC, 443, True),
        (only("example.com:443"), "example.com", PUBLIC, 80, False),
        (only("8.8.8.8"), "8.8.8.8", OTHER, 53, True),
        (only("8.8.0.0/16"), "dns.google", OTHER, 53, True),
        (only("8.8.8.8"), "93.184.216.34", PUBLIC, 80, False),
        (NetworkPolicy(allow_out=("8.8.8.8",), deny_out=("8.8.8.0/24",)), "dns.google", OTHER, 53, True),
        (
            NetworkPolicy(allow_internet_access=False, allow_out=("example.com",)),
            "example.com",
            PUBLIC,
            443,
            True,
        ),
        # this machine and its surroundings are not the internet
        (NetworkPolicy(), "localhost", "127.0.0.1", 80, False),
        (NetworkPolicy(), "router", "192.168.1.1", 80, False),
        (NetworkPolicy(), "metadata", "169.254.169.254", 80, False),
        (NetworkPolicy(), "mapped", "::ffff:127.0.0.1", 80, False),
        (NetworkPolicy(), "loopback6", "::1", 80, False),
        (NetworkPolicy(allow_out=(ALL_TRAFFIC,)), "localhost", "127.0.0.1", 80, False),
        (only("rebind.example.com"), "rebind.example.com", "127.0.0.1", 80, False),
        # a host that is named may be anywhere but on this machine
        (only("mirror.corp"), "mirror.corp", "10.1.2.3", 443, True),
        (only("mirror.corp"), "mirror.corp", "fd12::1", 443, True),
        (only("mirror.corp"), "mirror.corp", "64:ff9b::a01:203", 443, True),
        (only("mirror.corp"), "mirror.corp", "::ffff:127.0.0.1", 443, False),
        (only("mirror.corp"), "mirror.corp", "64:ff9b::7f00:1", 443, False),
        (only("mirror.corp"), "mirror.corp", "fe80::1", 443, False),
        (only("mirror.corp"), "mirror.corp", "169.254.169.254", 80, False),
        (only("mirror.corp"), "mirror.corp", "fd00:ec2::254", 80, False),
        (only("mirror.corp:443"), "mirror.corp", "10.1.2.3", 80, False),
        (only("*.corp"), "mirror.corp", "10.1.2.3", 443, False),
        (only("*"), "mirror.corp", "10.1.2.3", 443, False),
        (only("0.0.0.0/1"), "mirror.corp", "10.1.2.3", 443, False),
        (only("169.254.169.254"), "metadata", "169.254.169.254", 80, True),
        (only("169.254.0.0/16"), "metadata", "169.254.169.254", 80, False),
        (only("100.64.0.0/10"), "metadata", "100.100.100.200", 80, False),
        (only("::1"), "here", "::1", 80, True),
        (NetworkPolicy(deny_out=("8.8.8.0/24",)), "dns.google", "64:ff9b::808:808", 53, False),
        (only("10.0.0.0/8"), "inner", "10.1.2.3", 80, True),
        (only("127.0.0.1:8000"), "localhost", "127.0.0.1", 8000, True),
        (only("127.0.0.1:8000"), "localhost", "127.0.0.1", 8001, False),
    ],
)
def test_rules_mean_what_they_mean_on_e2b(
    policy: NetworkPolicy, host: str, address: str, port: int, allowed: bool
) -> None:
    """allow_out beats deny_out beats the default; addresses around this machine need a rule of their own."""
    permitted = policy.permitted(host, port, [ipaddress.ip_address(address)])
    assert bool(permitted) is allowed
    if allowed:
        assert policy.refusal(host, port) is None


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"allow_out": ("exa mple.com",)}, "exa mple.com"),
        ({"allow_out": ("10.0.0.0/40",)}, "10.0.0.0/40"),
        ({"allow_out": ("300.1.1.1",)}, "300.1.1.1"),
        ({"allow_out": ("1.1.1.1:99999",)}, "no such port"),
        ({"allow_out": ("example.com",)}, "deny_out must then hold '0.0.0.0/0'"),
        ({"deny_out": ("example.com",)}, "not domains"),
    ],
)
def test_rules_that_make_no_sense_are_refused(policy: dict[str, tuple[str, ...]], words: str) -> None:
    """The error names the rule, and says what would be right."""
    with pytest.raises(NetworkPolicyError, match=words):
        NetworkPolicy(**policy)


@given(st.text(max_size=30))
def test_any_text_is_a_rule_or_an_error(text: str) -> None:
    """No text breaks the parser, and what it takes keeps its text."""
    try:
        said = Rule.parse(text).text
    except NetworkPolicyError as error:
        said = str(error)
    assert said == text or repr(text.strip().lower()) in said or repr(text) in said


# --- the ways out


def test_nothing_is_reached_by_default() -> None:
    """Without a rule there is no route, and no port of this machine's; the proxy is there to say that and why."""

    async def story(box: Box) -> None:
        said = await run(box, "curl -sS -i http://pypi.org/; curl -sSv https://pypi.org/; true")
        assert said.stdout.startswith("HTTP/1.1 403 Refused by harness: pypi.org:80 is not in the sandbox's")
        assert "\nharness refused it: pypi.org:80 is not in the sandbox's allow_out\n" in said.stdout
        assert (
            "HTTP/1.1 403 Refused by harness: pypi.org:443 is not in the sandbox's allow_out" in said.stderr
        )
        with web_server() as port:
            output = await run(
                box, f"curl -sS http://127.0.0.1:{port}; curl --noproxy '*' -sS -m 5 http://{PUBLIC}"
            )
        assert "refused" in output.stderr or "Couldn't connect" in output.stderr
        assert output.exit_code != 0

    tell(story, isolation("namespaces"), network=NOTHING)


def test_a_port_of_this_machine_can_be_the_sandboxs_too() -> None:
    """127.0.0.1:PORT in allow_out opens that one, at the same place inside, and no other."""
    with web_server() as port, web_server() as closed:

        async def story(box: Box) -> None:
            assert (await run(box, f"curl -sS http://127.0.0.1:{port}/x")).stdout.startswith("GET /x ")
            assert (await run(box, f"curl -sS http://127.0.0.1:{closed}/x")).exit_code != 0

        tell(story, isolation("namespaces"), network=only(f"127.0.0.1:{port}"))


def test_rules_change_while_the_sandbox_runs() -> None:
    """A port is opened and closed again, and a connection through it is cut with it."""

    async def story(box: Box) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"welcome\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        await box.update_network(only(f"127.0.0.1:{port}"))
        client = await box.spawn(["/bin/bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}; cat <&3; echo cut"])
        assert await read_until(client, b"\n") == b"welcome\n"
        await box.update_network(NOTHING)
        assert await read_until(client, b"\n") == b"cut\n"
        assert (await run(box, f"exec 3<>/dev/tcp/127.0.0.1/{port}")).exit_code != 0
        server.close()

    tell(story, isolation("namespaces"), network=NOTHING)


def test_a_port_that_is_taken_inside_is_an_error() -> None:
    """The rule cannot be had, and the error says so."""

    async def story(box: Box) -> None:
        listening = "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
        script = f"import socket; {listening}; s.accept()"
        taken = await box.spawn(["python3", "-c", script])
        port = int(await read_until(taken, b"\n"))
        with pytest.raises(BoxError, match="Address already in use"):
            await box.update_network(only(f"127.0.0.1:{port}"))

    tell(story, isolation("namespaces"), network=NOTHING)


PROXY = "--noproxy '' -x $http_proxy -sS -m 20"


def test_the_proxy_lets_through_what_the_rules_allow() -> None:
    """Plain HTTP and tunnels both; programs find it by the usual variables."""
    with web_server() as port:

        async def story(box: Box) -> None:
            names = (await run(box, "env | grep -io '^[a-z_]*proxy=' | sort")).stdout.split()
            assert {name.lower() for name in names} >= {"http_proxy=", "https_proxy=", "no_proxy="}
            plain = await run(box, f"curl {PROXY} http://127.0.0.1:{port}/a?b=c")
            assert plain.stdout == "GET /a?b=c connection=close\n"
            tunnel = await run(box, f"curl {PROXY} --proxytunnel http://127.0.0.1:{port}/t")
            assert tunnel.stdout.startswith("GET /t ")

        tell(story, isolation("namespaces"), network=only("127.0.0.0/8"))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0"]
)
def test_the_proxy_is_no_way_into_this_machine(host: str) -> None:
    """Whatever it is called, this machine is refused with a reason, also where all of the internet is allowed."""
    with web_server() as port:

        async def story(box: Box) -> None:
            plain = await run(box, f"curl {PROXY} -w '%{{http_code}}' http://{host}:{port}/")
            assert plain.stdout.endswith("403")
            assert "not allowed by the sandbox's network rules" in plain.stdout
            tunnel = await run(box, f"curl {PROXY} --proxytunnel http://{host}:{port}/")
            assert "403" in tunnel.stderr

        tell(story, isolation("namespaces"), network=NetworkPolicy())


def test_a_name_that_leads_here_is_no_way_in() -> None:
    """A rule for a name allows the name's public addresses, not the loopback that it resolves to."""
    with web_server() as port:

        async def story(box: Box) -> None:
            output = await run(box, f"curl {PROXY} http://localhost:{port}/")
            assert "localhost" in output.stdout
            assert "not allowed" in output.stdout

        tell(story, isolation("namespaces"), network=only("*"))


class Rebinding(asyncio.SelectorEventLoop):
    """A name's address is 127.0.0.2 when it is asked for the first time, and 127.0.0.1 from then on."""

    asked = 0

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """Look up a name."""
        self.asked += 1
        address = "127.0.0.2" if self.asked == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


def test_a_name_that_leads_elsewhere_the_next_time_is_no_way_in() -> None:
    """It is looked up once, and what is connected to is the address that was checked."""

    async def story() -> str:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", 0)
        port = server.sockets[0].getsockname()[1]
        with socket.create_server(("127.0.0.1", port)):
            upstream = await connect(
                only("rebind.example", "127.0.0.2"), "rebind.example", port, plain=False, certificates=b""
            )
            upstream.stream[1].close()
        server.close()
        return str(upstream.stream[1].get_extra_info("peername")[0])

    with asyncio.Runner(loop_factory=Rebinding) as runner:
        assert runner.run(story()) == "127.0.0.2"


def test_what_is_not_listed_is_not_even_looked_up() -> None:
    """The refusal names the host and the list it is missing from."""

    async def story(box: Box) -> None:
        output = await run(box, f"curl {PROXY} http://other.example/")
        assert output.stdout == "harness refused it: other.example:80 is not in the sandbox's allow_out\n"
        assert (box.egress_report() or {})["refused"] == [
            {
                "target": "other.example:80",
                "reason": "other.example:80 is not in the sandbox's allow_out",
                "count": 1,
                "by_rules": True,
            }
        ]

    tell(story, isolation("namespaces"), network=only("example.com"))


@pytest.mark.parametrize(
    "request_line",
    [
        "GET / HTTP/1.1",
        "CONNECT nowhere HTTP/1.1",
        "nonsense",
        "GET https://x/ HTTP/1.1",
        "CONNECT h:99999 HTTP/1.1",
    ],
)
def test_what_is_no_proxy_request_is_refused(request_line: str) -> None:
    """With a status that says so, and the proxy goes on."""

    async def story(box: Box) -> None:
        talk = f"exec 3<>/dev/tcp/${{http_proxy#http://}}; printf '{request_line}\\r\\n\\r\\n' >&3; cat <&3"
        talk = talk.replace("${http_proxy#http://}", "127.0.0.1/${http_proxy##*:}")
        for _ in range(2):
            assert (await run(box, talk)).stdout.startswith("HTTP/1.1 400 Bad Request\r\n")

    tell(story, isolation("namespaces"), network=NetworkPolicy())


def test_tiers_without_a_network_of_their_own_say_so() -> None:
    """They reach what this machine reaches; rules change nothing, and break nothing."""
    landlock = isolation("landlock")
    assert "network" not in landlock.enforces
    with web_server() as port:

        async def story(box: Box) -> None:
            await box.update_network(only(f"127.0.0.1:{port}"))
            assert (await run(box, f"curl --noproxy '*' -sS http://127.0.0.1:{port}/x")).stdout.startswith(
                "GET /x"
            )

        tell(story, landlock, network=NOTHING)


# --- changed requests

KEY = (("X-Api-Key", "secret"),)


def injecting(origin: str, *rules: str) -> NetworkPolicy:
    """Only what the rules allow, and requests to this origin get a key."""
    return NetworkPolicy(allow_out=rules, deny_out=(ALL_TRAFFIC,), injections=(Injection(origin, KEY),))


def test_a_key_is_added_to_requests_and_never_in_the_sandbox() -> None:
    """Plain HTTP through the proxy, and to a port of this machine: each request has the key, in place of any
    that the sandbox sent; other hosts' requests have none; and nothing inside knows it."""
    with web_server() as port:

        async def story(box: Box) -> None:
            for url in (f"{PROXY} http://127.0.0.1:{port}/a", f"--noproxy '*' -sS http://127.0.0.1:{port}/a"):
                for own in ("", "-H 'x-api-key: mine' -H 'X-API-KEY: other'"):
                    assert (await run(box, f"curl {own} {url}")).stdout.endswith("key=secret\n")
            other = await run(box, f"curl {PROXY} http://127.0.0.2:{port}/a")
            assert "key=" not in other.stdout
            assert "secret" not in (await run(box, "env; cat /proc/*/environ /proc/*/cmdline")).stdout

        policy = injecting("127.0.0.1", f"127.0.0.1:{port}", "127.0.0.0/8")
        tell(story, isolation("namespaces"), network=policy)


def test_a_key_is_added_to_requests_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy opens TLS connections to the host alone, by an authority that curl, Python and Node trust inside; it
    verifies the host itself; and other hosts' connections pass unopened."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    async def story(box: Box) -> None:
        shown = await run(box, f"curl {PROXY} https://127.0.0.1:{port}/a https://127.0.0.1:{port}/b")
        assert [line.split()[1] for line in shown.stdout.splitlines() if "GET" in line] == ["/a", "/b"]
        assert shown.stdout.count("key=secret") == 2
        python = f"print(urllib.request.urlopen('https://127.0.0.1:{port}/').read().decode())"
        by_python = await run(box, f'no_proxy= NO_PROXY= python3 -c "import urllib.request; {python}"')
        assert "key=secret" in by_python.stdout, by_python.stderr
        other = await run(box, f"curl {PROXY} -k https://localhost:{port}/")
        assert "GET /" in other.stdout
        assert "key=" not in other.stdout
        await box.update_network(injecting(f"https://127.0.0.1:{untrusted}", "127.0.0.0/8"))
        wrong = await run(box, f"curl {PROXY} https://127.0.0.1:{untrusted}/")
        assert "127.0.0.1 is not trusted" in wrong.stdout

    with web_server(authority) as port, web_server(stranger) as untrusted:
        policy = injecting(f"https://127.0.0.1:{port}", "127.0.0.0/8", "localhost")
        tell(story, isolation("namespaces"), network=policy)


def test_rules_for_requests_can_come_and_go() -> None:
    """An update takes the key away, or gives another one, at once."""
    with web_server() as port:

        async def story(box: Box) -> None:
            request = f"curl {PROXY} http://127.0.0.1:{port}/a"
            assert "key=" not in (await run(box, request)).stdout
            await box.update_network(injecting(f"http://127.0.0.1:{port}", "127.0.0.0/8"))
            assert "key=secret" in (await run(box, request)).stdout
            await box.update_network(only("127.0.0.0/8"))
            assert "key=" not in (await run(box, request)).stdout

        tell(story, isolation("namespaces"), network=only("127.0.0.0/8"))


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("exa mple", ()),
        ("a.com", (("na me", "v"),)),
        ("a.com", (("name", "v\r\nx: y"),)),
        ("a.com", (("", "v"),)),
    ],
)
def test_changes_that_make_no_sense_are_refused(host: str, headers: tuple[tuple[str, str], ...]) -> None:
    """Nothing can be smuggled into a request by way of a header."""
    with pytest.raises(NetworkPolicyError):
        NetworkPolicy(injections=(Injection(host, headers),))


def test_a_tier_that_cannot_change_requests_says_so() -> None:
    """A key that would silently not be sent is an error."""

    async def story(box: Box) -> None:
        with pytest.raises(BoxError, match="landlock tier"):
            await box.update_network(injecting("a.com", "a.com"))

    tell(story, isolation("landlock"), network=NOTHING)


def test_the_sdks_rules_are_understood(api: dict[str, str]) -> None:
    """`network={"rules": ...}` at create and in update_network; what makes no sense, or is not on this server, is
    refused."""
    with web_server() as port:
        rules = {"127.0.0.1": [{"transform": {"headers": {"X-Api-Key": "secret"}}}]}
        network = {"allow_out": [f"127.0.0.1:{port}"], "deny_out": [ALL_TRAFFIC], "rules": rules}
        with Sandbox.create(network=network, **api) as sandbox:
            fetch = f"curl -sS http://127.0.0.1:{port}/"
            assert "key=secret" in sandbox.commands.run(fetch).stdout
            sandbox.update_network({**network, "rules": {}})
            assert "key=" not in sandbox.commands.run(fetch).stdout
            for value in ("a\nb", "Bearer ${e2b.identity.tokens.aws}"):
                bad = {"a.com": [{"transform": {"headers": {"n": value}}}]}
                with pytest.raises(SandboxException):
                    sandbox.update_network({"rules": bad})


def test_claude_code_works_with_a_key_that_it_does_not_have(api: dict[str, str]) -> None:
    """The real Claude Code, given a placeholder, talks to a model's API that takes the true key alone."""
    with MessagesApi([Say("done as told")], keys=["sk-ant-true"]) as model:
        rules = {"127.0.0.1": [{"transform": {"headers": {"x-api-key": "sk-ant-true"}}}]}
        network = {"allow_out": [f"127.0.0.1:{model.port}"], "deny_out": [ALL_TRAFFIC], "rules": rules}
        env = {**model.env("placeholder"), "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        with Sandbox.create("claude", network=network, envs=env, **api) as sandbox:
            said = sandbox.commands.run("claude -p 'Do it.' < /dev/null")
            assert said.stdout == "done as told\n"
            assert (
                "sk-ant-true"
                not in sandbox.commands.run("env; cat /proc/*/environ 2> /dev/null; true").stdout
            )


def test_claude_code_trusts_the_proxy_that_adds_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same over TLS: the real Claude Code reaches its API through the proxy, which opens the connection."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def story(box: Box) -> None:
        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await splice((reader, writer), await asyncio.open_connection("127.0.0.1", model.port))

        async with await asyncio.start_server(pass_on, sock=listener, ssl=context):
            env = {"ANTHROPIC_BASE_URL": f"https://localhost:{tls_port}", "ANTHROPIC_API_KEY": "placeholder"}
            env |= {"NO_PROXY": "", "no_proxy": "", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
            said = await run(box, "claude -p 'Do it.' < /dev/null", env=env)
            assert (said.stdout, said.stderr) == ("done as told\n", "")

    listener = socket.create_server(("127.0.0.1", 0))
    tls_port = listener.getsockname()[1]
    with MessagesApi([Say("done as told")], keys=["sk-ant-true"]) as model:
        policy = NetworkPolicy(
            allow_out=("localhost", "127.0.0.0/8"),
            deny_out=(ALL_TRAFFIC,),
            injections=(Injection(f"https://localhost:{tls_port}", (("x-api-key", "sk-ant-true"),)),),
        )
        tell(story, isolation("namespaces"), network=policy, template=claude_template())


# --- the rules' edges


@pytest.mark.parametrize(
    "text", ["300.1.1.1", "1.2.3", "10.0.0.0/40", "1.2.3.4.5:80", "", "*.", "a..b", "a_b c"]
)
def test_what_is_neither_an_address_nor_a_name_is_refused_as_such(text: str) -> None:
    """Not as a name that needs another list: digits and dots alone would be a host that nobody has."""
    with pytest.raises(
        NetworkPolicyError, match=r"invalid network rule .*: give an address, a CIDR block, a host"
    ):
        NetworkPolicy(allow_out=(text,), deny_out=(ALL_TRAFFIC,))


@pytest.mark.parametrize(("port", "is_one"), [(0, False), (1, True), (65535, True), (65536, False)])
def test_a_rules_port_is_one_that_there_is(port: int, is_one: bool) -> None:
    """From 1 to 65535, of names and addresses alike."""
    for host in ("example.com", "8.8.8.8", "[2001:db8::1]"):
        if is_one:
            assert Rule.parse(f"{host}:{port}").port == port
        else:
            with pytest.raises(NetworkPolicyError, match="no such port"):
                Rule.parse(f"{host}:{port}")


def test_a_host_is_refused_before_it_is_looked_up_when_no_rule_can_open_it() -> None:
    """A rule for addresses leaves it to what the name leads to; a rule for other names or ports does not."""
    assert only("example.com:443").refusal("example.com", 443) is None
    for port, host in ((80, "example.com"), (443, "other.com")):
        said = only("example.com:443").refusal(host, port)
        assert said == f"{host}:{port} is not in the sandbox's allow_out"
    assert only("8.8.8.8").refusal("dns.google", 53) is None
    assert NetworkPolicy().refusal("example.com", 80) is None
    assert NOTHING.refusal("example.com", 80) is not None


def test_only_a_rule_for_addresses_of_one_place_opens_this_machines_surroundings() -> None:
    """A multicast address is no more the internet than a private one."""
    for address in ("224.0.0.1", "10.0.0.1", "ff02::1"):
        assert not NetworkPolicy(allow_out=(ALL_TRAFFIC,)).permitted("x", 80, [ipaddress.ip_address(address)])
        assert only(address).permitted("x", 80, [ipaddress.ip_address(address)])


def test_what_reaches_out_is_told_from_a_port_of_this_machine() -> None:
    """Only 127.0.0.1 or localhost with a port is one."""
    assert only("127.0.0.1:8000", "localhost:9000").loopback_ports == {8000, 9000}
    assert not only("127.0.0.1:8000", "localhost:9000").can_reach_out
    assert only("127.0.0.1:8000", "8.8.8.8").can_reach_out
    assert only("8.8.8.8:53", "127.0.0.1").loopback_ports == frozenset()
    assert NetworkPolicy().can_reach_out
    assert not NOTHING.can_reach_out
