"""Patterns of files mean the same for Python and for the find of a sandbox, whatever files are called."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.tasks.globs import any_glob_regex, fits_stars, fixed_start, is_pattern, matching_files

NAMES = st.text(st.sampled_from("ab.*?[]()+^$|{}\\ \n'\"é-@"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..", ".git")
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
PATTERNS = st.lists(
    st.one_of(st.just("**"), st.text(st.sampled_from("ab.*?()+^$|{} -@"), min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
).map("/".join)


def found(folder: Path, patterns: list[str]) -> list[str]:
    """The names that GNU find tells."""
    expression = rf"\./{any_glob_regex(patterns)}"
    command = [
        "find",
        ".",
        "-regextype",
        "posix-extended",
        "!",
        "-type",
        "d",
        "-regex",
        expression,
        "-print0",
    ]
    done = subprocess.run(
        command, cwd=folder, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert done.stderr == b""
    return sorted(name.decode().removeprefix("./") for name in done.stdout.split(b"\0")[:-1])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paths=st.lists(PATHS, max_size=8), patterns=st.lists(PATTERNS, min_size=1, max_size=3))
def test_find_reads_a_pattern_as_python_does(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], patterns: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("repo")
    for path in paths:
        file = folder / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        except OSError:  # a file has the name of a folder
            continue
    assert matching_files(folder, patterns) == found(folder, patterns)


@pytest.mark.parametrize(
    ("pattern", "fits", "others"),
    [
        ("tests/**", ["tests/a", "tests/b/.c"], ["test/a", "a/tests/a"]),
        ("**/conftest.py", ["conftest.py", "a/b/conftest.py"], ["a/conftest_py", "xconftest.py"]),
        ("a*c/d", ["ac/d", "abc/d"], ["a/c/d", "ab/c/d"]),
        ("t?.py", ["t1.py"], ["t/.py", "t.py"]),
        ("[!a]b", ["xb"], ["ab", "/b"]),
        ("[a-c]1", ["b1"], ["d1"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
    ],
)
def test_a_pattern_is_what_bash_takes_it_for(
    tmp_path: Path, pattern: str, fits: list[str], others: list[str]
) -> None:
    for path in (*fits, *others):
        file = tmp_path / path.lstrip("/")
        if not file.exists() and not file.parent.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.is_dir():
                file.touch()
    assert sorted(fits) == matching_files(tmp_path, [pattern]) == found(tmp_path, [pattern])


@pytest.mark.parametrize("bad", ["a\\*", "a[b", "[[:alpha:]]", "[z-a]", "", "[/]"])
def test_what_not_every_reader_takes_alike_is_no_pattern(bad: str) -> None:
    assert not is_pattern(bad)
    assert is_pattern("tests/[a-z_]*/**")


def test_the_fixed_start_ends_before_the_first_wildcard() -> None:
    assert [fixed_start(one) for one in ("tests/*.py", "pytest.ini", "**", "a[b]")] == [
        "tests/",
        "pytest.ini",
        "",
        "a",
    ]


@given(st.text("ab*", max_size=5), st.text("ab\n", max_size=6))
def test_a_star_is_any_text(pattern: str, name: str) -> None:
    """And nothing else in a pattern of names has a meaning; a name that is made for it takes no time."""
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert fits_stars(pattern, name) == bool(re.fullmatch(expression, name, re.DOTALL))
    assert not fits_stars("*a" * 20 + "*b", "a" * 100_000)
