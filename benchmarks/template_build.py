"""What a build of a local template with three steps takes beside its own commands' time, and its second use.

    python benchmarks/template_build.py [--rounds 3]

Through E2B's SDK against the local server, from an empty cache for these steps: RUN, COPY, RUN. Exits with 1 above a
limit. The commands' own time is what the same commands take in a sandbox.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx
from e2b import Sandbox, Template

from harness.local.launch import LocalServer, start_server

FIRST_LIMIT_MS = 2000.0
SECOND_LIMIT_MS = 500.0


def timed(template: object, name: str, server: LocalServer) -> float:
    start = time.monotonic()
    Template.build(template, name, api_key=server.api_key, api_url=server.url)  # type: ignore[arg-type]
    return (time.monotonic() - start) * 1000


def one_round(server: LocalServer, folder: Path) -> tuple[float, float, float]:
    """Milliseconds of a first build beside its commands', of the same build again, and of the commands."""
    fresh, name = secrets.token_hex(8), f"bench-{secrets.token_hex(6)}"
    commands = [f"echo {fresh} >made", f"mkdir -p site && cp made site/{fresh}"]
    (folder / "copied.txt").write_text(fresh)
    template = Template(file_context_path=folder).from_template("claude").run_cmd(commands[0])
    template = template.copy("copied.txt", "/home/user/copied.txt").run_cmd(commands[1])
    with Sandbox.create(
        "claude", api_key=server.api_key, api_url=server.url, sandbox_url=server.url
    ) as sandbox:
        start = time.monotonic()
        for command in commands:
            sandbox.commands.run(command)
        own = (time.monotonic() - start) * 1000
    first, second = timed(template, name, server), timed(template, name, server)
    url = f"{server.url}/templates/{name}"
    httpx.delete(url, headers={"X-API-KEY": server.api_key}).raise_for_status()
    return first - own, second, own


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with start_server() as server, tempfile.TemporaryDirectory() as folder:
        found = [one_round(server, Path(folder)) for _ in range(rounds)]
    first, second, own = (median(column) for column in zip(*found, strict=True))
    print(
        f"three steps, beside their commands: {first:.0f} ms (limit {FIRST_LIMIT_MS:.0f} ms); own: {own:.0f} ms"
    )
    print(f"the same again: {second:.0f} ms (limit {SECOND_LIMIT_MS:.0f} ms)")
    sys.exit(first > FIRST_LIMIT_MS or second > SECOND_LIMIT_MS)


if __name__ == "__main__":
    main()
