"""`harness doctor` against a complete engine, one that lacks a route, and one that ignores the network."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from harness.local.launch import LocalServer, start_server
from harness.runs.doctor import doctor
from tests.support.chaos_proxy import ChaosProxy
from tests.support.folders import ANSWER_CHECK, task_folder
from tests.support.in_thread import InThread


def answers(text: str) -> dict[str, str]:
    """The answers by what was tried."""
    rows = [line for line in text.splitlines()[2:] if line[26:29].strip() in ("yes", "NO", "?")]
    return {line[:26].strip(): line[26:29].strip() for line in rows}


def test_a_complete_engine(as_e2b: LocalServer) -> None:
    """Every answer is yes, but for a key that is not there."""
    text, is_well = doctor("e2b", "claude")
    found = answers(text)
    assert {name for name, answer in found.items() if answer != "yes"} == {"the model's key"}, text
    assert len(found) == 17
    assert is_well


class OldEngine(BaseHTTPRequestHandler):
    """It lists no sandboxes, and knows no other route."""

    def do_GET(self) -> None:
        self._send(200 if self.path.startswith("/v2/sandboxes") else 404, [])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send(404, {"message": "404 page not found"})

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_an_engine_without_the_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as that, and not as a template that is missing."""
    with InThread(OldEngine) as engine:
        for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
            monkeypatch.setenv(name, engine.origin)
        monkeypatch.setenv("E2B_API_KEY", "e2b_x")
        text, is_well = doctor("e2b", "claude")
    found = answers(text)
    assert {name for name, answer in found.items() if answer == "yes"} == {"reachable", "key valid"}
    # It builds no templates either; all else takes a sandbox, and cannot be told.
    assert {name for name, answer in found.items() if answer == "NO"} == {
        "API level",
        "create",
        "template build",
    }
    assert "has no POST /v2/sandboxes (404)" in text
    assert "there is no template" not in text
    assert not is_well


@pytest.mark.slow
def test_an_engine_that_ignores_the_network(
    monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    """A sandbox that may reach nothing reaches this machine: the doctor, each record and the report say so.

    It has this machine's processes in sight, too: what is not the trial's goes on.
    """
    begun, go_on = pytester.path / "begun", pytester.path / "go-on"
    waits = f"#!/bin/sh\ntouch {begun}; until [ -e {go_on} ]; do sleep 0.01; done\n"
    task_folder(pytester.path / "tasks", checks={"a.sh": waits, "b.sh": ANSWER_CHECK})
    bystanders: list[subprocess.Popen[bytes]] = []

    def stand_by() -> None:
        while not begun.exists():
            time.sleep(0.01)
        bystanders.append(subprocess.Popen(["sleep", "60"]))
        go_on.touch()

    standing_by = threading.Thread(target=stand_by, daemon=True)
    standing_by.start()
    # Its first answer would say that it is a server of ours, and which tier it has.
    with start_server(isolation="unsafe") as engine, ChaosProxy(engine.url, ["500"]) as stranger:
        monkeypatch.setenv("E2B_API_KEY", engine.api_key)
        for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
            monkeypatch.setenv(name, engine.url)
        text, is_well = doctor("e2b", "claude")
        for name in ("E2B_API_URL", "E2B_SANDBOX_URL"):
            monkeypatch.setenv(name, stranger.url)
        done = pytester.runpytest("tasks", "--agent", "oracle", "--trials", "2")
    standing_by.join()
    (bystander,) = bystanders
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    # The tier changes no requests either, and an ordinary user's has no root.
    wrong = {"network enforced", "key added on the way out", *(["root"] if os.geteuid() else [])}
    found = answers(text)
    assert {name for name, answer in found.items() if answer == "NO"} == wrong, text
    assert {name for name, answer in found.items() if answer == "?"} == {"the model's key"}
    assert not is_well
    done.stdout.fnmatch_lines(["*all trials could reach any host: the engine does not enforce `network`*"])
    (file,) = pytester.path.glob("results/*/records.jsonl")
    sandboxes = [json.loads(line)["sandbox"] for line in file.read_text().splitlines()]
    assert [(one["isolation"], one["network_enforced"]) for one in sandboxes] == [(None, False)] * 2
