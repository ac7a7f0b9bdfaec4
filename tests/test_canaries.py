"""Secrets that enter a run wherever they can are in nothing that it writes or prints, also decoded."""

from __future__ import annotations

import base64
import html
import json
import re
import subprocess
import sys
import urllib.parse
import zlib
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.support.folders import task_folder, write_files

pytestmark = pytest.mark.usefixtures("as_e2b")

SECRET = 'canary-Zx81/+Qk"<7&>mPdW93sLqv'
MODEL_KEY = "sk-ant-api03-canaryModelKeyR7tYu2Wq"
PEM = "-----BEGIN KEY-----\nQ2FuYXJ5TGluZU9uZQxyz123\nQ2FuYXJ5TGluZVR3bwabc456\n-----END KEY-----"
NAME_SAFE = "canaryNameSafeB6hJ4kL9"
SECRETS = {"TOKEN": SECRET, "PEM": PEM, "PLAIN": NAME_SAFE, "ANTHROPIC_API_KEY": MODEL_KEY}

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda value: json.dumps(json.dumps(value)),
    "base64": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "URL": lambda value: urllib.parse.quote(value, safe=""),
    "HTML": html.escape,
}
ALL_FORMS = "\n".join(f"{name}: {form(value)}" for value in SECRETS.values() for name, form in FORMS.items())

PLACES = {
    "variant env": "[v.env]",
    "variant mcp env": "mcp.s.env",
    "variant mcp args": "mcp.s.args",
    "variant mcp headers": "mcp.h.headers",
    "model key": "ANTHROPIC_API_KEY",
    "setup output": "setup",
    "prepare output": "prepare",
    "check output": "checks/out",
    "check stderr": "checks/err",
    "check output, cut": "checks/long",
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
}
"""What a secret is in, and where. The variant's servers, `[setup]` and `prepare` have it, and show nothing when
all goes well: for those the search alone speaks."""

VARIANTS = """
[v]
env = { A = "${env:TOKEN}", B = "${env:PEM}", C = "${env:PLAIN}" }
mcp.s = { command = "true", args = ["--key", "${env:TOKEN}"], env = { K = "${env:PEM}" } }
mcp.h = { url = "http://127.0.0.1:9/", headers = { Authorization = "Bearer ${env:TOKEN}" } }
"""

TESTS = """
import logging, os, sys, warnings

SECRETS = [os.environ[name] for name in ("TOKEN", "PEM", "PLAIN", "ANTHROPIC_API_KEY")]

def test_says(sandbox):
    secret = SECRETS[0]
    padded = "x" * 90 + secret + "y" * 300
    cut_in_it = ["z" * 112 + value + "w" * 300 for value in SECRETS]
    nested = {"deep": [{"deeper": value} for value in SECRETS]}
    for value in SECRETS:
        print(value, repr(value), "\\x1b]0;title\\x07\\u202e")
        print(value, file=sys.stderr)
        logging.warning("it is %s", value)
        warnings.warn("do not use " + value + "\\x1b[31m")
    said = sandbox.run("printf %s '" + SECRETS[1] + "'")
    assert said.stdout == padded

def test_raises(sandbox):
    raise ValueError("no entry with " + " and ".join(SECRETS))
"""


def solution() -> dict[str, str | bytes]:
    noise = bytes(range(256)) * 8
    return {
        "answer.txt": "42\n",
        "question.txt": f"6 x 7?\n{ALL_FORMS}\n",
        "new.txt": ALL_FORMS,
        "new.bin": noise + SECRET.encode() + noise,
        "old.bin": noise + b"\0" + PEM.encode(),
        f"for-{NAME_SAFE}.txt": "named\n",
    }


def checks() -> dict[str, str]:
    told = f"cat <<'EOF'\n{ALL_FORMS}\nEOF\n"
    steer = "printf 'a\\033]0;title\\007\\033[2Jb\\342\\200\\256c\\n'\n"
    many = f"python3 - <<'EOF'\nfor n in range(40):\n    print('p' * n * 7 + {SECRET!r} * 99)\nEOF\n"
    return {
        "out.sh": f"#!/bin/sh\n{told}exit 1\n",
        "err.sh": f"#!/bin/sh\nexec >&2\n{told}exit 1\n",
        "steer.sh": f"#!/bin/sh\n{steer}exit 1\n",
        "long.sh": f"#!/bin/sh\n{many}exit 1\n",
    }


def plant(pytester: pytest.Pytester) -> None:
    """Put the secrets into every place."""
    told = f"cat <<'EOF'\n{ALL_FORMS}\nEOF"
    toml = f"[setup]\nrun = [{json.dumps(told)}]\n[checks]\nprepare = {json.dumps(told)}\n"
    repo: Mapping[str, str | bytes] = {"question.txt": "6 x 7?\n", "old.bin": bytes(range(256)) * 8}
    folder = task_folder(pytester.path / "tasks", toml=toml, repo=repo, checks=checks(), solution={})
    write_files(folder / "solution", solution())
    (folder / "solution" / "link").symlink_to(f"for-{NAME_SAFE}.txt")
    write_files(pytester.path, {"tasks/variants.toml": VARIANTS, "tasks/test_own.py": TESTS})


def outputs(pytester: pytest.Pytester, *more: str) -> Iterator[tuple[str, bytes]]:
    """What the run printed and wrote, and what the commands print of it."""
    options = ("--agent", "oracle", "-l", "-v", "-rA", "--color=yes", "--junitxml=junit.xml", *more)
    run = pytester.runpytest_subprocess("tasks", *options)
    yield "terminal", "\n".join([*run.outlines, *run.errlines]).encode()
    run.assert_outcomes(failed=3, warnings=4)
    yield "junit.xml", (pytester.path / "junit.xml").read_bytes()
    (pytester.path / "shown").mkdir()
    for arguments in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, check=False, timeout=60
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
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
    ["show", "answer[v-t1]"],
    ["show", "answer[v-t1]", "--full"],
    ["show", "answer[v-t1]", "--json"],
    ["checks", "answer[v-t1]"],
    ["compare"],
    ["report", "--output", "shown/report.html"],
    ["export", "--to", "shown/records.csv"],
)

ALL = tuple(SECRETS)
SHOWN = {
    "terminal": ALL,
    "junit.xml": ALL,
    "diff.patch": ALL,
    "checks/out": ALL,
    "checks/err": ALL,
    "checks/long": ("TOKEN",),
    "--full": ALL,
    "--json": ALL,
    "report.html": ALL,
    "records.jsonl": ALL,
}
"""Where secrets have arrived, and are only names by now: else nothing would be shown."""


def readings(data: bytes) -> Iterator[bytes]:
    """The data, what is packed in it as in the HTML report, and what each says once decoded."""
    packed = [base64.b64decode(found) for found in re.findall(rb"H4sI[A-Za-z0-9+/]+=*", data)]
    packed += [data] if data.startswith(b"\x1f\x8b") else []
    for each in (data, *(zlib.decompress(part, 31) for part in packed)):
        yield each
        text = each.decode("utf-8", "replace")
        yield urllib.parse.unquote_plus(text).encode("utf-8", "replace")
        yield html.unescape(text).encode("utf-8", "replace")
        yield text.replace("\\\\", "\\").replace('\\"', '"').replace("\\/", "/").encode("utf-8", "replace")


def needles() -> dict[bytes, str]:
    """The pieces of each secret that nothing may have, as they are and in base64."""
    found: dict[bytes, str] = {}
    for name, secret in SECRETS.items():
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


def test_no_secret_is_in_what_a_run_writes_or_prints(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    plant(pytester)
    looked_for, leaks, steering = needles(), [], []
    seen: dict[str, bytes] = {}
    for where, data in outputs(pytester, "--model-source", "api"):
        readable = [*readings(data)]
        seen[where] = b"\n".join(readable)
        leaks += [
            f"{what} in {where}: {needle.decode()}"
            for needle, what in looked_for.items()
            if any(needle in reading for reading in readable)
        ]
        if where == "terminal" and (b"\x1b]0;" in data or "\u202e".encode() in data):
            steering.append(where)
    with capsys.disabled():
        sys.stdout.write(
            f"\ncanaries: {len(PLACES)} places, {len(FORMS)} forms, {len(SECRETS)} secrets; "
            f"{len(seen)} outputs searched, {len(leaks)} found\n"
        )
    assert not leaks, "\n".join(leaks[:40])
    assert not steering
    for part, names in SHOWN.items():
        data = b"".join(data for where, data in seen.items() if part in where)
        missing = [name for name in names if f"[redacted:{name}]".encode() not in data]
        assert not missing, f"{part} was not reached by {missing}"
    notes = seen[next(where for where in seen if where.endswith("records.jsonl"))]
    assert len(set(re.findall(rb"(\w+\.bin) is left out of the diff: it holds a secret", notes))) == 2
