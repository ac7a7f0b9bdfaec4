"""Files of the local server's sandboxes, through the official SDK and its signed URLs."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    FileNotFoundException,
    FilesystemEvent,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    NotEnoughSpaceException,
    Sandbox,
    SandboxException,
)

from harness.local.launch import LocalServer

InSandbox = Callable[..., Any]


@pytest.mark.parametrize("options", [{}, {"gzip": True}, {"use_octet_stream": True}], ids=str)
def test_what_is_written_is_read(in_sandbox: InSandbox, options: dict[str, Any]) -> None:
    """Text and bytes survive each way of sending them, and directories are made on the way."""

    async def story(sandbox: AsyncSandbox) -> None:
        written = await sandbox.files.write("deep/er/ünïcode file.txt", "grüße\n", **options)
        assert (written.name, written.type) == ("ünïcode file.txt", FileType.FILE)
        assert written.path == "/home/user/deep/er/ünïcode file.txt"
        assert await sandbox.files.read(written.path) == "grüße\n"
        blob = bytes(range(256)) * 4000
        await sandbox.files.write("blob", blob, **options)
        assert await sandbox.files.read("blob", format="bytes") == blob
        assert await sandbox.files.read("blob", format="bytes", gzip=True) == blob
        await sandbox.files.write("blob", b"", **options)
        assert await sandbox.files.read("blob") == ""

    in_sandbox(story)


def test_large_files_stream_both_ways(in_sandbox: InSandbox) -> None:
    """An upload from a generator and a streamed download carry 20 MB whole."""
    block = os.urandom(1 << 20)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield block

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("big", blocks())
        assert (await sandbox.files.get_info("big")).size == 20 << 20
        received = b"".join([chunk async for chunk in await sandbox.files.read("big", format="stream")])
        assert received == block * 20
        await sandbox.files.write("copy", io.BytesIO(received), gzip=True)
        assert (await sandbox.commands.run("cmp big copy && echo same")).stdout == "same\n"

    in_sandbox(story)


def test_many_files_go_in_one_request(in_sandbox: InSandbox) -> None:
    """write_files puts each file where its own path says, relative to the home."""

    async def story(sandbox: AsyncSandbox) -> None:
        files = [{"path": f"many/{number}/file.txt", "data": f"content {number}"} for number in range(30)]
        written = await sandbox.files.write_files(files)
        assert [one.path for one in written] == [f"/home/user/many/{n}/file.txt" for n in range(30)]
        assert await sandbox.files.read("many/17/file.txt") == "content 17"
        with pytest.raises(InvalidArgumentException, match="multiple files to the same path"):
            await sandbox.files.write_files([{"path": "x", "data": "1"}, {"path": "x", "data": "2"}])

    in_sandbox(story)


def test_paths_begin_at_the_users_home(in_sandbox: InSandbox) -> None:
    """Relative paths and ~ mean the named user's home, in every call."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("~/mine", "user's")
        assert await sandbox.files.read("/home/user/mine") == "user's"
        await sandbox.files.write("its", "root's", user="root")
        assert await sandbox.files.read("/root/its") == "root's"
        assert (await sandbox.files.get_info("its", user="root")).path == "/root/its"
        assert not await sandbox.files.exists("its")
        with pytest.raises(Exception, match="mallory"):
            await sandbox.files.read("its", user="mallory")

    in_sandbox(story)


def test_entries_tell_what_they_are(in_sandbox: InSandbox) -> None:
    """Type, size, mode, owner, time and the target of links, as E2B gives them."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.commands.run(
            "mkdir dir; printf 12345 > dir/file; chmod 640 dir/file; touch -d @1700000000 dir/file;"
            "ln -s dir/file link; ln -s dir dirlink; ln -s nowhere broken"
        )
        file = await sandbox.files.get_info("dir/file")
        assert (file.name, file.type, file.size) == ("file", FileType.FILE, 5)
        assert (file.mode, file.permissions) == (0o640, "-rw-r-----")
        assert (file.owner, file.group) == ("user", "user")
        assert file.modified_time.timestamp() == 1_700_000_000
        assert file.symlink_target is None
        link = await sandbox.files.get_info("link")
        assert (link.type, link.symlink_target) == (FileType.SYMLINK, "/home/user/dir/file")
        assert (link.mode, link.permissions) == (0o640, "Lrwxrwxrwx")
        await sandbox.commands.run("mkdir special; chmod 3750 special; chmod 4755 dir/file; mkfifo pipe")
        told = [await sandbox.files.get_info(name) for name in ("special", "dir/file", "pipe", "/dev/null")]
        assert [(each.mode, each.permissions) for each in told] == [
            (0o750, "dgtrwxr-x---"), (0o755, "urwxr-xr-x"), (0o644, "prw-r--r--"), (0o666, "Dcrw-rw-rw-"),
        ]  # fmt: skip
        entries = {entry.name: entry for entry in await sandbox.files.list(".")}
        assert entries["dir"].type is FileType.DIR
        assert entries["dir"].permissions.startswith("drwx")
        assert entries["dirlink"].type is FileType.SYMLINK
        assert entries["broken"].type is FileType.SYMLINK
        assert await sandbox.files.exists("broken")

    in_sandbox(story)


def test_listing_goes_as_deep_as_asked(in_sandbox: InSandbox) -> None:
    """Depth 1 is the directory alone, depth 2 its directories too."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.commands.run("mkdir -p top/a/b; touch top/1 top/a/2 top/a/b/3")
        assert _names(await sandbox.files.list("top")) == {"1", "a"}
        assert _names(await sandbox.files.list("top", depth=2)) == {"1", "a", "2", "b"}
        assert _names(await sandbox.files.list("top", depth=9)) == {"1", "a", "2", "b", "3"}
        with pytest.raises(InvalidArgumentException, match="not a directory"):
            await sandbox.files.list("top/1")
        with pytest.raises(FileNotFoundException):
            await sandbox.files.list("nowhere")

    in_sandbox(story)


def _names(entries: Any) -> set[str]:
    return {entry.name for entry in entries}


def test_directories_and_files_are_made_moved_and_removed(in_sandbox: InSandbox) -> None:
    """make_dir, rename and remove say what they found, as on E2B."""

    async def story(sandbox: AsyncSandbox) -> None:
        assert await sandbox.files.make_dir("one/two")
        assert not await sandbox.files.make_dir("one/two")
        await sandbox.files.write("one/file", "x")
        with pytest.raises(InvalidArgumentException, match="not a directory"):
            await sandbox.files.make_dir("one/file")
        moved = await sandbox.files.rename("one/file", "other/place")
        assert moved.path == "/home/user/other/place"
        assert not await sandbox.files.exists("one/file")
        with pytest.raises(FileNotFoundException):
            await sandbox.files.rename("one/file", "again")
        await sandbox.files.remove("one")
        await sandbox.files.remove("one")
        assert not await sandbox.files.exists("one")

    in_sandbox(story)


def test_errors_are_those_of_e2b(in_sandbox: InSandbox) -> None:
    """A missing file, a directory instead of a file, a file in the way: each has its exception."""

    async def story(sandbox: AsyncSandbox) -> None:
        with pytest.raises(FileNotFoundException, match="path '/home/user/none' does not exist"):
            await sandbox.files.read("none")
        with pytest.raises(FileNotFoundException):
            await sandbox.files.get_info("none")
        with pytest.raises(InvalidArgumentException, match="is a directory"):
            await sandbox.files.read("/tmp")
        with pytest.raises(InvalidArgumentException, match="is a directory"):
            await sandbox.files.write("/tmp", "x")
        await sandbox.files.write("file", "x")
        with pytest.raises(InvalidArgumentException, match="in the way"):
            await sandbox.files.write("file/below", "x")
        with pytest.raises(SandboxException):
            await sandbox.files.write("/proc/forbidden/file", "x")

    in_sandbox(story)


def test_names_that_are_no_text_are_shown_as_well_as_can_be(in_sandbox: InSandbox) -> None:
    """A file name that is not UTF-8 does not keep its directory from being listed and watched."""

    async def story(sandbox: AsyncSandbox) -> None:
        seen: asyncio.Queue[FilesystemEvent] = asyncio.Queue()
        await sandbox.files.watch_dir(".", on_event=seen.put, include_entry=True)
        await sandbox.commands.run(r"touch $'bad\xff' && ln -s $'bad\xff' link")
        assert (await _next(seen, FilesystemEventType.CREATE)).name == "bad\N{REPLACEMENT CHARACTER}"
        assert {"bad\N{REPLACEMENT CHARACTER}", "link"} <= _names(await sandbox.files.list("."))

    in_sandbox(story)


async def rewritten(sandbox: AsyncSandbox, path: str) -> str:
    await sandbox.files.write(path, "whole")
    return await sandbox.files.read(path)


def test_an_upload_that_is_given_up_harms_nobody(in_sandbox: InSandbox, server: LocalServer) -> None:
    """A client that vanishes in the middle of an upload leaves the sandbox as usable as before, and the file too, when
    the server has done with what it had received."""

    async def story(sandbox: AsyncSandbox) -> None:
        host, _, port = server.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        target = sandbox.upload_url("half").removeprefix(server.url)
        head = "Content-Type: application/octet-stream\r\nContent-Length: 1000000"
        writer.write(f"POST {target} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + b"x" * 500_000)
        await writer.drain()
        while not await sandbox.files.exists("half"):
            pass  # until the server has begun to write
        writer.transport.abort()
        await sandbox.files.write("other", "whole")
        assert await sandbox.files.read("other") == "whole"
        while await rewritten(sandbox, "half") != "whole":
            pass

    in_sandbox(story)


def test_special_files_do_not_hang_the_server(in_sandbox: InSandbox) -> None:
    """A FIFO, a device and a circle of links are refused at once, for reading and for writing."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.commands.run("mkfifo fifo; ln -s circle circle")
        for path in ("fifo", "/dev/zero", "circle"):
            with pytest.raises(SandboxException):
                await sandbox.files.read(path)
            with pytest.raises(SandboxException):
                await sandbox.files.write(path, "x")

    in_sandbox(story)


def test_a_full_disk_is_said(in_sandbox: InSandbox, server: LocalServer) -> None:
    """Writing beyond what the file system holds raises E2B's exception for that."""
    if server.isolation != "namespaces":
        pytest.skip(
            "only there /dev/shm is the sandbox's own, and small: filling the machine's would harm it"
        )

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.commands.run(
            "free=$(df --output=avail -B1 /dev/shm | tail -1); [ $free -le 268435456 ] || exit 9;"
            "fallocate -l $((free - 500000)) /dev/shm/filling"
        )
        with pytest.raises(NotEnoughSpaceException):
            await sandbox.files.write("/dev/shm/file", b"x" * (1 << 20))

    in_sandbox(story)


def test_metadata_stays_with_a_file(in_sandbox: InSandbox) -> None:
    """What is attached at the upload is shown by the upload, by get_info and by list."""

    async def story(sandbox: AsyncSandbox) -> None:
        written = await sandbox.files.write("tagged", "x", metadata={"origin": "test", "n": "1"})
        assert written.metadata == {"origin": "test", "n": "1"}
        assert (await sandbox.files.get_info("tagged")).metadata == {"origin": "test", "n": "1"}
        (listed,) = [entry for entry in await sandbox.files.list(".") if entry.name == "tagged"]
        assert listed.metadata == {"origin": "test", "n": "1"}
        await sandbox.files.write("tagged", "y", metadata={"n": "2"})
        assert (await sandbox.files.get_info("tagged")).metadata == {"n": "2"}
        await sandbox.files.write("tagged", "z")
        assert not (await sandbox.files.get_info("tagged")).metadata

    in_sandbox(story)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"a": "é"}, "printable"),
        ({"k" * 247: "v"}, "246 bytes"),
        ({"a": "x" * 2100, "b": "x" * 2100}, "room for 4096"),
    ],
    ids=["unprintable", "a long key", "much"],
)
def test_metadata_that_no_file_could_keep_is_refused(
    in_sandbox: InSandbox, metadata: dict[str, str], words: str
) -> None:
    """E2B's limits: printable ASCII, 246 bytes a key, 4096 bytes a file."""

    async def story(sandbox: AsyncSandbox) -> None:
        headers = [(f"X-Metadata-{key}".encode(), value.encode()) for key, value in metadata.items()]
        async with httpx.AsyncClient() as client:
            reply = await client.post(
                sandbox.upload_url("tagged"),
                headers=[(b"Content-Type", b"application/octet-stream"), *headers],
                content=b"x",
            )
        assert reply.status_code == 400
        assert words in reply.json()["message"]

    in_sandbox(story)


def test_files_that_tell_no_size_are_read(in_sandbox: InSandbox) -> None:
    """Those of /proc say that they are empty, and have their content, or a range of it, all the same."""

    async def story(sandbox: AsyncSandbox) -> None:
        assert "MemTotal" in await sandbox.files.read("/proc/meminfo")
        version = await sandbox.files.read("/proc/version", format="bytes")
        async with httpx.AsyncClient() as client:
            part = await client.get(sandbox.download_url("/proc/version"), headers={"Range": "bytes=0-4"})
            memory = await client.get(sandbox.download_url("/proc/self/mem"))
        assert (part.status_code, part.content) == (206, bytes(version[:5]))
        assert memory.status_code in (400, 403)
        assert "State:" in await sandbox.files.read("/proc/self/status")
        assert "/" in await sandbox.files.read("/proc/mounts")

    in_sandbox(story)


def test_links_of_proc_to_what_a_process_has_lead_nowhere(in_sandbox: InSandbox) -> None:
    """Neither reading nor writing follows one: /proc/self/exe would be a program of this machine's."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("kept", "mine")
        holder = await sandbox.commands.run("exec 7<>kept; sleep 60 > /dev/null 2>&1 & echo $!")
        pid = holder.stdout.strip()
        links = ["/proc/self/exe", "/proc/self/root/etc/hosts", "/proc/self/cwd/etc/hosts", "/dev/fd/0"]
        links += [f"/proc/{pid}/{name}" for name in ("exe", "fd/7", "cwd/kept", f"task/{pid}/exe")]
        named = {f"planted{number}": link for number, link in enumerate(links)}
        await sandbox.commands.run("; ".join(f"ln -s {link} {name}" for name, link in named.items()))
        for path in (*links, *named):
            with pytest.raises(SandboxException):
                await sandbox.files.read(path)
            with pytest.raises(SandboxException):
                await sandbox.files.write(path, "x")
        assert await sandbox.files.read("kept") == "mine"

    in_sandbox(story)


def test_files_are_composed_to_one(in_sandbox: InSandbox, server: LocalServer) -> None:
    """envd's /files/compose joins files in their order and removes them; a bad request changes nothing."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write_files([{"path": "a", "data": "one "}, {"path": "b", "data": "two"}])
        async with httpx.AsyncClient(
            base_url=server.url,
            headers={
                "E2b-Sandbox-Id": sandbox.sandbox_id,
                "X-Access-Token": sandbox.connection_config.sandbox_headers["X-Access-Token"],
            },
        ) as client:
            for body, status in (
                ({"source_paths": [], "destination": "c"}, 400),
                ({"source_paths": ["a"]}, 400),
                ({"source_paths": ["a", "c"], "destination": "c"}, 400),
                ({"source_paths": ["a", "missing"], "destination": "c"}, 404),
                ({"source_paths": ["a"], "destination": "c", "username": "nobody-here"}, 401),
                ({"source_paths": 7, "destination": {}}, 400),
            ):
                assert (await client.post("/files/compose", json=body)).status_code == status
            assert {entry.name for entry in await sandbox.files.list(".")} >= {"a", "b"}
            assert not await sandbox.files.exists("c")
            reply = await client.post(
                "/files/compose", json={"source_paths": ["a", "~/b"], "destination": "new/c"}
            )
            body = {"source_paths": ["/proc/version"], "destination": "of-proc"}
            assert (await client.post("/files/compose", json=body)).status_code == 200
        assert reply.json() == {"path": "/home/user/new/c", "name": "c", "type": "file"}
        assert await sandbox.files.read("new/c") == "one two"
        assert not await sandbox.files.exists("a")
        assert await sandbox.files.read("of-proc") == await sandbox.files.read("/proc/version")
        assert [entry.name for entry in await sandbox.files.list("new")] == ["c"]

    in_sandbox(story)


def test_changes_in_a_directory_are_told(in_sandbox: InSandbox) -> None:
    """A watch tells of creation, writing, renaming and removal, with the entry where it still is one."""

    async def story(sandbox: AsyncSandbox) -> None:
        seen: asyncio.Queue[FilesystemEvent] = asyncio.Queue()
        ended: asyncio.Queue[object] = asyncio.Queue()
        await sandbox.files.make_dir("watched")
        handle = await sandbox.files.watch_dir(
            "watched", on_event=seen.put, on_exit=ended.put, include_entry=True
        )
        await sandbox.files.write("watched/new", "x")
        created = await _next(seen, FilesystemEventType.CREATE)
        assert created.name == "new"
        assert created.entry is not None
        assert created.entry.path == "/home/user/watched/new"
        await _next(seen, FilesystemEventType.WRITE)
        await sandbox.files.rename("watched/new", "watched/newer")
        assert (await _next(seen, FilesystemEventType.RENAME)).name == "new"
        await sandbox.files.remove("watched/newer")
        removed = await _next(seen, FilesystemEventType.REMOVE)
        assert (removed.name, removed.entry) == ("newer", None)
        await handle.stop()
        assert await ended.get() is None
        with pytest.raises(FileNotFoundException):
            await sandbox.files.watch_dir("nowhere", on_event=seen.put)
        with pytest.raises(InvalidArgumentException, match="not a directory"):
            await sandbox.files.watch_dir("/etc/passwd", on_event=seen.put)

    in_sandbox(story)


def test_a_recursive_watch_sees_new_directories(in_sandbox: InSandbox) -> None:
    """What is made in a directory that did not exist when the watch began is told as well."""

    async def story(sandbox: AsyncSandbox) -> None:
        seen: asyncio.Queue[FilesystemEvent] = asyncio.Queue()
        await sandbox.files.watch_dir(".", on_event=seen.put, recursive=True)
        await sandbox.files.write("a/b/c", "x")
        while (await _next(seen, FilesystemEventType.CREATE)).name != "a/b/c":
            pass

    in_sandbox(story)


async def _next(seen: asyncio.Queue[FilesystemEvent], kind: FilesystemEventType) -> FilesystemEvent:
    while (event := await seen.get()).type is not kind:
        pass
    return event


def test_the_polled_watcher_tells_the_same(api: dict[str, str]) -> None:
    """The sync SDK's watcher tells of all that was done before it is asked, and of each change once."""
    with Sandbox.create(**api) as sandbox:
        handle = sandbox.files.watch_dir(".")
        for name in map(str, range(20)):
            sandbox.files.write(name, "x")
            kinds = [event.type.value for event in handle.get_new_events() if event.name == name]
            assert kinds == ["create", "chmod", "write"]  # the second is E2B's chown
        assert handle.get_new_events() == []
        sandbox.commands.run("for i in $(seq 300); do touch many-$i; done")
        created = [event for event in handle.get_new_events() if event.type is FilesystemEventType.CREATE]
        assert len(created) == 300
        handle.stop()
        handle = sandbox.files.watch_dir(".", recursive=True)
        for number in range(5):
            sandbox.commands.run(f"mkdir -p new-{number}/deep; echo x >new-{number}/deep/file")
            told = [(event.name, event.type) for event in handle.get_new_events()]
            assert (f"new-{number}/deep", FilesystemEventType.CREATE) in told
            assert (f"new-{number}/deep/file", FilesystemEventType.CREATE) in told
            assert (f"new-{number}/deep/file", FilesystemEventType.WRITE) in told
        handle.stop()
        with pytest.raises(SandboxException):
            handle.get_new_events()


def test_signed_urls_need_no_token(in_sandbox: InSandbox) -> None:
    """A signed URL reads or writes its one file; any change to it, or its expiry, is refused with 401."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("shared.txt", "for all")
        async with httpx.AsyncClient() as client:
            url = sandbox.download_url("shared.txt", use_signature_expiration=60)
            reply = await client.get(url)
            assert (reply.status_code, reply.text) == (200, "for all")
            assert reply.headers["content-type"].startswith("text/plain")
            for changed in (url.replace("shared.txt", "other.txt"), url.partition("&signature")[0]):
                assert (await client.get(changed)).status_code == 401
            assert (await client.post(url, content=b"x")).status_code == 401
            expired = sandbox.download_url("shared.txt", use_signature_expiration=-10)
            refusal = await client.get(expired)
            assert (refusal.status_code, refusal.json()["message"]) == (401, "signature is already expired")
            upload = await client.post(sandbox.upload_url("up.txt"), files={"file": ("x", b"uploaded")})
            assert upload.json() == [{"path": "/home/user/up.txt", "name": "up.txt", "type": "file"}]
        assert await sandbox.files.read("up.txt") == "uploaded"

    in_sandbox(story)


def test_ranges_and_compression_of_downloads(in_sandbox: InSandbox) -> None:
    """One range of a file can be asked for; gzip comes to those who ask for just that."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("digits", "0123456789")
        url = sandbox.download_url("digits")
        async with httpx.AsyncClient() as client:
            for asked, status, content in [
                ("bytes=2-4", 206, b"234"),
                ("bytes=7-", 206, b"789"),
                ("bytes=-2", 206, b"89"),
                ("bytes=0-99", 200, b"0123456789"),
                ("bytes=10-", 416, None),
                ("lines=1-2", 200, b"0123456789"),
            ]:
                reply = await client.get(url, headers={"Range": asked})
                assert reply.status_code == status
                assert content is None or reply.content == content
            async with client.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as reply:
                packed = b"".join([chunk async for chunk in reply.aiter_raw()])
            assert gzip.decompress(packed) == b"0123456789"

    in_sandbox(story)


@pytest.mark.parametrize(
    ("headers", "content", "words"),
    [
        ({"content-type": "text/plain"}, b"x", "unsupported content type"),
        ({"content-type": "multipart/form-data"}, b"x", "no multipart boundary"),
        ({"content-type": "multipart/form-data; boundary=b"}, b"rubbish", "error reading form"),
        (
            {"content-type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nda',
            "ends too early",
        ),
        ({"content-type": "application/octet-stream", "content-encoding": "gzip"}, b"no gzip", "decompress"),
        ({"content-type": "application/octet-stream", "content-encoding": "br"}, b"x", "Content-Encoding"),
    ],
)
def test_malformed_uploads_are_refused(
    in_sandbox: InSandbox, headers: dict[str, str], content: bytes, words: str
) -> None:
    """An upload that makes no sense gives 400 and says why."""

    async def story(sandbox: AsyncSandbox) -> None:
        async with httpx.AsyncClient() as client:
            reply = await client.post(sandbox.upload_url("target"), headers=headers, content=content)
        assert reply.status_code == 400
        assert words in reply.json()["message"]

    in_sandbox(story)
