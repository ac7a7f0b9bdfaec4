"""What the docs show is what happens."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.folders import by_hand, says, task_folder, uses, write_files

DOCS = Path(__file__).parents[1] / "docs"
SESSION = by_hand([uses("Write", file_path="/home/user/repo/answer.txt", content="42\n")], [says("Done.")])


@pytest.mark.usefixtures("as_e2b")
def test_the_page_on_python_tests_can_be_copied(pytester: pytest.Pytester) -> None:
    """Its example passes as it stands."""
    (example,) = re.findall(r"```python\n(.*?)```", (DOCS / "fixtures.md").read_text(), re.DOTALL)
    task_folder(pytester.path / "tasks", replay=SESSION)
    lines = "".join(json.dumps(line) + "\n" for line in SESSION)
    write_files(
        pytester.path, {"starter/question.txt": "6 x 7?\n", "session.jsonl": lines, "test_it.py": example}
    )
    pytester.runpytest("test_it.py").assert_outcomes(passed=3)


@pytest.mark.parametrize(
    "page", sorted(path.name for path in [*DOCS.glob("*.md"), DOCS.parent / "README.md"])
)
def test_links_lead_somewhere(page: str) -> None:
    """A relative link names a file that is there."""
    path = DOCS.parent / page if page == "README.md" else DOCS / page
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
