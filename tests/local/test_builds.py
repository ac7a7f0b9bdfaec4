"""Templates built through the official SDK, and sandboxes made from them."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import AsyncTemplate, LogEntry, Sandbox, Template, wait_for_file, wait_for_port
from e2b.exceptions import BuildException, SandboxException

from harness.local.launch import LocalServer, start_server
from tests.support.boxes import isolation, marked_processes

Api = dict[str, str]
Build = Callable[..., list[str]]

only_where_folders_can_be_mounted = pytest.mark.usefixtures("mounts")


@pytest.fixture
def mounts(server: LocalServer) -> None:
    if server.isolation != "namespaces":
        pytest.skip(f"in the {server.isolation} tier a template has only the sandbox's own folders")


@pytest.fixture
def template_api(server: LocalServer) -> Api:
    """What the SDK's builds are given."""
    return {"api_key": server.api_key, "api_url": server.url}


@pytest.fixture
def name(server: LocalServer) -> Iterator[str]:
    """A template's name that nobody else has; what is built under it goes at the end."""
    name = f"test-{secrets.token_hex(6)}"
    yield name
    delete(server, name)


def delete(server: LocalServer, name: str) -> int:
    """As E2B's CLI deletes: the SDK has no call for it."""
    url = f"{server.url}/templates/{name}"
    return httpx.delete(url, headers={"X-API-KEY": server.api_key}).status_code


@pytest.fixture
def build(template_api: Api) -> Build:
    """Builds a template, and gives back its log."""

    def run(template: Any, name: str, **options: Any) -> list[str]:
        log: list[LogEntry] = []
        Template.build(template, name, on_build_logs=log.append, **options, **template_api)
        return [entry.message for entry in log]

    return run


def fresh() -> str:
    """A value that makes the steps it is in new."""
    return secrets.token_hex(8)


def test_a_sandbox_has_what_the_steps_did(build: Build, name: str, api: Api, tmp_path: Path) -> None:
    """Files, variables, the working directory and the outcome of commands are there; the log tells of each step."""
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "one.txt").write_text("one")
    (tmp_path / "tool.sh").write_text("#!/bin/sh\necho tool in $PWD\n")
    template = (
        Template(file_context_path=tmp_path)
        .from_template("base")
        .set_envs({"MARK": fresh(), "WHERE": "$HOME/work"})
        .copy("src", "/home/user/work/")
        .copy("tool.sh", "bin/tool", mode=0o755)
        .set_workdir("/home/user/work")
        .run_cmd("echo said; cat deep/one.txt > two.txt; echo $WHERE > /tmp/where")
    )
    log = build(template, name)
    assert any(line.endswith("said") for line in log)
    with Sandbox.create(name, **api) as sandbox:
        assert sandbox.commands.run("pwd; cat two.txt; cat /tmp/where").stdout == (
            "/home/user/work\none/home/user/work\n"
        )
        assert sandbox.commands.run("echo $WHERE; ~/bin/tool").stdout.startswith("/home/user/work\ntool in")
        assert sandbox.files.read("deep/one.txt") == "one"


@only_where_folders_can_be_mounted
def test_steps_may_write_outside_of_the_home(build: Build, name: str, api: Api) -> None:
    """As on E2B, root of a build makes folders, files and links anywhere, also in the system's own; they are root's."""
    template = (
        Template()
        .from_template("base")
        .run_cmd(f"mkdir /app /opt/tool && echo {fresh()} > /app/a && ln -s /app /code", user="root")
        .run_cmd("echo b > /app/b && echo conf > /etc/tool.conf && rm -r /opt/tool", user="root")
        .run_cmd("chown -R user: /app && rm /usr/bin/yes && echo 1 > /usr/bin/no", user="root")
    )
    build(template, name)
    with Sandbox.create(name, **api) as sandbox:
        shown = sandbox.commands.run(
            "cat /code/b /etc/tool.conf; ls /app; echo mine > /app/c; cat /app/c"
        ).stdout
        assert shown == "b\nconf\na\nb\nmine\n"
        assert sandbox.commands.run("ls /opt").stdout == sandbox.commands.run("ls /opt | grep -v tool").stdout
        shown = sandbox.commands.run(
            "cat /usr/bin/no; stat -c %U:%G /usr/bin/no /app/a; ls /usr/bin/yes || true"
        )
        assert shown.stdout == "1\nroot:root\nuser:user\n"


def test_the_same_steps_are_done_once(build: Build, name: str, api: Api) -> None:
    """A second build takes every layer from the first, under another name too; from a changed step on it does not,
    nor where that is asked for."""

    def template(last: str, mark: str) -> Any:
        return Template().from_template("base").run_cmd(f"echo {mark} > a").run_cmd(last)

    mark = fresh()
    assert not [line for line in build(template("echo 1 > b", mark), name) if line.startswith("CACHED")]
    again = build(template("echo 1 > b", mark), name)
    assert len([line for line in again if line.startswith("CACHED")]) == 2
    changed = build(template("echo 2 > b", mark), name)
    assert len([line for line in changed if line.startswith("CACHED")]) == 1
    with Sandbox.create(name, **api) as sandbox:
        assert sandbox.commands.run("cat a b").stdout == f"{mark}\n2\n"
    forced = Template().from_template("base").run_cmd(f"echo {mark} > a").skip_cache().run_cmd("echo 1 > b")
    assert len([line for line in build(forced, name) if line.startswith("CACHED")]) == 1


def test_steps_share_what_they_leave_as_it_was(build: Build, name: str, api: Api) -> None:
    """A layer has no second copy of what its step has not changed; and what a sandbox writes is in no other."""
    layers = [*Path(os.environ["TMPDIR"]).glob("harness-local-*/templates-*/layers")]

    def taken() -> int:
        found = (path.lstat() for folder in layers for path in folder.rglob("*"))
        return sum({one.st_ino: one.st_blocks * 512 for one in found}.values())

    before = taken()
    template = (
        Template().from_template("base").run_cmd(f"head -c 8M /dev/urandom >big; echo {fresh()} >small")
    )
    for number in range(3):
        template = template.run_cmd(f"echo {number} >>small")
    build(template, name)
    assert taken() - before < 12 << 20
    with Sandbox.create(name, **api) as one, Sandbox.create(name, **api) as other:
        one.commands.run("echo >big")
        assert other.commands.run("stat -c %s big; tail -n 3 small").stdout == f"{8 << 20}\n0\n1\n2\n"


def test_a_changed_file_is_copied_anew(build: Build, name: str, api: Api, tmp_path: Path) -> None:
    """The cache goes by the content of what is copied."""
    for content in (fresh(), fresh()):
        (tmp_path / "data").write_text(content)
        build(Template(file_context_path=tmp_path).from_template("base").copy("data", "."), name)
        with Sandbox.create(name, **api) as sandbox:
            assert sandbox.files.read("data") == content


def test_patterns_and_folders_are_copied_as_docker_does(
    build: Build, name: str, api: Api, tmp_path: Path
) -> None:
    """A folder's content goes into the target, what a pattern matches goes below it, and what .dockerignore names
    stays out."""
    for path in ("f/a.txt", "f/b.txt", "f/skip.log", "g/in/c.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / ".dockerignore").write_text("**/*.log\n")
    template = Template(file_context_path=tmp_path).from_template("base")
    build(template.copy("f/*", "flat").copy("g", "tree").copy("f/a.txt", "renamed"), name)
    with Sandbox.create(name, **api) as sandbox:
        found = sandbox.commands.run("find flat tree renamed -type f | sort").stdout.split()
        assert found == ["flat/a.txt", "flat/b.txt", "renamed", "tree/in/c.txt"]


def test_a_start_command_runs_in_every_sandbox(build: Build, name: str, api: Api) -> None:
    """create returns when the ready command has succeeded, and the start command goes on."""
    start = f'python3 -c \'import time; time.sleep(0.3); open("up", "w"); time.sleep({1000 + len(name)})\''
    build(Template().from_template("base").set_start_cmd(start, wait_for_file("/home/user/up")), name)
    for _ in range(2):
        with Sandbox.create(name, **api) as sandbox:
            assert sandbox.files.exists("up")
            assert "time.sleep" in sandbox.commands.run("cat /proc/*/cmdline | tr '\\0' ' '").stdout


def test_templates_stand_on_templates(build: Build, name: str, api: Api, server: LocalServer) -> None:
    """A built template can be built upon; it keeps working when the one below it is deleted."""
    below = f"{name}-below"
    build(Template().from_template("claude").set_envs({"BELOW": name}).run_cmd(f"echo {fresh()} > a"), below)
    build(Template().from_template(below).run_cmd("cp a b; echo $BELOW >> b"), name)
    assert delete(server, below) == 204
    with pytest.raises(SandboxException, match="not found"):
        Sandbox.create(below, **api)
    with Sandbox.create(name, **api) as sandbox:
        assert sandbox.commands.run("tail -1 b; claude --version").stdout.startswith(name)


def test_a_dockerfile_is_built(build: Build, name: str, api: Api) -> None:
    """FROM names what this machine can stand in for; the instructions mean what they mean to Docker."""
    dockerfile = f"FROM claude\nENV A={fresh()}\nWORKDIR /home/user/w\nRUN echo $A > a\nENV B=$A-b\n"
    build(Template().from_dockerfile(dockerfile), name)
    with Sandbox.create(name, **api) as sandbox:
        assert (
            sandbox.commands.run('test "$A-b" = "$B"; test "$(cat a)" = "$A"; pwd').stdout == "/home/user/w\n"
        )


@only_where_folders_can_be_mounted
def test_an_image_whose_first_account_is_another(build: Build, name: str, api: Api, tmp_path: Path) -> None:
    """As in `node` and `ubuntu`: `user` has the next id, on disk and in what it runs, and the home is its own."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/bash\nnode:x:1000:1000::/home/node:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\nnode:x:1000:\n")
    programs = ["bash", "env", "id", "stat", "sh"]
    paths = [f"/usr/bin/{each}" for each in programs]
    linked = subprocess.run(["ldd", *paths], capture_output=True, text=True, check=True).stdout
    for path in {*paths, *re.findall(r"(/\S+) \(0x", linked)}:
        target = root / f"usr{path.removeprefix('/usr')}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for folder in ("bin", "lib", "lib64"):
        (root / folder).symlink_to(f"usr/{folder}")
    (root / "usr/local").symlink_to("/var")  # the image's own, not this machine's
    with tarfile.open(tmp_path / "image.tar", "w") as archive:
        archive.add(root, ".", filter=lambda member: member.replace(uid=0, gid=0, deep=False))
    build(Template().from_image(str(tmp_path / "image.tar")), name)
    with Sandbox.create(name, **api) as sandbox:
        said = sandbox.commands.run("id -u; echo >a; stat -c %u a ~").stdout
        assert said.split() == ["1001", "1001", "1001"]
        assert not sandbox.files.exists("/usr/local/lib")
        entry = sandbox.files.write("b", "")
        assert sandbox.files.get_info(entry.path).owner == "user"
        assert sandbox.commands.run("id -u", user="node").stdout == "1000\n"


def test_snapshots_and_forks_of_a_built_template_are_whole(build: Build, name: str, api: Api) -> None:
    """They have the template's files and the sandbox's, and its variables."""
    build(Template().from_template("base").set_envs({"A": "a"}).run_cmd(f"echo {fresh()} > made"), name)
    with Sandbox.create(name, **api) as sandbox:
        sandbox.files.write("mine", "mine")
        snapshot = sandbox.create_snapshot()
        with Sandbox.create(snapshot.snapshot_id, **api) as copy:
            assert copy.commands.run("cat mine; echo $A; test -s made").stdout == "minea\n"


def test_tags_name_builds(build: Build, name: str, api: Api, template_api: Api) -> None:
    """name:tag is one build; tags can be given, moved and taken away, and name alone means `default`."""
    for tag in ("v1", "v2"):
        build(Template().from_template("base").run_cmd(f"echo {tag} {fresh()} > tag"), f"{name}:{tag}")
    assert Template.exists(name, **template_api)
    assert not Template.exists(f"{name}-other", **template_api)
    with Sandbox.create(f"{name}:v1", **api) as sandbox:
        assert sandbox.files.read("tag").startswith("v1")
    with pytest.raises(SandboxException, match="not found"):
        Sandbox.create(name, **api)
    Template.assign_tags(f"{name}:v2", ["default", "best"], **template_api)
    with Sandbox.create(name, **api) as sandbox:
        assert sandbox.files.read("tag").startswith("v2")
    Template.remove_tags(name, "best", **template_api)
    assert {tag.tag for tag in Template.get_tags(name, **template_api)} == {"v1", "v2", "default"}


def test_a_build_is_named_by_its_id(name: str, api: Api, template_api: Api, server: LocalServer) -> None:
    """NAME:BUILD_ID and TEMPLATE_ID:BUILD_ID are that build, also after the tags have moved on. `base` has one too."""
    builds = [
        Template.build(
            Template().from_template("base").run_cmd(f"echo {number} {fresh()} > number"),
            name,
            **template_api,
        )
        for number in (1, 2)
    ]
    for build in builds:
        for reference in (f"{name}:{build.build_id}", f"{build.template_id}:{build.build_id.upper()}"):
            with Sandbox.create(reference, **api) as sandbox:
                assert sandbox.files.read("number").startswith(str(builds.index(build) + 1))
    with pytest.raises(SandboxException, match="not found"):
        Sandbox.create(f"{name}:{builds[0].build_id[:-1]}", **api)
    listed = httpx.get(f"{server.url}/templates", headers={"X-API-KEY": server.api_key}).json()
    (base,) = [one for one in listed if one["templateID"] == "base"]
    with Sandbox.create(f"base:{base['buildID']}", **api) as sandbox:
        assert sandbox.is_running()


def test_tags_are_counted_and_found(build: Build, name: str, server: LocalServer) -> None:
    """The SDK's routes for tags answer as E2B's do."""
    build(Template().from_template("base").run_cmd(f"echo {fresh()}"), f"{name}:v1")
    with httpx.Client(
        base_url=f"{server.url}/templates/{name}", headers={"X-API-KEY": server.api_key}
    ) as client:
        assert client.get("/tags/count").json() == {"total": 1}
        assert client.get("/tags/exists?tag=V1").json() == {"exists": True, "normalizedTag": "v1"}
        assert client.get("/tags/exists?tag=v2").json() == {"exists": False, "normalizedTag": "v2"}
        assert client.get("/tags/exists?tag=%20").status_code == 400


def test_a_build_in_the_background_is_followed(name: str, template_api: Api) -> None:
    """build_in_background returns at once; its status and its log, page by page, are there for who asks."""

    async def story() -> None:
        template = AsyncTemplate().from_template("base").run_cmd(f"echo {fresh()}; seq 1 250")
        info = await AsyncTemplate.build_in_background(template, name, **template_api)
        numbers: list[str] = []
        while True:
            status = await AsyncTemplate.get_build_status(info, logs_offset=len(numbers), **template_api)
            numbers += [entry.message for entry in status.log_entries]
            if status.status == "ready" and not status.log_entries:
                break
            assert status.status in ("building", "ready")
        assert [line.removeprefix("[1] ") for line in numbers][-250:] == [str(n) for n in range(1, 251)]

    asyncio.run(asyncio.wait_for(story(), 90))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (Template().from_image("golang:1.22").run_cmd("true"), "cannot be had.*from_template"),
        (Template().from_python_image("2.7").run_cmd("true"), "this machine has python 3"),
        (Template().from_template("castle").run_cmd("true"), "'castle' not found"),
        (Template().from_template("base").run_cmd("echo why >&2; exit 3"), "exit status 3"),
        (Template().from_template("base").apt_install("no-such-thing"), "no-such-thing': exit status"),
        (Template().from_template("base").set_user("king"), "no user 'king'"),
        (Template().from_template("base").run_cmd("mkfifo /home/user/f; mkdir /usr/x"), "exit status"),
        (Template().from_template("base").set_start_cmd("exit 4", "false"), "start command ended.*4"),
    ],
)
def test_what_cannot_be_built_is_said(build: Build, name: str, template: Any, words: str) -> None:
    """The build fails with a reason, and the remedy where there is one; no template comes of it."""
    with pytest.raises(BuildException, match=words):
        build(template, name)


def test_packages_that_the_machine_has_need_no_install(build: Build, name: str) -> None:
    """apt_install of what is there succeeds."""
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("this machine has no dpkg")
    log = build(Template().from_template("base").set_envs({"X": fresh()}).apt_install(["bash", "tar"]), name)
    assert any("this machine has bash tar" in line for line in log)


def test_the_builtin_templates_cannot_be_overwritten(build: Build, name: str) -> None:
    """They come with the server."""
    with pytest.raises(BuildException, match="built-in"):
        build(Template().from_template("base").run_cmd("true"), "claude")


@only_where_folders_can_be_mounted
def test_an_archive_cannot_lead_out(build: Build, name: str, api: Api, tmp_path: Path) -> None:
    """A link in what is copied stays a link, also where it leads to a file of this machine's."""
    (tmp_path / "link").symlink_to("/etc/shadow")
    template = Template(file_context_path=tmp_path).from_template("base").copy("link", "/home/user/link")
    build(template.run_cmd("ln -s /root /at-root; mkdir /x", user="root"), name)
    with Sandbox.create(name, **api) as sandbox:
        assert sandbox.commands.run("readlink link").stdout == "/etc/shadow\n"
        assert sandbox.commands.run("cat link || sudo ls /at-root/ && ls -A /x").stdout == ""


def test_an_upload_is_not_disturbed_when_a_template_is_removed(server: LocalServer, build: Build) -> None:
    """By every server that shares the store: the archive is whole and there when its build asks for it."""
    key, digest, other = {"X-API-KEY": server.api_key}, secrets.token_hex(32), f"test-{secrets.token_hex(6)}"
    build(Template().from_template("base").set_envs({"A": fresh()}), other)
    made = httpx.post(f"{server.url}/v3/templates", headers=key, json={"name": f"test-{fresh()}"}).json()
    offer = f"{server.url}/templates/{made['templateID']}/files/{digest}"

    def pieces() -> Iterator[bytes]:
        yield b"first"
        with start_server() as second:  # what it finds unfinished is somebody else's work
            assert delete(second, other) == 204
        yield b"last"

    assert httpx.put(httpx.get(offer, headers=key).json()["url"], content=pieces(), timeout=60).is_success
    another = f"test-{secrets.token_hex(6)}"
    build(Template().from_template("base").set_envs({"A": fresh()}), another)
    assert delete(server, another) == 204
    assert httpx.get(offer, headers=key).json()["present"]


def test_uploads_need_the_key_that_they_were_offered(server: LocalServer) -> None:
    """An archive cannot be put there by who does not hold the API key, nor twice."""
    assert httpx.put(f"{server.url}/uploads/nothing", content=b"x").status_code == 401


@only_where_folders_can_be_mounted
def test_a_start_command_serves_to_its_own_sandbox(build: Build, name: str, api: Api) -> None:
    """A server started with the sandbox answers once create has returned."""
    build(
        Template().from_template("base").set_start_cmd("python3 -m http.server 8123", wait_for_port(8123)),
        name,
    )
    with Sandbox.create(name, **api) as sandbox:
        assert "Directory listing" in sandbox.commands.run("curl -s http://localhost:8123/").stdout


def test_where_folders_cannot_be_mounted_homes_are_templates_too(tmp_path: Path) -> None:
    """In the landlock tier a build has the sandbox's own folders: those are carried over, start command included, and
    the template's programs are found; what lies elsewhere fails the build."""
    isolation("landlock")  # or skip
    (tmp_path / "file").write_text("content")
    name = f"test-{secrets.token_hex(6)}"
    with start_server("landlock") as server:
        options = {"api_key": server.api_key, "api_url": server.url}
        template = Template(file_context_path=tmp_path).from_template("claude").copy("file", "work/")
        template.set_workdir("work").run_cmd(f"echo {fresh()} >> file")
        Template.build(template.set_start_cmd("touch up; exec sleep 1000", "[ -e up ]"), name, **options)
        with Sandbox.create(name, sandbox_url=server.url, **options) as sandbox:
            shown = sandbox.commands.run("ls; head -c 7 file; claude --version").stdout
            assert shown.startswith("file\nup\ncontent")
            assert "Claude Code" in shown
        with pytest.raises(BuildException, match="mkdir /app"):
            Template.build(Template().from_template("base").run_cmd("mkdir /app"), name, **options)
        delete(server, name)


def test_templates_outlive_the_server() -> None:
    """The next server has what was built, layers included, and makes sandboxes from it."""
    name = f"test-{secrets.token_hex(6)}"
    template = Template().from_template("base").run_cmd(f"echo {name} > made")
    with start_server() as first:
        Template.build(template, name, api_key=first.api_key, api_url=first.url)
    with start_server() as second:
        options = {"api_key": second.api_key, "api_url": second.url}
        with Sandbox.create(name, sandbox_url=second.url, **options) as sandbox:
            assert sandbox.files.read("made") == f"{name}\n"
        log: list[LogEntry] = []
        Template.build(template, name, on_build_logs=log.append, **options)
        assert any(entry.message.startswith("CACHED") for entry in log)
        delete(second, name)


def test_a_build_ends_with_its_server() -> None:
    """A server that ends in the middle of a build ends the build's processes, too."""
    mark = f"{1000 + secrets.randbelow(1000)}.{secrets.randbelow(10**6)}"
    template = Template().from_template("base").run_cmd(f"sleep {mark}")
    with start_server() as own:
        options = {"api_key": own.api_key, "api_url": own.url}
        info = Template.build_in_background(template, f"test-{fresh()}", **options)
        while not marked_processes(mark):
            assert Template.get_build_status(info, **options).status == "building"
    assert not marked_processes(mark)
