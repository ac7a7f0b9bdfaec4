"""Mutants of a solution: what they change, and what they leave alone."""

from __future__ import annotations

import ast

from harness.authoring.mutants import Change, Mutant, judged_changes, mutants

BEFORE = "def total(prices):\n    return 0\n"
AFTER = '''"""Sums."""
LIMIT = 100


def total(prices, rate=2):
    """Add them up, "all" of them."""
    found = 0
    for price in prices:
        if price > LIMIT and not price == 7:
            found += price * rate
    # a remark with 5 == 5
    return found
'''


def made(before: str | None, after: str, path: str = "shop.py") -> list[Mutant]:
    change = Change(path, before.encode() if before is not None else None, after.encode())
    return list(mutants([change], seed="task"))


def test_mutants_of_python_parse_and_mean_something_else() -> None:
    """Each differs in its tree, without docstrings and remarks; conditions, constants and statements are among them."""
    found = made(BEFORE, AFTER)
    trees = [ast.dump(ast.parse(mutant.content or b"")) for mutant in found]
    assert len(set(trees)) == len(trees) >= 8
    assert all(
        b"remark with 5 == 5" in (mutant.content or b"")
        for mutant in found[2:]
        if b"def" in mutant.diff.encode()
    )
    assert {mutant.how for mutant in found} >= {
        "the file as it was before",
        "a condition is turned",
        "a constant is changed",
        "a statement is dropped",
        "nothing is returned",
    }
    assert not any(
        "Add them" in line for mutant in found for line in mutant.diff.splitlines() if line[:1] == "+"
    )


def test_the_same_seed_gives_the_same_mutants() -> None:
    """In the same order."""
    assert made(BEFORE, AFTER) == made(BEFORE, AFTER)


def test_only_what_the_solution_wrote_is_mutated() -> None:
    """Lines that the starter has already are left as they are."""
    before = "a = 1\nb = 2\n"
    for mutant in made(before, before + "c = 3\n"):
        assert (mutant.content or b"").startswith(before.encode())


def test_hunks_are_dropped_one_by_one() -> None:
    """Where there are several."""
    before = "".join(f"line_{number} = {number}\n" for number in range(20))
    after = before.replace("line_3 = 3", "line_3 = 33").replace("line_15 = 15", "line_15 = 55")
    dropped = {mutant.content for mutant in made(before, after) if mutant.how == "a hunk is dropped"}
    assert dropped == {
        before.replace("line_3 = 3\n", "line_3 = 33\n").encode(),
        before.replace("line_15 = 15\n", "line_15 = 55\n").encode(),
    }


def test_other_languages() -> None:
    """Conditions of JavaScript and shell are turned outside of comments; JSON stays JSON."""
    script = made(None, "// a === b\nif (a === b && c) {\n  go(1);\n}\n", "a.js")
    assert any(b"if (a !== b && c)" in (mutant.content or b"") for mutant in script)
    inside = [one for one in script if one.how.startswith("a c")]
    assert all((mutant.content or b"").startswith(b"// a === b") for mutant in inside)
    shell = made(None, '#!/bin/sh\n# -eq\nif [ "$1" -eq 3 ]; then\n  echo done\nfi\n', "tool")
    assert any(b'[ "$1" -ne 3 ]' in (mutant.content or b"") for mutant in shell)
    data = made(None, '{"a": 1, "b": ["x"]}\n', "a.json")
    assert {b'{"a": 2, "b": ["x"]}\n', b'{"a": 1, "b": ["xx"]}\n'} <= {mutant.content for mutant in data}


def test_prose_and_tests_beside_code_are_not_judged() -> None:
    """Unless the checks name the prose, or there is nothing else."""
    names = ["README.md", "src/a.py", "tests/test_a.py"]
    changes = {name: Change(name, None, b"x") for name in names}
    assert [one.path for one in judged_changes(changes, "")] == ["src/a.py"]
    assert [one.path for one in judged_changes(changes, "grep x README.md")] == ["README.md", "src/a.py"]
    only = {"tests/test_a.py": changes["tests/test_a.py"]}
    assert [one.path for one in judged_changes(only, "")] == ["tests/test_a.py"]
