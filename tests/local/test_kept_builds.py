"""What servers keep for later ones: it shares files, and is bounded."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from e2b import Sandbox, Template

from harness.local.boxes.equal_files import share_equal_files
from harness.local.builds.store import Build, Layer, TemplateRecord, TemplateStore
from harness.local.images.kept import KeptImages
from harness.local.kept import UNUSED_S, trim
from harness.local.launch import LocalServer, start_server
from harness.local.template import Template as TemplateOfServer


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where servers keep what they have, with no other server in it."""
    with tempfile.TemporaryDirectory(prefix="harness-tests-") as folder:
        os.chmod(folder, 0o711)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder) / f"harness-local-{os.geteuid()}"


def make_trees(folder: Path) -> tuple[Path, Path]:
    """Two trees: a copy of the other in which some files have changed, in ways that are easily missed."""
    earlier, copy = folder / "earlier", folder / "copy"
    for tree in (earlier, copy):
        (tree / "deep").mkdir(parents=True)
        for name in ("same", "touched", "chmodded", "described", "deep/same", "rewritten"):
            (tree / name).write_bytes(b"0" * 5000)
            os.utime(tree / name, ns=(0, 10**9))
        (tree / "link").symlink_to("same")
        os.utime(tree / "deep", ns=(0, 10**9))
    (copy / "rewritten").write_bytes(b"1" * 5000)
    os.utime(copy / "rewritten", ns=(0, 10**9))
    os.utime(copy / "touched")
    (copy / "chmodded").chmod(0o600)
    os.setxattr(copy / "described", "user.e2b.a", b"1")
    (copy / "new").write_bytes(b"0" * 5000)
    outside = folder / "outside"
    for place in (outside, copy / "away"):  # a link of the earlier tree's that leads out
        place.mkdir()
        (place / "same").write_bytes(b"0" * 5000)
        os.utime(place / "same", ns=(0, 10**9))
    (earlier / "away").symlink_to(outside)
    return earlier, copy


def test_only_files_that_are_equal_in_all_are_shared(tmp_path: Path) -> None:
    """Content, mode, time and attributes: what differs in one stays as it is, and folders do not show it. No link is
    followed."""
    earlier, copy = make_trees(tmp_path)
    assert share_equal_files(str(copy), str(earlier)) == 2 * (earlier / "same").stat().st_blocks * 512
    names = [
        str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file() and not path.is_symlink()
    ]
    shared = {name for name in names if (earlier / name).exists() and (earlier / name).samefile(copy / name)}
    assert shared == {"same", "deep/same"}
    assert (copy / "rewritten").read_bytes() == b"1" * 5000
    assert (copy / "deep").stat().st_mtime_ns == 10**9
    assert not (copy / ".link").exists()


def test_names_of_one_file_stay_names_of_one_file_and_no_others_become_so(tmp_path: Path) -> None:
    """Who writes into one of two names sees it in the other; a copy of a file that has become its own stays so."""
    earlier, copy = tmp_path / "earlier", tmp_path / "copy"
    for tree in (earlier, copy):
        tree.mkdir()
        for name in ("one", "split", "half"):
            (tree / name).write_bytes(b"0" * 5000)
            os.utime(tree / name, ns=(0, 10**9))
    for tree, name in ((earlier, "one"), (copy, "one"), (earlier, "split"), (copy, "half")):
        os.link(tree / name, tree / f"{name}2")
    (copy / "split2").write_bytes(b"0" * 5000)
    os.utime(copy / "split2", ns=(0, 10**9))
    share_equal_files(str(copy), str(earlier))
    assert (copy / "one").samefile(earlier / "one")
    assert (copy / "one").samefile(copy / "one2")
    assert not (copy / "split").samefile(copy / "split2")
    assert (copy / "half").samefile(copy / "half2")


def add_layer(store: TemplateStore, key: str, age_s: float, bytes_: int = 4096) -> None:
    folder = store.make_layer_folder()
    (folder / "file").write_bytes(b"0" * bytes_)
    store.add_layer(Layer(key, files=key), folder)
    os.utime(store.layer_path(key).parent.parent / "used" / key, (time.time() - age_s,) * 2)


def add_build(store: TemplateStore, name: str, layers: tuple[str, ...], root: str = "base") -> None:
    now = datetime.now(UTC)
    build = Build(f"build-{name}", root, Layer(layers[-1], files=layers[-1]), None, layers, (), now, now)
    store.save_record(TemplateRecord(name, name, now).with_build(build).with_tags(build.id, ("default",)))


def test_what_was_not_used_the_longest_goes_first(tmp_path: Path) -> None:
    """Above the bound. What a build was made by has been used when it was, and a build goes with its own files."""
    trash, store = tmp_path / "trash", TemplateStore(tmp_path / "templates")
    trash.mkdir()
    for key, age_s in (("old", 900), ("below", 800), ("used", 10), ("new", 5), ("loose", 500)):
        add_layer(store, key, age_s, 1 << 20)
    add_build(store, "a", ("old",))
    add_build(store, "b", ("below", "used"))
    add_build(store, "c", ("below", "new"))
    record = next(one for one in store.list_records() if one.name == "c")
    store.make_template(
        record, *record.builds.values(), TemplateOfServer(name="base", id="base", build_id="")
    )
    trim([store], [], int(3.5 * (1 << 20)), trash)
    assert {path.name for path in (tmp_path / "templates/layers").iterdir()} == {"below", "used", "new"}
    assert {record.name for record in store.list_records()} == {"b", "c"}
    trim([store], [], int(2.5 * (1 << 20)), trash)
    assert [record.name for record in store.list_records()] == ["c"]
    assert {path.name for path in (tmp_path / "templates/layers").iterdir()} == {"below", "new"}


def test_images_go_with_the_builds_on_them(tmp_path: Path) -> None:
    """One that was used lately stays, and what was never finished goes with the others."""
    trash, store, folder = tmp_path / "trash", TemplateStore(tmp_path / "templates"), tmp_path / "images"
    for chain, age_s in (("old", UNUSED_S + 60), ("new", 60)):
        for kind in ("chains", "added"):
            (folder / kind / chain).mkdir(parents=True)
        (folder / "images").mkdir(exist_ok=True)
        described = folder / "images" / f"image-{chain}.json"
        described.write_text(json.dumps({"chain": chain, "config": {}}))
        (folder / "used").mkdir(exist_ok=True)
        for path in (described, folder / "used" / chain):
            path.write_text(path.read_text() if path.exists() else "5")
            os.utime(path, (time.time() - age_s,) * 2)
    for path in (trash, folder / "making-1"):
        path.mkdir()
    add_layer(store, "top", 5)
    add_build(store, "a", ("top",), root="image-old")
    add_build(store, "b", ("top",), root="image-new")
    trim([store], [KeptImages(folder)], 1 << 40, trash)
    assert {path.name for path in folder.rglob("*") if "old" in path.name or "making" in path.name} == set()
    assert [record.name for record in store.list_records()] == ["b"]
    assert (folder / "chains/new").is_dir()
    assert (folder / "added/new").is_dir()


def build(server: LocalServer, name: str) -> None:
    Template.build(
        Template().from_template("base").run_cmd(f"echo {name} >made"),
        name,
        api_key=server.api_key,
        api_url=server.url,
    )


def is_there(server: LocalServer, name: str) -> bool:
    options = {"api_key": server.api_key, "api_url": server.url}
    if not Template.exists(name, **options):
        return False
    with Sandbox.create(name, sandbox_url=server.url, **options) as sandbox:
        return sandbox.files.read("made") == f"{name}\n"


def test_a_server_removes_what_was_unused_for_long_unless_another_lives(root: Path) -> None:
    """At its start, with what servers before it kept in another form; a sandbox of another server may stand on it."""
    with start_server() as first:
        build(first, "unused")
        build(first, "used")
        for path in root.glob("templates-*/used/*"):
            os.utime(path, (time.time() - UNUSED_S - 60,) * 2)
        assert is_there(first, "used")
        with start_server() as second:
            assert is_there(second, "used")
            assert len([*root.glob("templates-*/layers/*")]) == 2
    (root / "templates-1/layers").mkdir(parents=True)
    with start_server() as third:
        assert not (root / "templates-1").exists()
        assert is_there(third, "used")
        assert not is_there(third, "unused")
        assert len([*root.glob("templates-*/layers/*")]) == 1
