"""Task folders for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ANSWER_CHECK = '#!/bin/sh\ngrep -qx 42 answer.txt || { echo "answer.txt does not say 42"; exit 1; }\n'


def write_files(folder: Path, files: Mapping[str, str | bytes], *, executable: bool = False) -> None:
    """Write files by relative name."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if executable:
            path.chmod(0o755)


def task_folder(
    root: Path,
    name: str = "answer",
    *,
    toml: str = "",
    prompts: Mapping[str, str] | None = None,
    repo: Mapping[str, str | bytes] | None = None,
    checks: Mapping[str, str] | None = None,
    solution: Mapping[str, str] | None = None,
    replay: Sequence[Mapping[str, Any]] | None = None,
) -> Path:
    """A task whose repo has a question, and whose check wants 42 in answer.txt; every part can be replaced."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text("schema = 1\n" + toml)
    write_files(folder, prompts if prompts is not None else {"prompt.md": "Write 42 into answer.txt.\n"})
    write_files(folder / "repo", repo if repo is not None else {"question.txt": "6 x 7?\n"})
    write_files(
        folder / "checks", checks if checks is not None else {"answer.sh": ANSWER_CHECK}, executable=True
    )
    write_files(folder / "solution", solution if solution is not None else {"answer.txt": "42\n"})
    if replay is not None:
        (folder / "replay.jsonl").write_text("".join(json.dumps(line) + "\n" for line in replay))
    return folder


def by_hand(
    *messages: Sequence[Mapping[str, Any]], usage: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """A handwritten recording of messages, each given by its content blocks."""
    head: dict[str, Any] = {"type": "replay", "schema": 1, "written_by": "hand", "cwd": "/home/user/repo"}
    counts = dict(usage or {"input_tokens": 100, "output_tokens": 20})
    return [
        head,
        *(
            {
                "type": "assistant",
                "message": {"model": "claude-sonnet-4-5", "content": list(m), "usage": counts},
            }
            for m in messages
        ),
    ]


def says(text: str) -> dict[str, str]:
    """A text block."""
    return {"type": "text", "text": text}


def uses(name: str, **tool_input: Any) -> dict[str, Any]:
    """A tool call's block."""
    return {"type": "tool_use", "name": name, "input": tool_input}
