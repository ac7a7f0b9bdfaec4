"""The way from the worker processes of pytest-xdist to the run's controller, which schedules all trials."""

from __future__ import annotations

import contextlib
import functools
import secrets
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from harness.errors import HarnessError, InternalFault
from harness.runs.client import METHODS, RunClient


class ControllerServer:
    """The controller's end: a socket, and a thread for each worker that waits for an answer.

    `controller` gives the object whose methods the workers call; it is first called when one of them calls.
    `address` and `key` are for the workers. Calls are pickled; a process without the key is turned away.
    """

    def __init__(self, controller: Callable[[], RunClient]) -> None:
        self._controller = controller
        key = secrets.token_bytes(32)
        self._listener = Listener(family="AF_UNIX", backlog=64, authkey=key)
        self.address, self.key = str(self._listener.address), key.hex()
        threading.Thread(target=self._accept, name="harness-rpc", daemon=True).start()

    def close(self) -> None:
        """Accept no further worker."""
        self._listener.close()

    def _accept(self) -> None:
        # An OSError is the end: the listener was closed.
        with contextlib.suppress(OSError):
            while True:
                with contextlib.suppress(EOFError, ConnectionError, AuthenticationError):
                    worker = self._listener.accept()
                    threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def _serve(self, worker: Connection) -> None:
        # A worker that is gone wants no answer.
        with worker, contextlib.suppress(EOFError, OSError):
            while True:
                method, args = worker.recv()
                worker.send(self._dispatch(method, args))

    def _dispatch(self, method: str, args: tuple[Any, ...]) -> Any:
        try:
            if method not in METHODS:
                raise AttributeError(f"a worker may not call {method}")
            return getattr(self._controller(), method)(*args)
        except HarnessError as error:
            return error
        except Exception as error:  # noqa: BLE001  (a defect of ours: the worker must not wait for ever)
            return InternalFault("bug", f"{type(error).__name__}: {error}")


class ControllerClient:
    """A worker's end: a proxy that has the methods of `RunClient`."""

    def __init__(self, address: str, key: str) -> None:
        self._connection = Client(address, family="AF_UNIX", authkey=bytes.fromhex(key))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in METHODS:
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def _call(self, method: str, *args: object) -> Any:
        """Call a method of the controller, and wait for its result.

        Raises:
            HarnessError: when the controller's method raises one.
        """
        self._connection.send((method, args))
        result = self._connection.recv()
        if isinstance(result, HarnessError):
            raise result
        return result
