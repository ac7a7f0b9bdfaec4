"""`harness validate` finds what is wrong with tasks, and leaves good ones alone."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.authoring.clock import moments_to_try
from harness.authoring.findings import ValidationReport
from harness.authoring.folders import look_at_folder, look_at_prompts
from harness.authoring.leaks import found_in, secrets_of_solution
from harness.authoring.mutants import Change
from harness.authoring.reasons import wrong_reason
from harness.authoring.validate import Effort, validate
from harness.cli import main
from harness.local.launch import LocalServer
from harness.records.record_parts import CheckResult
from harness.runs.options import Options
from harness.tasks.loading import load_task
from tests.support.folders import task_folder, write_files

STARTER = {
    "shop.py": "def total(prices):\n    return 0\n",
    "README.md": "# Shop\n",
    "tests/test_old.py": "assert True\n",
}
SOLUTION = {
    "shop.py": "def total(prices):\n    found = 0\n    for price in prices:\n        if price > 0:\n"
    "            found += price\n    return found\n"
}
SHARP_CHECK = """#!/usr/bin/env python3
import sys
sys.path.insert(0, ".")
from shop import total
for prices, right in (([1, 2], 3), ([5, -3, 1], 6), ([], 0)):
    assert total(prices) == right, f"total({prices}) is not {right}"
"""
PROMPT = {"prompt.md": "Make `total` in `shop.py` add up the prices above 0.\n"}


def reports(root: Path, effort: Effort) -> dict[str, ValidationReport]:
    return {report.task: report for report in validate([root], Options(results=root / "results"), effort)}


def kinds(report: ValidationReport, level: str = "error") -> set[str]:
    return {finding.kind for finding in report.findings if finding.level == level}


def shop(root: Path, name: str, **parts: object) -> Path:
    given = {
        "repo": STARTER,
        "checks": {"total.py": SHARP_CHECK},
        "solution": SOLUTION,
        "prompts": PROMPT,
        **parts,
    }
    return task_folder(root, name, **given)  # type: ignore[arg-type]


def commit_all(repo: Path, message: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run(["git", "-C", str(repo), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(repo), *identity, "commit", "-qm", message], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_each_planted_defect_is_named(tmp_path: Path) -> None:
    """Those of one task are told side by side, and none of them of the good task beside it."""
    shop(tmp_path, "good")
    many = shop(
        tmp_path,
        "many",
        prompts={"prompt.md": "Mend `total` in `shop.py`, as `docs/prices.md` says.\n"},
        repo={**STARTER, "notes/idea.txt": "try this:\n" + SOLUTION["shop.py"].partition("\n")[2]},
        toml='[checks]\nprotect = ["tests/**", "conftest.py"]\n',
        checks={
            "a_first.sh": "#!/bin/sh\necho ready >~/ready\ngrep -q found shop.py\n",
            "b_second.sh": "#!/bin/sh\ntest -e ~/ready\n",
            "chance.sh": "#!/bin/bash\n[ $((RANDOM % 3)) != 0 ]\n",
            "year.py": "#!/usr/bin/env python3\nimport datetime\nassert datetime.date.today().year < 2030\n",
            "leap.sh": '#!/bin/sh\n[ "$(date +%m-%d)" != 02-29 ]\n',
            "more/forgotten.sh": "#!/bin/sh\ngrep -q total shop.py\n",
        },
    )
    write_files(many / "repo", {"shop.py": SOLUTION["shop.py"]})
    subprocess.run(["git", "init", "-q", str(many / "repo")], check=True)
    commit_all(many / "repo", "later")
    write_files(many / "repo", {"shop.py": STARTER["shop.py"]})
    found = reports(tmp_path, Effort(times=8, mutants=0))
    assert kinds(found["good"]) == set()
    assert kinds(found["many"]) == {
        "check_never_run",
        "clock_dependent",
        "flaky_check",
        "history",
        "leak",
        "order_dependent",
        "prompt_names_missing",
        "protect_missing",
    }
    by_check = {(finding.kind, finding.check) for finding in found["many"].findings if finding.check}
    assert by_check == {
        ("flaky_check", "chance"),
        ("order_dependent", "b_second"),
        ("clock_dependent", "year"),
        ("clock_dependent", "leap"),
    }


def test_the_clock_is_moved_to_each_kind_of_day() -> None:
    """Months, days of the week, a leap day and the end of a year, whenever it is asked."""
    for now in (datetime(2026, 11, 28, 1, tzinfo=UTC), datetime(2027, 12, 31, 23, tzinfo=UTC)):
        found = [
            moment for shift, moment in moments_to_try(now) if now + timedelta(seconds=shift) == moment > now
        ]
        assert ({one.month for one in found}, {one.weekday() for one in found}) == (
            set(range(1, 13)),
            set(range(7)),
        )
        assert {(2, 29), (12, 31)} < {(one.month, one.day) for one in found}


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_verdicts_that_are_wrong_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An oracle that fails, a nop that passes, a failure that is no assertion, and a check that any text passes."""
    shop(tmp_path, "oracle-fails", checks={"never.sh": "#!/bin/sh\necho no; exit 1\n"})
    shop(tmp_path, "nop-passes", checks={"always.sh": "#!/bin/sh\ntest -s shop.py\n"})
    module = "#!/usr/bin/env python3\nimport shop_helper\n"
    helped = {**SOLUTION, "shop_helper.py": "RATE = 1\n"}
    shop(tmp_path, "no-module", checks={"helper.py": module}, solution=helped)
    blunt = {"any.sh": "#!/bin/sh\ntest -s answer.txt\n"}
    long = {"answer.txt": "".join(f"line {number}\n" for number in range(9))}
    shop(tmp_path, "blunt", checks=blunt, solution=long, prompts={"prompt.md": "Write `answer.txt`."})
    code = main(["validate", str(tmp_path), "--times", "2", "--mutants", "5", "--json"])
    told = json.loads(capsys.readouterr().out)
    found = {task["task"]: {one["kind"] for one in task["findings"]} for task in told["tasks"]}
    assert code == 1
    assert found["oracle-fails"] == {"oracle_fails"}
    assert found["nop-passes"] >= {"nop_passes", "blunt"}
    assert found["no-module"] >= {"wrong_reason"}
    assert found["blunt"] == {"blunt"}


@pytest.mark.slow
@pytest.mark.usefixtures("as_e2b")
def test_a_sharp_task_is_said_to_be_sharp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has its line, survivors are diffs, and the exit code is 0, also where few survive."""
    loose = SHARP_CHECK.replace("([5, -3, 1], 6), ", "")
    shop(tmp_path, "good")
    shop(tmp_path, "loose", checks={"total.py": loose})
    code = main(["validate", str(tmp_path / "good"), "--times", "2", "--mutants", "15"])
    told = capsys.readouterr().out
    assert code == 0
    assert "good  ok" in told
    assert "100%" in told
    assert main(["validate", str(tmp_path / "loose"), "--times", "1", "--mutants", "15"]) == 0
    told = capsys.readouterr().out
    assert "loose: warning: blunt" in told
    assert "no check noticed this" in told
    assert "  -        if price > 0:\n" in told


FAILURES = {
    "ModuleNotFoundError: No module named 'pricing'": "pricing",
    "/usr/bin/python3: No module named tally": "tally",
    "AttributeError: module 'shop' has no attribute 'grand'": "grand",
    "Error: Cannot find module '/home/user/repo/lib/sum.js'": "/home/user/repo/lib/sum.js",
    "TypeError: shop.grand is not a function": "grand",
    "/x/c.sh: 2: ./hello: not found": "./hello",
    "/x/c.sh: line 3: ./lib/names.sh: No such file or directory": "./lib/names.sh",
    "Can't locate Names.pm in @INC (you may need to install the Names module)": "Names.pm",
    "/x/c.c:1:10: fatal error: tally.h: No such file or directory": "tally.h",
}


@pytest.mark.parametrize("text", FAILURES)
def test_a_failure_for_what_is_missing_is_no_assertion(text: str) -> None:
    """In each language; but for a name that the prompt tells."""
    result = CheckResult(name="a", passed=False, score=0, exit_code=1, duration_ms=1, output_tail=f"{text}\n")
    finding = wrong_reason(result, "Mend `total` in `shop.py` and `shop.js`.", [])
    assert finding
    assert repr(FAILURES[text]) in finding.what
    assert wrong_reason(result, f"Make `{FAILURES[text]}`.", []) is None
    words = "AssertionError: total([1]) is not 1\ncat: a.txt: No such file or directory\n"
    said = result.model_copy(update={"output_tail": words})
    assert wrong_reason(said, "", []) is None


def archive_of(folder: Path, text: str, mode: str) -> bytes:
    write_files(folder / "in", {"old/shop.py": text})
    return Path(shutil.make_archive(str(folder / "packed"), mode, folder / "in")).read_bytes()


def test_a_solution_in_other_clothes_is_found(tmp_path: Path) -> None:
    """As a remark, as a diff, in a string of JSON, in a sentence, packed; where it is at home, only as a remark."""
    (body,) = SOLUTION.values()
    change = Change("shop.py", STARTER["shop.py"].encode(), body.encode())
    secrets = secrets_of_solution({"shop.py": change})
    lines = body.splitlines()[1:]
    hiding = {
        "todo.py": "".join(f"# {line}\n" for line in lines),
        "fix.patch": "".join(f"+{line}\n" for line in lines),
        "notes.json": json.dumps({"answer": body}),
        "shop.py": "".join(f"# {line}\n" for line in lines),
        "sentence.md": f"Try `{'; '.join(line.strip() for line in lines)}`, it works.\n",
    }
    packed = {name: text.encode() for name, text in hiding.items()}
    packed |= {"a.gz": gzip.compress(body.encode()), "a.txt": b"See:\n" + base64.encodebytes(body.encode())}
    for name, mode in (("a.zip", "zip"), ("a.tar.xz", "xztar")):
        packed[name] = archive_of(tmp_path, body, mode)
    assert [name for name, content in packed.items() if list(found_in(secrets, name, content))] == list(
        packed
    )
    assert list(found_in(secrets, "broken.zip", b"PK\x03\x04" + b"\0" * 40)) == []
    assert list(found_in(secrets, "shop.py", body.encode())) == []
    needed = b"from shop.accounting.rounding import to_the_cent, to_the_dollar\n"
    assert secrets_of_solution({"shop.py": Change("shop.py", b"", needed)}) == [], "what many files have"


LOOP = "    for line in sorted(lines):\n        if line.startswith(mark):\n            found.append(line)\n"


@pytest.mark.parametrize(
    ("elsewhere", "is_leak"),
    [
        ("def marked(lines, mark):\n    found = []\n" + LOOP, True),
        (LOOP.replace("found.append", "print(line)\n            found.append"), False),
        ("\n".join(f"def use():\n{line}\n" for line in LOOP.splitlines()), False),
        ("# " + "; ".join(line.strip() for line in LOOP.splitlines()) + "\n", True),
    ],
    ids=["as it is", "with more between", "line by line", "as a remark"],
)
def test_lines_that_other_code_has_too_are_no_leak(elsewhere: str, is_leak: bool) -> None:
    """What gives a solution away is a piece of it, or what somebody has written about it."""
    before = "def marked(lines, mark):\n    found = []\n    return found\n"
    change = Change("a.py", before.encode(), before.replace("    return", LOOP + "    return").encode())
    secrets = secrets_of_solution({"a.py": change})
    assert secrets
    assert bool(list(found_in(secrets, "other.py", elsewhere.encode()))) == is_leak


def test_checks_that_nobody_runs_are_found(tmp_path: Path) -> None:
    """Also without #!, and where a remark or another word has their name; helpers and pytest's own files are used."""
    folder = shop(
        tmp_path,
        "many",
        checks={"total.py": "#!/usr/bin/env python3\n# later: extra\nimport helper\ntotal = 1\n"},
    )
    used = {
        "helper.py": "from cases import one\n",
        "cases/one.py": "one = 1\n",
        "conftest.py": "",
        "data.txt": "1\n",
    }
    write_files(
        folder / "checks", {**used, "more/total.py": "1\n", "extra.sh": "true\n", "x/a.test.js": "1;\n"}
    )
    found = look_at_folder(load_task(folder), folder / "repo")
    told = {finding.what.partition(" ")[0] for finding in found if finding.kind == "check_never_run"}
    assert told == {"checks/more/total.py", "checks/extra.sh", "checks/x/a.test.js"}


def test_prompts_that_name_what_is_not_there(tmp_path: Path) -> None:
    """In words, in code, in links, with @, as a folder; what is there, or no file, is not told."""
    prompt = (
        "See @docs/rules.md, `examples/` and [this](docs/a.md), run `make` with `Makefile`, /home/user/repo/shops.py.\n"
        "In `shop.py`, @README.md and `tests/`; ask a@b.py, https://example.com/x.html, `/api/total`, `npm run x`.\n"
    )
    folder = shop(tmp_path, "names", prompts={"prompt.md": prompt})
    starter = {name: text.encode() for name, text in STARTER.items()}
    found = look_at_prompts(load_task(folder), starter, starter, "")
    told = {finding.what.split("'")[1] for finding in found}
    assert told == {"docs/rules.md", "examples/", "docs/a.md", "Makefile", "shops.py"}


def test_what_looks_like_a_task_is_told_without_a_sandbox(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manifest under another name, and a prompt alone."""
    write_files(tmp_path, {"upper/Task.toml": "schema = 1\n", "alone/prompt.md": "Do it.\n"})
    write_files(tmp_path, {"broken/task.toml": 'schema = 1\nsandbox = { template = "no/Dockerfile" }\n'})
    assert main(["validate", str(tmp_path)]) == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "upper: error: manifest_name: Task.toml is no task's manifest" in told
    assert "alone: error: no_manifest: there is a prompt.md and no task.toml" in told
    assert "broken: error: task:" in told
    assert "'no/Dockerfile' is nowhere" in told


def test_a_folder_without_tasks_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the command that makes one."""
    assert main(["validate", str(tmp_path)]) == 2
    assert "harness new NAME" in capsys.readouterr().err


@pytest.mark.usefixtures("as_e2b")
def test_whoever_is_terminated_leaves_nothing_behind(tmp_path: Path, as_e2b: LocalServer) -> None:
    """SIGTERM ends it in order, as Ctrl-C does."""
    shop(tmp_path, "slow", checks={"waits.sh": "#!/bin/sh\nsleep 600\n"})
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    command = [sys.executable, "-c", "from harness.cli import program; program()", "validate", str(tmp_path)]
    with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}) as validating:
        while not any(temporary.glob("harness-validate-*/*/trials")):
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert validating.wait(0.05) is None
        validating.terminate()
        assert validating.wait(60) == 128 + signal.SIGTERM
    assert not any(temporary.glob("harness-*"))


def test_an_unknown_template_and_a_missing_solution(tmp_path: Path, as_e2b: LocalServer) -> None:
    """Are told as such."""
    folder = shop(tmp_path, "lost", toml='[sandbox]\ntemplate = "nobody-knows"\n')
    (folder / "solution/shop.py").unlink()
    (folder / "solution").rmdir()
    found = reports(tmp_path, Effort(times=1, mutants=0))["lost"]
    assert kinds(found) == {"no_solution", "cannot_run"}
    assert any("nobody-knows" in finding.what for finding in found.findings)
