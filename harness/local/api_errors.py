"""E2B's error replies, one function each, so that wording and status stand in one place.

The SDK chooses its exception by status and, for a few, by wording (`was not found`, `port is not open`).
The wording is therefore part of the protocol.
"""

from __future__ import annotations

import json


class ApiError(Exception):
    """A request that E2B would refuse: an HTTP status and a message for the client.

    `body` is the reply's JSON in E2B's form: `{"code": status, "message": message}` and the extra fields.
    """

    def __init__(self, status: int, message: str, **extra: object) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.body: dict[str, object] = {"code": status, "message": message, **extra}

    def encode(self) -> bytes:
        """Encode the body as JSON."""
        return json.dumps(self.body).encode()


def bad_request(message: str) -> ApiError:
    """Reply to a request that is invalid."""
    return ApiError(400, message)


def bad_body(problem: str) -> ApiError:
    """Reply to a request whose body has the wrong form."""
    return ApiError(400, f"Error when parsing request: {problem}")


def unauthorized() -> ApiError:
    """Reply to a request whose API key is missing or wrong."""
    return ApiError(401, "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.")


def sandbox_not_found(sandbox_id: str) -> ApiError:
    """Reply if no such sandbox exists, or if it is not running although the request needs that."""
    return ApiError(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")


def template_not_found(name: str) -> ApiError:
    """Reply if no template, alias or snapshot has this name."""
    return ApiError(404, f"template '{name}' not found")


def conflict(message: str) -> ApiError:
    """Reply if the sandbox's state does not allow the request."""
    return ApiError(409, message)


def too_many_sandboxes(limit: int) -> ApiError:
    """Reply if as many sandboxes run as `--max-sandboxes` allows."""
    return ApiError(429, f"you have reached the maximum number of concurrent E2B sandboxes ({limit}).")


def not_on_this_server(what: str, instead: str) -> ApiError:
    """Reply to a request for a feature of E2B that this server lacks. `instead` names an alternative."""
    return ApiError(501, f"{what} is not available on the local sandbox server: {instead}")


def sandbox_gone(sandbox_id: str) -> ApiError:
    """E2B's edge replies this for a sandbox that is dead or paused. The SDK looks for `was not found`."""
    return ApiError(502, "The sandbox was not found", sandboxId=sandbox_id)


def port_not_open(sandbox_id: str, port: int) -> ApiError:
    """E2B's edge replies this if nothing that it can reach listens on a sandbox's port."""
    return ApiError(502, "The sandbox is running but port is not open", sandboxId=sandbox_id, port=port)
