"""E2B's error replies, each by name, so that wording and status stand in one place.

The SDK chooses its exception by status and, for a few, by wording (`was not found`, `port is not open`):
what is said here is part of the protocol.
"""

from __future__ import annotations

import json


class ApiError(Exception):
    """A request that E2B would refuse: an HTTP status and a message for the client.

    `body` is the reply's JSON, in E2B's form: `{"code": status, "message": message}` and what is added.
    """

    def __init__(self, status: int, message: str, **extra: object) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body: dict[str, object] = {"code": status, "message": message, **extra}

    def encode(self) -> bytes:
        """The body as it goes over the wire."""
        return json.dumps(self.body).encode()


def bad_request(message: str) -> ApiError:
    """The request says something that cannot be."""
    return ApiError(400, message)


def bad_body(problem: str) -> ApiError:
    """The body is not what the endpoint takes."""
    return ApiError(400, f"Error when parsing request: {problem}")


def unauthorized() -> ApiError:
    """The API key is missing or wrong."""
    return ApiError(401, "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.")


def sandbox_not_found(sandbox_id: str) -> ApiError:
    """The control plane knows no such sandbox (or it is not running, where it would have to be)."""
    return ApiError(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")


def template_not_found(name: str) -> ApiError:
    """No template, alias or snapshot has this name."""
    return ApiError(404, f"template '{name}' not found")


def conflict(message: str) -> ApiError:
    """The sandbox is in a state in which this cannot be done."""
    return ApiError(409, message)


def too_many_sandboxes(limit: int) -> ApiError:
    """As many sandboxes run as `--max-sandboxes` allows."""
    return ApiError(429, f"you have reached the maximum number of concurrent E2B sandboxes ({limit}).")


def not_on_this_server(what: str, instead: str) -> ApiError:
    """Something that E2B has and this server has not, and what will do in its place: said at once, not half done."""
    return ApiError(501, f"{what} is not available on the local sandbox server: {instead}")


def sandbox_gone(sandbox_id: str) -> ApiError:
    """What E2B's edge answers for a sandbox that is dead or paused; the SDK goes by `was not found`."""
    return ApiError(502, "The sandbox was not found", sandboxId=sandbox_id)


def port_not_open(sandbox_id: str, port: int) -> ApiError:
    """What E2B's edge answers when nothing that it can reach listens on a sandbox's port."""
    return ApiError(502, "The sandbox is running but port is not open", sandboxId=sandbox_id, port=port)
