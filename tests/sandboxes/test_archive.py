"""Archives: what of a folder goes into one, and how one gets into a sandbox."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.sandboxes.archive import pack, unpack_command
from tests.support.folders import write_files


def names(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {info.name: info for info in archive}


def test_a_folder_is_packed_without_its_leftovers(tmp_path: Path) -> None:
    """No caches, no history; owners, times and odd bits are everybody's, links stay links."""
    write_files(
        tmp_path,
        {"a.py": "a", "b/run.sh": "b", ".git/HEAD": "ref", "b/__pycache__/a.pyc": "c", ".DS_Store": ""},
    )
    (tmp_path / "b" / "run.sh").chmod(0o777)
    (tmp_path / "a.py").chmod(0o400)
    (tmp_path / "link").symlink_to("a.py")
    found = names(pack({}, {".": tmp_path}))
    assert sorted(found) == [".", "./a.py", "./b", "./b/run.sh", "./link"]
    assert (found["./b/run.sh"].mode, found["./a.py"].mode) == (0o755, 0o600)
    assert found["./link"].linkname == "a.py"
    assert {(info.uid, info.uname, info.mtime) for info in found.values()} == {(0, "", 1735689600)}


def test_the_same_content_is_the_same_bytes(tmp_path: Path) -> None:
    """Whenever and wherever it was written."""
    files = {"src/app.py": "print('app')\n", "conftest.py": "# starter\n", "tests/data/in.txt": "in\n"}
    for name in ("one", "two"):
        write_files(tmp_path / name, dict(sorted(files.items(), reverse=name == "two")))
    assert pack({}, {"repo": tmp_path / "one"}) == pack({}, {"repo": tmp_path / "two"})


def test_a_version_is_packed_once(tmp_path: Path) -> None:
    """All trials of it get the same, whatever becomes of the folder meanwhile; another version is packed anew."""
    write_files(tmp_path, {"a": "a", "b": "b"})
    paths, one, two = {"repo": tmp_path}, {"repo": "one"}, {"repo": "two"}
    first = pack({}, paths, one)
    write_files(tmp_path, {"a": "longer"})
    (tmp_path / "b").unlink()
    assert pack({}, paths, one) == first
    assert sorted(names(first)) == ["repo", "repo/a", "repo/b"]
    assert sorted(names(pack({}, paths, two))) == ["repo", "repo/a"]
    assert pack({}, paths) == pack({}, paths, two)


def test_a_large_archive_is_zipped_and_whole(tmp_path: Path) -> None:
    """A large folder, which is zipped once, and what is small beside it; for any tar."""
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "large").write_bytes(bytes(300_000))
    data = pack({"prompt.md": b"do it"}, {"repo": tmp_path / "repo"})
    assert len(data) < 10_000
    (tmp_path / "packed.tar").write_bytes(data)
    subprocess.run(["tar", "-xf", "packed.tar", "-C", "."], cwd=tmp_path, check=True)
    assert (tmp_path / "prompt.md").read_bytes() == b"do it"
    assert sorted(names(data)) == ["prompt.md", "repo", "repo/large"]


@given(
    st.one_of(
        st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    )
)
@example(bytes(9) + b"07%d\\0\\x4'\n" + bytes(1))
@settings(max_examples=60)
def test_what_goes_with_a_command_arrives(content: bytes) -> None:
    """Any bytes, through a real bash and a real tar."""
    with tempfile.TemporaryDirectory() as folder:
        command = unpack_command(pack({"-a": content, "b": b""}, {}))
        assert command
        subprocess.run(["bash", "-c", command], cwd=folder, check=True)
        assert Path(folder, "-a").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        (b"text%" * 4_000, True),
        (b"text%" * 30_000, False),
        (b"text%" * 2_000_000, True),
        (random.Random(1).randbytes(20_000), True),
        (random.Random(1).randbytes(70_000), True),
        (random.Random(1).randbytes(110_000), False),
        (random.Random(1).randbytes(5_000_000), False),
    ],
    ids=["text", "much text", "text to zip", "noise", "more noise", "much noise", "noise to zip"],
)
def test_only_what_fits_goes_with_a_command(tmp_path: Path, content: bytes, fits: bool) -> None:
    """The kernel takes so much for an argument; for more than that there is no such command."""
    command = unpack_command(pack({"a": content}, {}))
    assert (command is not None) == fits
    if command:
        assert len(command) < 128 * 1024
        subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
        assert (tmp_path / "a").read_bytes() == content


def test_a_linked_folder_is_packed_as_a_folder(tmp_path: Path) -> None:
    """A task may have its repo by a link."""
    write_files(tmp_path / "real", {"a": "a"})
    (tmp_path / "repo").symlink_to("real")
    assert sorted(names(pack({}, {"repo": tmp_path / "repo"}, {"repo": "1"}))) == ["repo", "repo/a"]
