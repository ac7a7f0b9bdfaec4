"""How the worker processes of pytest-xdist ask their controller for trials, which all run there."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from harness.errors import HarnessError, InternalFault

Answer = Callable[[str, Any], Any]
"""Answers a question of that name about that argument; a HarnessError is passed on."""


class ControllerServer:
    """The controller's end: a socket, and a thread for each worker that waits for an answer.

    `address` and `key` are what a worker needs. What goes over it is pickled; nobody without the key is heard.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        key = secrets.token_bytes(32)
        self._listener = Listener(family="AF_UNIX", backlog=64, authkey=key)
        self.address, self.key = str(self._listener.address), key.hex()
        threading.Thread(target=self._accept, name="harness-relay", daemon=True).start()

    def close(self) -> None:
        """Let nobody else in."""
        self._listener.close()

    def _accept(self) -> None:
        # An OSError is the end: the listener was closed. One who does not know the key is turned away.
        with contextlib.suppress(OSError):
            while True:
                with contextlib.suppress(EOFError, ConnectionError, AuthenticationError):
                    worker = self._listener.accept()
                    threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def _serve(self, worker: Connection) -> None:
        # A worker that is gone wants no answer.
        with worker, contextlib.suppress(EOFError, OSError):
            while True:
                question, argument = worker.recv()
                try:
                    reply: Any = self._answer(question, argument)
                except HarnessError as error:
                    reply = error
                except Exception as error:  # noqa: BLE001  (a defect of ours: the worker must not wait for ever)
                    reply = InternalFault("bug", f"{type(error).__name__}: {error}")
                worker.send(reply)


class ControllerClient:
    """A worker's end."""

    def __init__(self, address: str, key: str) -> None:
        self._connection = Client(address, family="AF_UNIX", authkey=bytes.fromhex(key))

    def ask(self, question: str, argument: Any = None) -> Any:
        """Ask, and wait for the answer.

        Raises:
            HarnessError: when that is the answer.
        """
        self._connection.send((question, argument))
        reply = self._connection.recv()
        if isinstance(reply, HarnessError):
            raise reply
        return reply
