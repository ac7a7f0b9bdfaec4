"""An MCP server on stdio with one tool, `say`, which answers its argument. Standard library only."""

from __future__ import annotations

import json
import sys

SAY = {
    "name": "say",
    "description": "Say the text.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def answer(method: str, params: dict[str, object]) -> dict[str, object] | None:
    """The result for a request; None for what this server does not have."""
    if method == "initialize":
        about = {"name": "echo", "version": "1"}
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [SAY]}
    if method == "tools/call":
        arguments = params["arguments"]
        assert isinstance(arguments, dict)
        return {"content": [{"type": "text", "text": arguments["text"]}]}
    return {} if method == "ping" else None


def main() -> None:
    """Answer each request of stdin on stdout."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            result = answer(request["method"], request.get("params") or {})
            unknown = {"error": {"code": -32601, "message": f"unknown method {request['method']}"}}
            reply = unknown if result is None else {"result": result}
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
