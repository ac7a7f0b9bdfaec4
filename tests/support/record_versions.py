"""Records a session of three prompts by another version of Claude Code into `tests/data/streams/versions/`.

    python -m tests.support.record_versions BINARY

BINARY is npm's: `npm pack @anthropic-ai/claude-code-linux-x64@2.1.228` has it as `package/claude`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.support.claude_cli import HEADLESS, QUIET, ClaudeCli, Finished
from tests.support.messages_api import Forever, MessagesApi, Say, Step, Usage, Use
from tests.support.record_streams import STREAMS, anonymous

SESSION = "11111111-1111-4111-8111-111111111111"
SCRIPT: tuple[Step, ...] = (
    Use("Bash", {"command": "ls"}, Usage(1200, 33, 0, 9000)),
    Say("one", Usage(15, 40, 9000, 400)),
    Say("two", Usage(30, 20, 9400, 60)),
    Use("Bash", {"command": "ls"}, Usage(40, 7, 9460, 10)),
    Say("three", Usage(5, 6, 9470, 3)),
)


def record(binary: str) -> tuple[str, list[bytes], dict[str, dict[str, int]]]:
    """The version, the stream of each prompt, and what was served by model."""
    with tempfile.TemporaryDirectory() as root, MessagesApi(SCRIPT, models={_SMALL: [_ASIDE]}) as api:
        cli = ClaudeCli.fresh(Path(root), api.env(), {"calc.py": "def add(a, b):\n    return a - b\n"})
        environ = {"PATH": os.environ["PATH"], "HOME": str(cli.home), **QUIET, **api.env()}
        runs = [
            Finished(done.returncode, done.stdout, done.stderr.decode())
            for number, prompt in enumerate(("go", "go on", "and on"))
            for done in (
                subprocess.run(
                    [binary, *HEADLESS, "--resume" if number else "--session-id", SESSION],
                    input=prompt.encode(),
                    cwd=cli.cwd,
                    env=environ,
                    capture_output=True,
                    check=True,
                    timeout=120,
                ),
            )
        ]
        served = {model: asdict(usage) for model, usage in api.served.items()}
        return (
            runs[0].init["claude_code_version"],
            [anonymous(run.stdout, cli) for run in runs],
            served,
        )


_SMALL, _ASIDE = "claude-haiku-4-5-20251001", Forever(Say("a title", Usage(3, 4)))
"""What older versions ask a small model beside the session."""


def main(binaries: list[str]) -> None:
    """Record each, and add what was served to the table."""
    folder = STREAMS / "versions"
    folder.mkdir(exist_ok=True)
    table = folder / "served.json"
    served = json.loads(table.read_text()) if table.is_file() else {}
    for binary in binaries:
        version, streams, served_now = record(binary)
        for number, stream in enumerate(streams, 1):
            (folder / f"{version}-{number}.jsonl").write_bytes(stream)
        served[version] = served_now
    table.write_text(json.dumps(served, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
