"""Secrets that enter a run wherever they can are in nothing that it writes or prints, also decoded."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import re
import subprocess
import sys
import tarfile
import textwrap
import threading
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from harness.local.launch import LocalServer
from harness.runs.kept import sweep
from tests.support import mcp_echo, mcp_http
from tests.support.folders import task_folder, write_files
from tests.support.messages_api import MessagesApi, Say, Use

SECRET = 'canary-Zx81/+Qk"<7&>mPdW93%41é(sL.q)[v]*→$|\\w9Tk'
MODEL_KEY = "sk-ant-api03-canaryModelKeyR7tYu2Wq"
PEM = "-----BEGIN KEY-----\nQ2FuYXJ5TGluZU9uZQxyz123\nQ2FuYXJ5TGluZVR3bwabc456\n-----END KEY-----"
NAME_SAFE = "canaryNameSafeB6hJ4kL9"
VARIANTS_OWN = {"TOKEN": SECRET, "PEM": PEM, "PLAIN": NAME_SAFE}
"""What the variant refers to."""
OF_THE_MACHINE = {
    "ANTHROPIC_API_KEY": MODEL_KEY,
    "E2B_ACCESS_TOKEN": "sk_e2b_canaryAccessT9mXcV",
    "HF_TOKEN": NAME_SAFE[:17],
    "GIT_CANARY": "ghp_canaryGitToken7BnMqRtY",
    "HTTPS_PROXY": "http://me:canaryProxy%2FPass5DfG@proxy.example:8080",
    "HARNESS_REGISTRY_AUTH": "registry.example=me:canaryRegistry3HjLk",
}
"""What lets this machine in elsewhere; the password of each is what nobody may see."""
SECRETS = {
    **VARIANTS_OWN,
    **OF_THE_MACHINE,
    "HTTPS_PROXY": "canaryProxy/Pass5DfG",
    "HARNESS_REGISTRY_AUTH": "canaryRegistry3HjLk",
}

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)),
    "base64": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "base64, a byte on": lambda value: base64.b64encode(f"user::{value}".encode()).decode(),
    "base64, in lines": lambda value: base64.encodebytes(f"{'x' * 37}{value}{'y' * 50}".encode()).decode(),
    "URL": lambda value: urllib.parse.quote(value, safe=""),
    "HTML": html.escape,
    "repr": repr,
    "numbered": lambda value: "\n".join(f"{n:6}→{line}" for n, line in enumerate(value.splitlines(), 1)),
    "indented": lambda value: textwrap.indent(value, "        "),
}
ALL_FORMS = "\n".join(f"{name}: {form(value)}" for value in SECRETS.values() for name, form in FORMS.items())

PLACES = {
    "variant env": "[v.env]",
    "variant mcp env": "mcp.s.env",
    "variant mcp args": "mcp.s.args",
    "variant mcp headers": "mcp.h.headers",
    "answer of an MCP server on HTTP": "mcp__h__say",
    "settings": "apiKeyHelper",
    "stdout of a hook": "SessionStart",
    "stderr of a hook": "PreToolUse",
    "description of a plugin's skill": "SKILL.md",
    "hook of a plugin": "hooks.json",
    "stderr of Claude Code": "--debug-to-stderr",
    "environment of the sandbox": "[sandbox]",
    "agent's tool output, cut by Claude Code": "cut.txt",
    "agent's message in its pieces": "--include-partial-messages",
    "environment of the agent's commands": "env",
    "agent's message": "Say",
    "agent's tool input": "tar",
    "agent's tool output": "cat",
    "agent's file as it reads it": "Read",
    "MCP server's answer": "mcp__s__say",
    "model key": "ANTHROPIC_API_KEY",
    "E2B's own key": "E2B_API_KEY",
    "E2B's access token": "E2B_ACCESS_TOKEN",
    "token of the Hub": "HF_TOKEN",
    "token for git": "GIT_CANARY",
    "password of a proxy": "HTTPS_PROXY",
    "password of a registry": "HARNESS_REGISTRY_AUTH",
    "setup output": "setup",
    "prepare output": "prepare",
    "check output": "checks/out",
    "check stderr": "checks/err",
    "check output, cut": "checks/long",
    "JUnit of a check": "checks/junit",
    "new text file": "new.txt",
    "changed text file": "question.txt",
    "new binary file": "new.bin",
    "changed binary file": "old.bin",
    "new file's name": "name",
    "link's target": "link",
    "locals with -l": "locals",
    "assertion's values": "assert",
    "captured stdout": "print",
    "captured stderr": "stderr",
    "captured log": "logging",
    "warning": "warnings",
    "exception's message": "raise",
    "command's output in a test": "sandbox.run",
    "property in junit's XML": "record_property",
    "reason of a skip": "pytest.skip",
    "module that raises when it is imported": "test_broken",
    "its locals, and what it prints": "print(value)",
    "reason of an expected failure": "pytest.xfail",
}
"""What a secret is in, and where. `[setup]` and `prepare` have it, and show nothing when all goes well: for those the
search alone speaks."""

VARIANTS = """
[v]
env = { A = "${env:TOKEN}", B = "${env:PEM}", C = "${env:PLAIN}" }
mcp.s = { command = "python3", args = ["/home/user/repo/echo.py", "--key", "${env:TOKEN}"], env = { K = "${env:PEM}" } }
"""

TESTS = """
import logging, os, sys, warnings
import pytest

SECRETS = [os.environ[name] for name in NAMES]

def test_says(sandbox, record_property):
    secret = SECRETS[0]
    padded = "x" * 90 + secret + "y" * 300
    cut_in_it = ["z" * 112 + value + "w" * 300 for value in SECRETS]
    nested = {"deep": [{"deeper": value} for value in SECRETS]}
    for value in SECRETS:
        record_property("key", value)
        print(value, repr(value), "\\x1b]0;title\\x07\\u202e")
        print(value, file=sys.stderr)
        logging.warning("it is %s", value)
        warnings.warn("do not use " + value + "\\x1b[31m")
    said = sandbox.run("printf %s '" + SECRETS[1] + "'")
    assert said.stdout == padded

def test_raises(sandbox):
    raise ValueError("no entry with " + " and ".join(SECRETS))

def test_skips():
    pytest.skip("not with " + " or ".join(SECRETS))

def test_fails_as_expected():
    pytest.xfail("not with " + " or ".join(SECRETS))
"""


BROKEN = """
import os
value = " ".join(os.environ[name] for name in NAMES)
print(value)
raise ValueError(value)
"""
"""It is collected before any task is: what the variants hide has to be known by then. A task's own token is not."""


def solution() -> dict[str, bytes]:
    """What the agent leaves."""
    noise = bytes(range(256)) * 8
    return {
        "answer.txt": b"42\n",
        "question.txt": f"6 x 7?\n{ALL_FORMS}\n".encode(),
        "new.txt": ALL_FORMS.encode(),
        "new.bin": noise + SECRET.encode() + noise,
        "old.bin": noise + b"\0" + PEM.encode(),
        f"for-{NAME_SAFE}.txt": b"named\n",
    }


def packed() -> str:
    """The solution as a tar in base64, as an agent could carry it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in solution().items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return base64.b64encode(data.getvalue()).decode()


def script() -> list[object]:
    """What the agent does: with its own words, by its tools, and by the variant's server."""
    link = f"ln -s for-{NAME_SAFE}.txt link"
    return [
        Use("Bash", {"command": f"echo {packed()} | base64 -d | tar x && {link}"}, text=ALL_FORMS),
        Use("Bash", {"command": "env; cat new.txt; cat new.txt >&2"}),
        Use("Read", {"file_path": "/home/user/repo/new.txt"}),
        Use("Bash", {"command": "python3 cut.py"}),
        Use("mcp__s__say", {"text": ALL_FORMS}),
        Use("mcp__h__say", {"text": ALL_FORMS}),
        Say(ALL_FORMS),
    ]


def checks() -> dict[str, str]:
    told = f"cat <<'EOF'\n{ALL_FORMS}\nEOF\n"
    steer = "printf 'a\\033]0;title\\007\\033[2Jb\\342\\200\\256c\\n'\n"
    many = f"python3 - <<'EOF'\nfor n in range(40):\n    print('p' * n * 7 + {SECRET!r} * 99)\nEOF\n"
    failing = f"def test(self): self.fail({ALL_FORMS!r})"
    junit = f"import unittest\nclass T(unittest.TestCase):\n    {failing}\n"
    return {
        "out.sh": f"#!/bin/sh\n{told}exit 1\n",
        "err.sh": f"#!/bin/sh\nexec >&2\n{told}exit 1\n",
        "steer.sh": f"#!/bin/sh\n{steer}exit 1\n",
        "long.sh": f"#!/bin/sh\n{many}exit 1\n",
        "tests/test_junit.py": junit,
    }


CUT = """
import os
for name in "ABC":
    for line in os.environ[name].splitlines():
        print("z" * 1990 + line + "w" * 40_000)
"""
"""More than Claude Code shows to its model: it cuts."""
MORE = """
args = ["--debug-to-stderr", "--include-partial-messages"]
plugins = ["plugin"]
network = ["HTTP"]
mcp.h = { url = "http://HTTP/mcp", headers = { Authorization = "Bearer ${env:PLAIN}" } }
"""
TELLS = {"hooks": [{"type": "command", "command": "env; env >&2; cat ~/repo/new.txt; exit 0"}]}
"""A hook that says all that it sees."""


def settings() -> str:
    """Those of the variant, whose author has written a secret out."""
    hooks = '{ SessionStart = [{ hooks = [{ type = "command", command = "env" }] }] }'
    return f"settings = {{ apiKeyHelper = {json.dumps(f'echo {NAME_SAFE}')}, hooks = {hooks} }}\n"


def plant(pytester: pytest.Pytester, url: str, mcp: str) -> None:
    """Put the secrets into every place."""
    told = f"cat <<'EOF'\n{ALL_FORMS}\nEOF"
    tests = '[checks.tests.junit]\nrunner = "unittest"\npaths = ["tests"]\nat_least = 1\n'
    sandbox = f"[sandbox]\nenv = {{ LITERAL = {json.dumps(SECRET)} }}\n"
    toml = f"{sandbox}[setup]\nrun = [{json.dumps(told)}]\n[checks]\nprepare = {json.dumps(told)}\n{tests}"
    repo: Mapping[str, str | bytes] = {
        "question.txt": "6 x 7?\n",
        "old.bin": bytes(range(256)) * 8,
        "cut.py": CUT,
        "echo.py": Path(mcp_echo.__file__).read_bytes(),
    }
    task_folder(pytester.path / "tasks", toml=toml, repo=repo, checks=checks(), solution={})
    cloned = f'[repo]\ngit = "{url}/canary.git"\ntoken_env = "GIT_CANARY"\n'
    task_folder(pytester.path / "tasks", "cloned", toml=cloned, repo={})
    names = [*VARIANTS_OWN, *OF_THE_MACHINE, "E2B_API_KEY"]
    write_files(
        pytester.path,
        {
            "tasks/variants.toml": VARIANTS + MORE.replace("HTTP", mcp) + settings(),
            "tasks/plugin/.claude-plugin/plugin.json": '{"name": "plug"}',
            "tasks/plugin/skills/own/SKILL.md": f"---\ndescription: {json.dumps(ALL_FORMS)}\n---\nSay hello.\n",
            "tasks/plugin/hooks/hooks.json": json.dumps({"hooks": {"UserPromptSubmit": [TELLS]}}),
            "tasks/aa/test_broken.py": BROKEN.replace(
                "NAMES", repr([name for name in names if name != "GIT_CANARY"])
            ),
            "tasks/test_own.py": TESTS.replace("NAMES", repr(names)),
        },
    )


def outputs(pytester: pytest.Pytester, *more: str) -> Iterator[tuple[str, bytes]]:
    """What the run printed and wrote, and what the commands print of it."""
    options = (
        "-l",
        "-v",
        "-rA",
        "--color=yes",
        "--junitxml=junit.xml",
        "-ojunit_family=xunit1",
        "--keep=failed",
        "--keep-work=all",
        "--tb=long",
        "--continue-on-collection-errors",
        *more,
    )
    run = pytester.runpytest_subprocess("tasks", *options)
    yield "terminal", "\n".join([*run.outlines, *run.errlines]).encode()
    # What cannot be collected each worker tells.
    errors = 3 if "-n2" in more else 2
    run.assert_outcomes(failed=3, errors=errors, skipped=1, xfailed=1, warnings=len(SECRETS) + 1)
    yield "junit.xml", (pytester.path / "junit.xml").read_bytes()
    (pytester.path / "shown").mkdir()
    (run_id,) = [path.parent.name for path in (pytester.path / "results").glob("*/run.json")]
    for command in COMMANDS:
        arguments = [run_id if word == "RUN" else word for word in command]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, check=False, timeout=60
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode in (0, 1) or command[0] in REFUSING, done.stderr.decode()
        yield f"harness {' '.join(arguments)}", done.stdout + done.stderr
    for folder in ("results", "shown"):
        for file in sorted((pytester.path / folder).rglob("*")):
            yield (
                f"{file.relative_to(pytester.path)} (its name)",
                str(file.relative_to(pytester.path)).encode(),
            )
            if file.is_file():
                yield str(file.relative_to(pytester.path)), file.read_bytes()


PROGRAM = "from harness.cli import program; program()"
COMMANDS = (
    ["ls"],
    ["show"],
    ["show", "answer[v-t1]"],
    ["show", "answer[v-t1]", "--full"],
    ["show", "answer[v-t1]", "--follow"],
    ["show", "answer[v-t1]", "--json"],
    ["checks", "answer[v-t1]"],
    ["verify"],
    ["watch"],
    ["report", "--output", "shown/report.html"],
    ["export", "--to", "shown/records.csv"],
    ["verify", "--json"],
    ["regrade", "RUN", "tasks/answer", "--sandbox", "local"],
    ["compare", "RUN", "--format", "markdown"],
    ["compare", "RUN", "--format", "json"],
    ["compare", "RUN", "results"],
    ["merge", "results", "--into", "merged"],
)
REFUSING = ("compare", "merge", "regrade")
"""There is one variant, and work with a secret in it is not kept: they say so."""

ALL = tuple(SECRETS)
SHOWN = {
    "terminal": (*ALL, "E2B_API_KEY"),
    "junit.xml": (*ALL, "E2B_API_KEY"),
    "transcript.jsonl": ALL,
    "diff.patch": ALL,
    "checks/out": ALL,
    "checks/err": ALL,
    "checks/long": ("TOKEN",),
    "checks/junit": ALL,
    "--full": ALL,
    "--follow": ALL,
    "--json": ALL,
    "stderr.txt": tuple(VARIANTS_OWN),
    "harness checks": ("HF_TOKEN", "GIT_CANARY"),
    "report.html": ALL,
    "records.jsonl": ALL,
}
"""Where secrets have arrived, and are only names by now: else nothing would be shown."""


def readings(data: bytes) -> Iterator[bytes]:
    """The data, and what it says once it is unpacked or decoded."""
    packed = [base64.b64decode(found) for found in re.findall(rb"H4sI[A-Za-z0-9+/]+=*", data)]
    packed += [data] if data.startswith(b"\x1f\x8b") else []
    for each in (data, *(zlib.decompress(part, 31) for part in packed)):
        yield each
        text = each.decode("utf-8", "replace")
        yield urllib.parse.unquote_plus(text).encode("utf-8", "replace")
        yield html.unescape(text).encode("utf-8", "replace")
        yield re.sub(r"\\+", "", text).encode("utf-8", "replace")
        # Base64 may be broken into lines.
        yield re.sub(r"\s|\\n", "", text).encode("utf-8", "replace")


def needles(secrets: Mapping[str, str]) -> dict[bytes, str]:
    """The pieces of each secret that nothing may have, as they are and in base64."""
    found: dict[bytes, str] = {}
    for name, secret in secrets.items():
        lines = [line for line in secret.splitlines() if not line.startswith("-----")]
        for line in lines:
            for at in range(len(line) - 9):
                piece = line[at : at + 10]
                found[piece.encode()] = name
            for before in range(3):
                core = base64.b64encode(bytes(before) + line.encode())[4:-4]
                found[core] = f"{name} in base64"
    for common in ("sk-ant-api", "k-ant-api0", "-ant-api03"):
        found.pop(common.encode(), None)
    return found


@pytest.fixture
def _swept(as_e2b: LocalServer) -> Iterator[None]:
    yield
    sweep(None, kept=True, dry_run=False)


@pytest.mark.slow
@pytest.mark.usefixtures("_swept")
@pytest.mark.parametrize("way", [(), ("-n2", "--dist=loadfile")])
def test_no_secret_is_in_what_a_run_writes_or_prints(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_e2b: LocalServer,
    way: tuple[str, ...],
) -> None:
    for name, value in {**VARIANTS_OWN, **OF_THE_MACHINE, "NO_PROXY": "*", "no_proxy": "*"}.items():
        monkeypatch.setenv(name, value)
    secrets = {**SECRETS, "E2B_API_KEY": as_e2b.api_key}
    looked_for, leaks, steering = needles(secrets), [], []
    seen: dict[str, bytes] = {}
    with MessagesApi(script()) as api, mcp_http.served(NAME_SAFE) as mcp:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        plant(pytester, api.url, mcp)
        for where, data in outputs(pytester, "--model-source=api", "--model-key=sandbox", *way):
            readable = [*readings(data)]
            seen[where] = b"\n".join(readable)
            leaks += [
                f"{what} in {where}: {needle.decode()}"
                for needle, what in looked_for.items()
                if any(needle in reading for reading in readable)
            ]
            if not where.startswith(("results", "shown")) and (
                b"\x1b]0;" in data or "\u202e".encode() in data
            ):
                steering.append(where)
    with capsys.disabled():
        sys.stdout.write(
            f"\ncanaries: {len(PLACES)} places, {len(FORMS)} forms, {len(secrets)} secrets; "
            f"{len(seen)} outputs searched, {len(leaks)} found\n"
        )
    assert not leaks, "\n".join(leaks[:40])
    assert steering in ([], ["junit.xml"])
    for part, names in SHOWN.items():
        data = b"".join(data for where, data in seen.items() if part in where)
        missing = [name for name in names if f"[redacted:{name}".encode() not in data]
        assert not missing, f"{part} was not reached by {missing}"
    notes = seen[next(where for where in seen if where.endswith("records.jsonl"))]
    assert len(set(re.findall(rb"(\w+\.bin) is left out of the diff: it holds a secret", notes))) == 2


LOOK = """
import os, pathlib, time
def lists():
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes()
        except OSError:
            pass
found = list(lists())
claude = sum(b"--mcp-config" in one for one in found)
secret = sum(os.environ[name].encode() in one for name in ("B", "C") for one in found)
print(f"{claude} processes of Claude Code, {secret} with a secret")
"""


LIVE = (["watch"], ["show", "answer[v-t1]", "--follow"])


def live(results: Path, watching: list[subprocess.Popen[bytes]], told: set[bytes]) -> None:
    """Look at a run that goes on: its files, and what the commands say that follow it."""
    if not watching and next(results.glob("*/trials/answer/*/transcript.jsonl"), None):
        watching += [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            for command in LIVE
        ]
    for file in results.glob("*/status.json"):
        with contextlib.suppress(FileNotFoundError):
            told.add(file.read_bytes())


@pytest.mark.usefixtures("as_e2b")
def test_no_secret_is_to_be_seen_while_the_agent_works(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the process lists of its sandbox and of this machine, but an MCP server's own arguments; nor by followers."""
    for name, value in {**VARIANTS_OWN, **OF_THE_MACHINE, "NO_PROXY": "*", "no_proxy": "*"}.items():
        monkeypatch.setenv(name, value)
    repo = {"echo.py": Path(mcp_echo.__file__).read_bytes(), "look.py": LOOK, "question.txt": "?"}
    task_folder(pytester.path / "tasks", repo=repo)
    write_files(pytester.path, {"tasks/variants.toml": VARIANTS.replace("A =", "SECOND =")})
    found: set[bytes] = set()
    watching: list[subprocess.Popen[bytes]] = []
    told: set[bytes] = set()
    ended = threading.Event()
    hidden = {name: value.splitlines()[-2:][0].encode() for name, value in SECRETS.items() if name != "TOKEN"}

    def look() -> None:
        while not ended.wait(0.02):
            live(pytester.path / "results", watching, told)
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    found.update(file.read_bytes().split(b"\0"))
                except OSError:
                    continue

    says = Use("Bash", {"command": "env"}, text=ALL_FORMS)
    with MessagesApi([says, Use("Bash", {"command": "python3 look.py"}), Say(ALL_FORMS)]) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        looking = threading.Thread(target=look)
        looking.start()
        try:
            pytester.runpytest_subprocess("tasks", "--model-source=api", "--model-key=sandbox")
        finally:
            ended.set()
            looking.join()
        results = [result["content"] for request in api.requests for result in request.tool_results]
    said = next(each for each in results if "processes of Claude Code" in str(each))
    assert re.search("[1-9] processes of Claude Code, 0 with a secret", str(said)), said
    assert not [name for name, value in hidden.items() if any(value in argument for argument in found)]
    assert b"/home/user/repo/echo.py" in found
    followed = [process.communicate(timeout=60)[0] for process in watching]
    assert len(followed) == 2
    assert b"[redacted:TOKEN]" in followed[1]
    assert b"answer[v-t1]" in b"".join(told)
    seen = b"\n".join(reading for data in (*followed, *told) for reading in readings(data))
    # No task here names a token for git.
    named = {name: value for name, value in SECRETS.items() if name != "GIT_CANARY"}
    assert not [what for needle, what in needles(named).items() if needle in seen]
