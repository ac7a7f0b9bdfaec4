"""The echo server of `mcp_echo` on HTTP, on this machine's loopback, for whoever shows its token."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import mcp_echo

TOKEN = "token-of-echo"


class _Handler(BaseHTTPRequestHandler):
    token = TOKEN

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {self.token}":
            return self._answer(401, b"")
        if "id" not in request:
            return self._answer(202, b"")
        result = mcp_echo.answer(request["method"], request.get("params") or {})
        return self._answer(
            200, json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        )

    def do_GET(self) -> None:
        self._answer(405, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@contextlib.contextmanager
def served(token: str = TOKEN) -> Iterator[str]:
    """Serve while this is open; gives `127.0.0.1:PORT`."""
    handler = type("_Handler", (_Handler,), {"token": token})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{http.server_address[1]}"
        http.shutdown()
