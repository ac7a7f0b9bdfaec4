"""A program that starts a box and tells about it: to be run as another account, or with things forbidden.

    python -m tests.support.box_story '{"tier": null, "commands": ["id -u"], "hold": false}'

It says one JSON line: the isolation found (or the error), and each command's exit code and output. `user` runs them, or
root, while another sandbox is there in which `neighbour` has been run. `holder` is a program that then goes on, and
`beyond` says which bound the sandbox is beyond (`disk_mb`); `pids` is what both may have. With `hold` it then waits
until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.local.boxes.box import Box
from harness.local.boxes.isolation import Isolation, IsolationError
from harness.local.limits import BoxLimits
from harness.local.template import base_template
from tests.support.boxes import fresh_box, read_until, run, state_folder


async def tell(found: Isolation, wish: dict[str, Any], folder: Path) -> None:
    """Run the commands in a fresh box, and say what came out."""
    async with contextlib.AsyncExitStack() as stack:
        limits = BoxLimits(disk_mb=wish.get("disk_mb"), pids=wish.get("pids", 2048))
        if "neighbour" in wish:
            neighbour = await stack.enter_async_context(fresh_box(found, folder, "neighbour", limits=limits))
            await run(neighbour, wish["neighbour"], user="root")
        template = replace(base_template(), binds={"/opt/bound": Path(__file__)})
        box = await stack.enter_async_context(fresh_box(found, folder, limits=limits, template=template))
        status = read_of(box, "status")  # before the guest changes its account for the first time
        outputs = [await run(box, command, user=wish.get("user", "user")) for command in wish["commands"]]
        if "holder" in wish:  # a program that says `done` when it holds something, and waits
            holder = await box.spawn(["python3", "-c", wish["holder"]], stdin=True)
            await read_until(holder, b"done")
        said = {
            "tier": found.tier,
            "enforces": sorted(found.enforces),
            "shortcoming": found.shortcoming,
            "unavailable": [asdict(each) for each in found.unavailable],
            "account": box.account,
            "ids": read_of(box, "uid_map").split(),
            "groups": status.partition("Groups:")[2].partition("\n")[0].split(),
            "server": os.getpid(),
            "beyond": box.exceeds(await box.measure_usage()),
            "outputs": [[output.exit_code, output.stdout + output.stderr] for output in outputs],
        }
        print(json.dumps(said), flush=True)  # noqa: T201  # that is what it is for
        if wish.get("hold"):
            await hold(box)


def read_of(box: Box, name: str) -> str:
    """A file of /proc about its guest, as this machine sees it."""
    return Path(f"/proc/{box._launched.process.pid}/{name}").read_text()


async def hold(box: Box) -> None:
    """Wait for the end, of the box or of this process."""
    await box.wait()


def main() -> None:
    """Do as the first argument says."""
    wish = json.loads(sys.argv[1])
    try:
        found = Isolation.probe(wish.get("tier"))
    except IsolationError as error:
        print(json.dumps({"error": str(error), "remedy": error.remedy}))  # noqa: T201
        return
    with state_folder() as folder:
        asyncio.run(tell(found, wish, folder))


if __name__ == "__main__":
    main()
