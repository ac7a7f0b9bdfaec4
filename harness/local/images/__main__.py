"""Fetch and unpack an image as root of a range of ids, so that its files get their owners: `FOLDER IMAGE`.

It prints one line of JSON: the image's root, its id, its configuration and notes on it; or what is wrong with it.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.local.images.errors import ImageError
from harness.local.images.manifest import ImageConfig
from harness.local.images.registry import CREDENTIALS, Credentials
from harness.local.images.store import ImageStore, UnpackedImage, open_image
from harness.local.images.unpack import Owners


def command_of(
    folder: Path, image: str, credentials: Credentials | None, host: str
) -> tuple[list[str], dict[str, str]]:
    """The command that runs this, and its environment, which has the credentials for a registry's host."""
    paths = [str(Path(__file__).parents[3]), *sys.path]
    program = f"import sys; sys.path[:0] = {paths!r}; from {__name__} import main; main()"
    env = dict(os.environ)
    if credentials:
        env[CREDENTIALS] = f"{host}={credentials.user}:{credentials.password} {env.get(CREDENTIALS, '')}"
    return [sys.executable, "-I", "-c", program, str(folder), image], env


def read_answer(printed: str) -> UnpackedImage:
    """Return its answer. Raises ImageError."""
    said = json.loads(printed.splitlines()[-1])
    if "error" in said:
        raise ImageError(said["error"])
    config = {
        **said["config"],
        "diff_ids": tuple(said["config"]["diff_ids"]),
        "command": tuple(said["config"]["command"]),
    }
    return UnpackedImage(Path(said["root"]), said["id"], ImageConfig(**config), tuple(said["notes"]))


def main() -> None:
    """Do it."""
    folder, image = sys.argv[1:]
    try:
        unpacked = ImageStore(Path(folder), Owners(0)).get(open_image(image))
        about = {"id": unpacked.id, "config": asdict(unpacked.config), "notes": unpacked.notes}
        said: dict[str, Any] = {"root": str(unpacked.root), **about}
    except (ImageError, OSError) as error:
        said = {"error": str(error)}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
