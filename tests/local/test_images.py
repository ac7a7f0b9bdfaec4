"""Images without an engine: where they come from, and what their layers come to."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.local.images.errors import ImageError
from harness.local.images.manifest import this_architecture
from harness.local.images.reference import LocalImage, RegistryImage, parse_reference
from harness.local.images.registry import CREDENTIALS, MIRRORS, RegistryClient
from harness.local.images.store import ImageStore, open_image
from harness.local.images.unpack import ImageLimits, Owners, Root, capability_of
from harness.local.state import StartError, open_state, remove_built
from tests.support.images import Image, Registry, digest, entry, folder, index_of, layer, link

IS_ROOT = os.geteuid() == 0
OWNERS = Owners(300_000 if IS_ROOT else None)
Entries = list[tuple[tarfile.TarInfo, bytes]]


def unpack(tmp_path: Path, *layers: Entries) -> Path:
    """The root of an image of these layers, by way of an OCI layout."""
    image = Image.of([layer(one) for one in layers])
    path = image.write_layout(tmp_path / f"image-{len(os.listdir(tmp_path))}")
    return ImageStore(tmp_path / "store", OWNERS).get(open_image(f"oci:{path}")).root


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_layers_lie_over_each_other_as_in_a_container(tmp_path: Path) -> None:
    """Whiteouts, opaque folders, replaced kinds, links of lower layers: what stands in the end is what Docker shows."""
    root = unpack(
        tmp_path,
        [
            folder("usr/lib"), entry("usr/lib/old", b"old"), link("lib", "usr/lib"),
            folder("gone"), entry("gone/a"), folder("opaque"), entry("opaque/lower"),
            entry("file-then-folder"), folder("folder-then-file"), entry("folder-then-file/x"),
            entry("kept", b"kept"),
        ],
        [
            # The folder above is a link of the layer below, and its own entry is not in this layer.
            entry("lib/new", b"new"),
            entry(".wh.gone"),
            # An opaque folder keeps what its own layer has brought, wherever in the layer its mark stands.
            entry("opaque/upper"), entry("opaque/.wh..wh..opq"),
            folder("file-then-folder"), entry("folder-then-file", b"file"),
            link("hard", "kept", hard=True),
            entry("made/for/it"),
        ],
    )  # fmt: skip
    assert names(root) == {
        *(
            "usr",
            "usr/lib",
            "usr/lib/old",
            "usr/lib/new",
            "lib",
            "opaque",
            "opaque/upper",
            "file-then-folder",
        ),
        *("folder-then-file", "kept", "hard", "made", "made/for", "made/for/it"),
    }
    assert os.readlink(root / "lib") == "usr/lib"
    assert (root / "hard").samefile(root / "kept")
    assert (root / "folder-then-file").read_bytes() == b"file"
    assert stat.S_IMODE((root / "made").stat().st_mode) == 0o755


@pytest.mark.skipif(not IS_ROOT, reason="owners need root")
def test_owners_modes_attributes_and_times_are_the_images(tmp_path: Path) -> None:
    """Setuid survives the change of owner; capabilities hold for the sandbox's root, and for nobody on this machine."""
    capability = b"\x01\x00\x00\x02" + b"\x00\x20\x00\x00" + bytes(12)
    text = capability.decode("utf-8", "surrogateescape")
    attributes = {"SCHILY.xattr.user.mine": "1", "SCHILY.xattr.user.overlay.opaque": "y"}
    root = unpack(
        tmp_path,
        [
            entry("su", b"x", mode=0o4755, uid=0, gid=5, mtime=1_600_000_000),
            entry("ping", b"x", mode=0o755, pax_headers={"SCHILY.xattr.security.capability": text}),
            folder("home", uid=1000, gid=1000, mode=0o2750, mtime=1_500_000_000),
            entry("home/x", uid=1000, gid=1000, pax_headers=attributes),
            entry("dev", kind=tarfile.CHRTYPE),
        ],
    )
    su, home = (root / "su").stat(), (root / "home").stat()
    assert (stat.S_IMODE(su.st_mode), su.st_uid, su.st_gid, su.st_mtime) == (
        0o4755,
        300_000,
        300_005,
        1_600_000_000,
    )
    assert (stat.S_IMODE(home.st_mode), home.st_uid, home.st_mtime) == (0o2750, 301_000, 1_500_000_000)
    assert os.listxattr(root / "home/x") == ["user.mine"]
    assert os.getxattr(root / "ping", "security.capability") == capability_of(capability, 300_000)
    assert not (root / "dev").exists()
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("../evil")], "leads out of the image"),
        ([entry("a/../../evil")], "leads out of the image"),
        ([entry("a/.wh...")], "takes away no file"),
        ([link("x", "../../etc/passwd", hard=True)], "leads out of the image"),
        ([link("x", "nowhere", hard=True)], "cannot be unpacked"),
        ([entry("a"), entry("a/b")], "is below a file"),
        ([link("loop", "loop"), entry("loop/x")], "cannot be reached"),
    ],
)
def test_what_no_image_has_is_refused(tmp_path: Path, entries: Entries, why: str) -> None:
    """With its reason, and nothing is left of the image."""
    with pytest.raises(ImageError, match=why):
        unpack(tmp_path, entries)
    assert os.listdir(tmp_path / "store" / "chains") == []


_NAMES = st.sampled_from(
    ["a", "b", "a/b", "a/b/c", "/a", "./a", "../x", "a/../b", "a//b", ".", "..", "out/x", "out"]
)
_TARGETS = st.sampled_from(["a", "/", "..", "../../..", "/etc", "../outside", "b", "."])
_ENTRIES = st.lists(
    st.one_of(
        st.builds(lambda name: entry(name, b"evil"), _NAMES),
        st.builds(folder, _NAMES),
        st.builds(link, _NAMES, _TARGETS),
        st.builds(lambda name, target: link(name, target, hard=True), _NAMES, st.one_of(_NAMES, _TARGETS)),
        st.builds(lambda name: entry(f"{name}/.wh..wh..opq"), _NAMES),
        st.builds(
            lambda name: entry(os.path.join(os.path.dirname(name), f".wh.{os.path.basename(name)}")), _NAMES
        ),
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(st.lists(_ENTRIES, min_size=1, max_size=3))
def test_no_layer_reaches_out_of_its_root(
    tmp_path_factory: pytest.TempPathFactory, layers: list[Entries]
) -> None:
    """Whatever links and names it has: what lies beside the root is as it was."""
    beside = tmp_path_factory.mktemp("beside")
    (beside / "outside").mkdir()
    (beside / "outside" / "x").write_text("mine")
    root = beside / "root"
    root.mkdir()
    unpacked = Root(root, OWNERS)
    for one in layers:
        try:
            unpacked.apply(_stream(layer(one)))
        except ImageError:
            break
    assert sorted(os.listdir(beside)) == ["outside", "root"]
    assert os.listdir(beside / "outside") == ["x"]
    assert (beside / "outside" / "x").read_text() == "mine"
    assert (beside / "outside" / "x").stat().st_nlink == 1


def _stream(data: bytes) -> Any:
    import io

    return io.BytesIO(data)


@settings(max_examples=100)
@given(st.binary(max_size=2000), st.integers(0, 3000), st.binary(min_size=1, max_size=20))
def test_a_broken_layer_is_an_error_of_the_image(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int, damage: bytes
) -> None:
    """Noise, and a good layer with damage anywhere, come to an ImageError or to files, and to nothing else."""
    good = bytearray(layer([folder("a"), entry("a/x", b"1" * 600), link("y", "a/x", hard=True)]))
    good[place : place + len(damage)] = damage
    for data in (noise, bytes(good)):
        root = tmp_path_factory.mktemp("root")
        try:
            Root(root, OWNERS).apply(_stream(data))
        except ImageError:
            continue


def test_a_bomb_is_cut_off(tmp_path: Path) -> None:
    """An image's bounds count what is unpacked, not what was sent."""
    image = Image.of([layer([entry("zeros", bytes(3_000_000))])])
    path = image.write_layout(tmp_path / "image")
    store = ImageStore(tmp_path / "store", OWNERS, lambda: ImageLimits(bytes=1_000_000))
    with pytest.raises(ImageError, match=r"more .*bytes than this machine"):
        store.get(open_image(f"oci:{path}"))


@pytest.mark.skipif(importlib.util.find_spec("zstandard") is not None, reason="this Python reads them")
def test_a_layer_that_this_python_cannot_read_says_what_would_help(tmp_path: Path) -> None:
    packed = b"\x28\xb5\x2f\xfd" + bytes(20)
    image = Image.of([layer([entry("a")])])
    about = json.loads(image.manifest)
    about["layers"][0]["digest"] = digest(packed)
    manifest = json.dumps(about).encode()
    image = Image({**image.blobs, digest(packed): packed, digest(manifest): manifest}, manifest)
    with pytest.raises(ImageError, match="pip install zstandard"):
        ImageStore(tmp_path / "store", OWNERS).get(
            open_image(f"oci:{image.write_layout(tmp_path / 'image')}")
        )


def test_a_layer_is_held_to_both_of_its_digests(tmp_path: Path) -> None:
    """To the manifest's as it came, and to the configuration's as it was unpacked."""
    image = Image.of([layer([entry("a")])])
    blob = json.loads(image.manifest)["layers"][0]["digest"]
    path = image.write_layout(tmp_path / "image")
    (path / "blobs/sha256" / blob.removeprefix("sha256:")).write_bytes(b"other")
    with pytest.raises(ImageError, match="other bytes than its digest"):
        ImageStore(tmp_path / "store", OWNERS).get(open_image(f"oci:{path}"))
    image = Image.of([layer([entry("a")])])
    lying = Image.of([layer([entry("b")])])
    about = json.loads(lying.manifest)
    about["layers"] = json.loads(image.manifest)["layers"]
    lying = Image({**image.blobs, **lying.blobs}, json.dumps(about).encode())
    lying.blobs[digest(lying.manifest)] = lying.manifest
    with pytest.raises(ImageError, match="not what the image's configuration says"):
        ImageStore(tmp_path / "store", OWNERS).get(
            open_image(f"oci:{lying.write_layout(tmp_path / 'lying')}")
        )


def test_an_archive_of_docker_save(tmp_path: Path) -> None:
    """Its images are known by their tags, and what starts in them is taken over."""
    plain = layer([entry("app/x", b"1")])
    config = {"Env": ["A=1"], "WorkingDir": "/app", "User": "me", "Entrypoint": ["/run"], "Cmd": ["x"]}
    about = json.dumps(
        {
            "architecture": this_architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"diff_ids": [digest(plain)]},
        }
    ).encode()
    images = [{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["l/layer.tar"]}]
    archive = tmp_path / "saved.tar"
    archive.write_bytes(
        layer(
            [
                entry("manifest.json", json.dumps(images).encode()),
                entry("c.json", about),
                entry("l/layer.tar", plain),
            ]
        )
    )
    for name in (str(archive), f"docker-archive:{archive}:app:1"):
        image = ImageStore(tmp_path / "store", OWNERS).get(open_image(name))
        assert (image.root / "app/x").read_bytes() == b"1"
        found = image.config
        assert (found.env, found.workdir, found.user, found.command) == (
            {"A": "1"},
            "/app",
            "me",
            ("/run", "x"),
        )
    with pytest.raises(ImageError, match="it has app:1"):
        open_image(f"{archive}:app:2").manifest()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_tar_of_a_root_file_system_is_an_image(tmp_path: Path, mode: Any) -> None:
    """As `mmdebstrap` and `docker export` write it, with the folder itself as the first entry or without."""
    archive = tmp_path / "root.tar"
    with tarfile.open(archive, mode) as file:
        for info, data in [folder("./"), folder("./usr"), entry("./usr/x", b"1"), link("./bin", "usr")]:
            file.addfile(info, io.BytesIO(data))
    image = ImageStore(tmp_path / "store", OWNERS).get(open_image(str(archive)))
    assert (image.root / "bin/x").read_bytes() == b"1"
    assert (image.config.env, image.config.workdir, image.config.user) == ({}, "/", "")
    with pytest.raises(ImageError, match="is a root file system, and has no image x"):
        open_image(f"{archive}:x").manifest()
    archive.write_bytes(layer([entry("app/x")]))
    with pytest.raises(ImageError, match="no folder usr"):
        open_image(str(archive)).manifest()


def test_a_registry_with_a_token_and_an_index(tmp_path: Path) -> None:
    """This machine's image of the index is taken; the password goes for the token, and nowhere else."""
    mine = Image.of([layer([entry("mine")])])
    other = Image.of([layer([entry("other")])], architecture="s390x")
    with Registry(login=("me", "pass:word")) as registry:
        registry.add("1", mine, other, index=index_of({"s390x": other, this_architecture(): mine}))
        docker = tmp_path / "docker"
        docker.mkdir()
        auth = base64.b64encode(b"me:pass:word").decode()
        (docker / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))
        image = RegistryImage(registry.host, "team/app", "1")
        for env in (
            {"DOCKER_CONFIG": str(docker)},
            {CREDENTIALS: f"{registry.host}=me:pass:word", "HOME": "/"},
        ):
            client = RegistryClient(image, env=env)
            root = ImageStore(tmp_path / f"store-{len(env)}", OWNERS).get(client).root
            assert names(root) == {"mine"}
        with_password = {
            path.partition("?")[0] for path, login in registry.asked if (login or "").startswith("Basic")
        }
        assert with_password == {"/token"}
        with pytest.raises(ImageError, match="docker login"):
            RegistryClient(image, env={"HOME": str(tmp_path)}).manifest()


def test_a_mirror_is_asked_first(tmp_path: Path) -> None:
    """And the registry's own errors are told where no mirror has it."""
    with Registry() as mirror:
        mirror.add("3", Image.of([layer([entry("x")])]))
        env = {MIRRORS: f"docker.io={mirror.origin}", "HOME": str(tmp_path)}
        assert RegistryClient(RegistryImage("docker.io", "library/app", "3"), env=env).manifest()
        assert mirror.asked[0][0] == "/v2/library/app/manifests/3"
        wrong = RegistryClient(RegistryImage(mirror.host, "app", "4"), env={"HOME": str(tmp_path)})
        with pytest.raises(ImageError, match="there is no app:4"):
            wrong.manifest()


def test_an_image_of_another_architecture_is_refused(tmp_path: Path) -> None:
    image = Image.of([layer([entry("x")])], architecture="s390x")
    path = image.write_layout(tmp_path / "image")
    with pytest.raises(ImageError, match="is for linux/s390x"):
        open_image(f"oci:{path}").manifest()


def test_names_of_images(tmp_path: Path) -> None:
    """As Docker reads them; folders and archives by their absolute paths."""
    (tmp_path / "image").mkdir()
    hex_ = "a" * 64
    known = {
        "python": RegistryImage("docker.io", "library/python", "latest"),
        "python:3.13-slim": RegistryImage("docker.io", "library/python", "3.13-slim"),
        "team/app": RegistryImage("docker.io", "team/app", "latest"),
        "localhost/app:1": RegistryImage("localhost", "app", "1"),
        "h.example:5000/a/b/c:1": RegistryImage("h.example:5000", "a/b/c", "1"),
        f"ghcr.io/a/b:1@sha256:{hex_}": RegistryImage("ghcr.io", "a/b", f"sha256:{hex_}"),
        f"oci:{tmp_path}/image": LocalImage(tmp_path / "image"),
        f"{tmp_path}/image:v1": LocalImage(tmp_path / "image", "v1"),
    }
    assert {text: parse_reference(text) for text in known} == known
    for bad in ("", "UPPER/x", "a b", "x@sha256:12", "./image", "oci:rel", f"{tmp_path}/no", "a/../b"):
        with pytest.raises(ImageError):
            parse_reference(bad)


def test_images_are_removed_when_no_server_stands_on_them() -> None:
    top = Path(tempfile.mkdtemp())  # pytest's own folders may not be entered by other accounts
    top.chmod(0o711)
    root = top / "state"
    state = open_state(root)
    (root / "images-1" / "chains").mkdir(parents=True)
    (root / "templates-3").mkdir()
    with pytest.raises(StartError, match="is running"):
        remove_built(root)
    state.remove()
    assert [path.name for path in remove_built(root)] == ["images-1", "templates-3"]
    assert os.listdir(root) == ["lock"]
