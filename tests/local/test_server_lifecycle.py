"""The lives of sandboxes on the local server, through the official SDK."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    AsyncTemplate,
    AuthenticationException,
    CommandExitException,
    RateLimitException,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    SandboxQuery,
    SandboxState,
    Secret,
    SecretException,
    Volume,
    VolumeException,
)

from harness.local.launch import LocalServer, start_server

Api = dict[str, str]
InSandbox = Callable[..., Any]
WithServer = Callable[[Callable[[], Awaitable[Any]]], Any]


def test_a_sandbox_is_as_it_was_asked_for(in_sandbox: InSandbox) -> None:
    """Info shows template, metadata, lifecycle, network and end as the create call gave them."""

    async def story(sandbox: AsyncSandbox) -> None:
        info = await sandbox.get_info()
        assert (info.sandbox_id, info.state, info.name) == (sandbox.sandbox_id, SandboxState.RUNNING, "base")
        assert info.metadata == {"run": "7", "note": "a=b&c d"}
        assert info.lifecycle == {"on_timeout": "pause", "auto_resume": True}
        assert info.allow_internet_access is False
        assert info.network == {"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]}
        assert info.end_at - info.started_at == pytest.approx(
            timedelta(seconds=1000), abs=timedelta(seconds=5)
        )
        assert info.cpu_count >= 1
        assert info.memory_mb > 0
        assert await sandbox.is_running()

    in_sandbox(
        story,
        template="base",
        timeout=1000,
        metadata={"run": "7", "note": "a=b&c d"},
        lifecycle={"on_timeout": "pause", "auto_resume": True},
        allow_internet_access=False,
        network={"allow_out": ["example.com"], "deny_out": ["0.0.0.0/0"]},
    )


def test_a_killed_sandbox_is_gone_everywhere(api: Api, with_server: WithServer) -> None:
    """After kill: not running, not found by the control plane, and not running to whoever uses it."""

    async def story() -> None:
        sandbox = await AsyncSandbox.create(**api)
        waiting = await sandbox.commands.run("sleep 100", background=True)
        assert await sandbox.kill()
        assert not await sandbox.kill()
        assert not await sandbox.is_running()
        with pytest.raises(SandboxNotFoundException):
            await sandbox.get_info()
        with pytest.raises(SandboxNotFoundException):
            await AsyncSandbox.connect(sandbox.sandbox_id, **api)
        with pytest.raises(SandboxNotFoundException):
            await sandbox.set_timeout(10)
        with pytest.raises(SandboxNotRunningException):
            await sandbox.commands.run("true")
        with pytest.raises(SandboxNotRunningException):
            await sandbox.files.read("/etc/passwd")
        with pytest.raises(SandboxNotRunningException):
            await sandbox.files.write("x", "x")
        with pytest.raises(SandboxNotRunningException):
            await waiting.wait()

    with_server(story)


def test_a_sandbox_ends_with_its_time(api: Api, with_server: WithServer) -> None:
    """When its timeout has passed a sandbox is gone, and whoever listened to a command hears so."""

    async def story() -> None:
        brief = await AsyncSandbox.create(timeout=1, **api)
        sandbox = await AsyncSandbox.create(**api)
        running = await sandbox.commands.run("sleep 100", background=True)
        await sandbox.set_timeout(1)
        with pytest.raises(SandboxNotRunningException):
            await running.wait()
        while await brief.is_running():
            pass
        with pytest.raises(SandboxNotFoundException):
            await sandbox.get_info()

    with_server(story)


def test_a_sandbox_that_dies_by_itself_is_gone(api: Api, with_server: WithServer) -> None:
    """When its processes are killed from outside, a sandbox leaves the list without being asked."""

    async def story() -> None:
        sandbox = await AsyncSandbox.create(**api)
        told = asyncio.Event()
        running = await sandbox.commands.run(
            "exec -a a-name-of-its-own sh -c 'echo up; read line'",
            background=True,
            stdin=True,
            on_stdout=lambda _: told.set(),
        )
        await told.wait()
        os.kill(_guest(b"a-name-of-its-own"), signal.SIGKILL)
        with pytest.raises(SandboxNotRunningException):
            await running.wait()
        with pytest.raises(SandboxNotFoundException):
            await sandbox.get_info()

    with_server(story)


def _guest(name: bytes) -> int:
    """The PID 1, or elsewhere the guest, that a process with this name comes from."""
    named = (
        path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if path.read_bytes().startswith(name)
    )
    return int(Path(f"/proc/{next(named).name}/stat").read_text().rpartition(")")[2].split()[1])


def test_timeouts_can_be_moved(in_sandbox: InSandbox, api: Api) -> None:
    """set_timeout lengthens and shortens; connect only lengthens."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.set_timeout(5000)
        assert await _seconds_left(sandbox) == pytest.approx(5000, abs=5)
        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=100, **api)
        assert await _seconds_left(sandbox) == pytest.approx(5000, abs=5)
        await sandbox.set_timeout(100)
        assert await _seconds_left(sandbox) == pytest.approx(100, abs=5)
        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=200, **api)
        assert await _seconds_left(sandbox) == pytest.approx(200, abs=5)

    in_sandbox(story)


async def _seconds_left(sandbox: AsyncSandbox) -> float:
    return ((await sandbox.get_info()).end_at - datetime.now(UTC)).total_seconds()


def test_a_paused_sandbox_stands_still_and_comes_back(in_sandbox: InSandbox, api: Api) -> None:
    """Pausing freezes processes and files, answers nothing meanwhile, and connect brings all of it back."""

    async def story(sandbox: AsyncSandbox) -> None:
        ticking = await sandbox.commands.run("while :; do echo . >> ticks; sleep 0.02; done", background=True)
        await sandbox.commands.run("until [ -e ticks ]; do sleep 0.02; done")
        assert await sandbox.pause()
        assert not await sandbox.pause()
        with pytest.raises(SandboxNotRunningException):
            await ticking.wait()
        assert (await sandbox.get_info()).state is SandboxState.PAUSED
        assert not await sandbox.is_running()
        with pytest.raises(SandboxNotRunningException):
            await sandbox.commands.run("true")
        with pytest.raises(SandboxNotFoundException):
            await sandbox.set_timeout(100)
        same = await AsyncSandbox.connect(sandbox.sandbox_id, **api)
        assert same.sandbox_id == sandbox.sandbox_id
        assert [one.pid for one in await sandbox.commands.list()] == [ticking.pid]
        await sandbox.commands.run(
            "before=$(wc -l < ticks); until [ $(wc -l < ticks) -gt $before ]; do :; done"
        )

    in_sandbox(story)


def test_a_pause_without_memory_keeps_the_files_alone(in_sandbox: InSandbox, api: Api) -> None:
    """mode="filesystem" ends the processes; the sandbox that comes back has its files and its environment."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.commands.run("sleep 100", background=True)
        await sandbox.files.write("kept", "yes")
        assert await sandbox.pause(mode="filesystem")
        back = await AsyncSandbox.connect(sandbox.sandbox_id, **api)
        assert await back.commands.list() == []
        assert (await back.commands.run("cat kept; echo $A")).stdout == "yesb\n"

    in_sandbox(story, envs={"A": "b"})


def test_a_boot_has_an_id_of_its_own(in_sandbox: InSandbox, server: LocalServer) -> None:
    """A pause with memory keeps the kernel's boot id; a reboot, as another sandbox, has another."""
    if server.isolation in ("landlock", "container", "unsafe"):
        pytest.skip(f"the {server.isolation} tier shows this machine's /proc")

    async def boot_id(sandbox: AsyncSandbox) -> str:
        return (await sandbox.files.read("/proc/sys/kernel/random/boot_id")).strip()

    async def story(sandbox: AsyncSandbox) -> None:
        first = await boot_id(sandbox)
        assert uuid.UUID(first)
        await sandbox.pause()
        await sandbox.connect()
        assert await boot_id(sandbox) == first
        await sandbox.pause(mode="filesystem")
        await sandbox.connect()
        assert await boot_id(sandbox) not in (first, of_this_machine)

    of_this_machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    in_sandbox(story)


def test_a_frozen_sandbox_can_be_rebooted_and_killed(in_sandbox: InSandbox, api: Api) -> None:
    """on_resume="reboot" gives up the frozen processes; a frozen sandbox can be killed."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.commands.run("sleep 100", background=True)
        await sandbox.files.write("kept", "yes")
        await sandbox.pause()
        back = await AsyncSandbox.connect(sandbox.sandbox_id, on_resume="reboot", **api)
        assert await back.commands.list() == []
        assert await back.files.read("kept") == "yes"
        await back.pause()
        assert await back.kill()

    in_sandbox(story)


def test_a_timeout_pauses_where_that_was_asked_for(api: Api, with_server: WithServer) -> None:
    """With on_timeout="pause" the sandbox is there afterwards, asleep."""

    async def story() -> None:
        sandbox = await AsyncSandbox.create(lifecycle={"on_timeout": "pause"}, **api)
        running = await sandbox.commands.run("sleep 100", background=True)
        await sandbox.set_timeout(1)
        with pytest.raises(SandboxNotRunningException):
            await running.wait()
        assert (await sandbox.get_info()).state is SandboxState.PAUSED
        await sandbox.kill()

    with_server(story)


def test_traffic_wakes_a_sandbox_that_allows_it(in_sandbox: InSandbox) -> None:
    """With auto_resume a command to a paused sandbox resumes it."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.pause()
        assert (await sandbox.commands.run("echo awake")).stdout == "awake\n"
        assert (await sandbox.get_info()).state is SandboxState.RUNNING

    in_sandbox(story, lifecycle={"on_timeout": "pause", "auto_resume": True})


def test_snapshots_are_templates(in_sandbox: InSandbox, api: Api) -> None:
    """A snapshot can be listed, used for new sandboxes by name or id, replaced, and deleted."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("state", "one")
        named = await sandbox.create_snapshot(name="my-snapshot")
        assert named.snapshot_id == "my-snapshot:default"
        nameless = await sandbox.create_snapshot()
        await sandbox.files.write("state", "two")
        listed = await AsyncSandbox.list_snapshots(sandbox_id=sandbox.sandbox_id, **api).next_items()
        assert {one.snapshot_id for one in listed} == {named.snapshot_id, nameless.snapshot_id}
        for reference in ("my-snapshot", named.snapshot_id, nameless.snapshot_id):
            async with await AsyncSandbox.create(template=reference, **api) as copy:
                assert await copy.files.read("state") == "one"
        await sandbox.create_snapshot(name="my-snapshot")
        async with await AsyncSandbox.create(template="my-snapshot", **api) as copy:
            assert await copy.files.read("state") == "two"
        for reference in (named.snapshot_id, nameless.snapshot_id):
            assert await AsyncSandbox.delete_snapshot(reference, **api)
            assert not await AsyncSandbox.delete_snapshot(reference, **api)
        with pytest.raises(SandboxException, match="template 'my-snapshot' not found"):
            await AsyncSandbox.create(template="my-snapshot", **api)

    in_sandbox(story)


def test_forks_have_their_own_copies(in_sandbox: InSandbox, api: Api) -> None:
    """Forks start with the files, metadata and environment of the sandbox, and change nothing in it."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("shared", "before")
        forks = await sandbox.fork(count=3)
        assert len({fork.sandbox_id for fork in forks} | {sandbox.sandbox_id}) == 4
        for number, fork in enumerate(forks):
            assert await fork.files.read("shared") == "before"
            assert (await fork.commands.run("echo $A")).stdout == "b\n"
            assert (await fork.get_info()).metadata == {"of": "many"}
            await fork.files.write("shared", f"fork {number}")
        assert await sandbox.files.read("shared") == "before"
        assert await forks[0].files.read("shared") == "fork 0"
        await asyncio.gather(*(fork.kill() for fork in forks))

    in_sandbox(story, envs={"A": "b"}, metadata={"of": "many"})


def test_lists_are_filtered_and_come_in_pages(api: Api, with_server: WithServer) -> None:
    """Filters by metadata (escaped ones too), state, template and time; pages lead from one to the next."""

    async def story() -> None:
        mark = {"batch": "a&b=c d/ü"}
        begin = datetime.now(UTC)
        made = [await AsyncSandbox.create(metadata={**mark, "n": str(n)}, **api) for n in range(5)]
        try:
            await made[0].pause()
            ids = [sandbox.sandbox_id for sandbox in made]
            assert await _listed(api, SandboxQuery(metadata=mark), limit=2) == ids[::-1]
            assert await _listed(api, SandboxQuery(metadata=mark), limit=2, order="asc") == ids
            assert await _listed(api, SandboxQuery(metadata={**mark, "n": "3"})) == [ids[3]]
            assert await _listed(api, SandboxQuery(metadata=mark, state=[SandboxState.PAUSED])) == [ids[0]]
            running = SandboxQuery(metadata=mark, state=[SandboxState.RUNNING])
            assert await _listed(api, running) == ids[:0:-1]
            assert await _listed(api, SandboxQuery(metadata=mark, template="claude")) == []
            assert await _listed(api, SandboxQuery(metadata=mark, started_after=begin)) == ids[::-1]
            late = SandboxQuery(metadata=mark, started_after=datetime.now(UTC))
            assert await _listed(api, late) == []
        finally:
            await asyncio.gather(*(sandbox.kill() for sandbox in made))

    with_server(story)


async def _listed(api: Api, query: SandboxQuery, **options: Any) -> list[str]:
    pages = AsyncSandbox.list(query=query, **options, **api)
    found = []
    while pages.has_next:
        page = await pages.next_items()
        assert len(page) <= options.get("limit", 100)
        found += [info.sandbox_id for info in page]
    return found


def test_metrics_tell_what_is_used(in_sandbox: InSandbox) -> None:
    """There are metrics from the first moment, with more than nothing used and less than there is."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.files.write("ballast", b"x" * (2 << 20))
        metrics = await sandbox.get_metrics()
        assert metrics
        now = metrics[-1]
        assert 0 < now.mem_used < now.mem_total
        assert 2 << 20 <= now.disk_used < now.disk_total
        assert now.cpu_count >= 1
        assert now.cpu_used_pct >= 0
        past = await sandbox.get_metrics(end=datetime.now(UTC) - timedelta(hours=1))
        assert past == []

    in_sandbox(story)


def test_the_log_tells_what_was_run(in_sandbox: InSandbox, server: LocalServer) -> None:
    """Both versions of the log show commands and their ends, by time, level and words."""

    async def story(sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("exit 3", background=True)
        with pytest.raises(CommandExitException):
            await handle.wait()
        url = f"{server.url}/sandboxes/{sandbox.sandbox_id}/logs"
        newer = f"{server.url}/v2/sandboxes/{sandbox.sandbox_id}/logs"
        async with httpx.AsyncClient(headers={"X-API-KEY": server.api_key}) as client:
            started, ended = (await client.get(url)).json()["logEntries"]
            assert started["message"] == f"Process with pid {handle.pid} started"
            assert started["fields"]["command"] == "/bin/bash -l -c exit 3"
            assert ended["fields"]["status"] == "exit status 3"
            backward = (await client.get(newer, params={"direction": "backward", "search": "ended"})).json()
            assert backward["logs"] == [ended]
            assert (await client.get(newer, params={"level": "error"})).json() == {"logs": []}

    in_sandbox(story)


def test_the_network_can_be_changed(in_sandbox: InSandbox) -> None:
    """update_network replaces the rules; rules that say nothing are refused."""

    async def story(sandbox: AsyncSandbox) -> None:
        await sandbox.update_network({"allow_out": ["1.1.1.1"], "deny_out": ["0.0.0.0/0"]})
        info = await sandbox.get_info()
        assert info.network == {"allow_out": ["1.1.1.1"], "deny_out": ["0.0.0.0/0"]}
        with pytest.raises(SandboxException, match="deny_out"):
            await sandbox.update_network({"allow_out": ["example.com"]})

    in_sandbox(story)


NOT_HERE = ".*not available on the local sandbox server"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"template": "no-such-template"}, "404: template 'no-such-template' not found"),
        ({"template": "../etc"}, "400: Invalid template reference"),
        ({"template": "base:other"}, "404: template 'base:other' not found"),
        ({"timeout": 25 * 3600}, "400: Timeout cannot be greater than 24 hours"),
        ({"timeout": -1}, "400: .*timeout must be at least 0"),
        ({"timeout": "soon"}, "400: .*timeout must be an integer"),
        ({"metadata": {"n": 1}}, "400: .*metadata.n must be a string"),
        ({"metadata": ["a"]}, "400: .*metadata must be an object"),
        ({"envs": {"A=B": "c"}}, "400: .*cannot be the name of a variable"),
        ({"network": {"allow_out": ["example.com"]}}, "400: .*deny_out must then hold"),
        ({"network": {"deny_out": ["example.com"]}}, "400: .*deny_out takes addresses"),
        ({"network": {"https_ports": [443]}}, f"501: {NOT_HERE}: serve plain HTTP there"),
        ({"network": {"dns_servers": ["1.1.1.3"]}}, f"501: {NOT_HERE}: this machine looks up"),
        ({"network": {"mask_request_host": "a.com"}}, f"501: {NOT_HERE}: .*the Host header"),
        ({"network": {"egress_proxy": {"address": "a.com:1"}}}, f"501: {NOT_HERE}: .*allow_out"),
        ({"volume_mounts": {"/data": "my-volume"}}, f"501: {NOT_HERE}: .*sandbox.files"),
        (
            {"iam": {"tokens": {"aws": {"audience": "a", "token_type": "JWT-SVID"}}}},
            f"501: {NOT_HERE}: .*network",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_is_refused(
    api: Api, with_server: WithServer, options: dict[str, Any], words: str
) -> None:
    """A create call that makes no sense, or asks for what is not here, says so with E2B's status."""

    async def story() -> None:
        with pytest.raises(SandboxException, match=words):
            await AsyncSandbox.create(**options, **api)

    with_server(story)


def test_what_e2b_keeps_elsewhere_is_not_here(api: Api) -> None:
    """Volumes and secrets: whatever is asked of them, the answer says so, and what to do in their place."""
    with pytest.raises(VolumeException, match=f"501: {NOT_HERE}: .*sandbox.files"):
        Volume.create("data", **api)
    for ask in (lambda: Secret.create("k", "v", **api), lambda: Secret.list(**api).next_items()):
        with pytest.raises(SecretException, match=f"501: {NOT_HERE}: .*envs"):
            ask()


def test_what_only_the_cloud_has_is_refused_in_words(server: LocalServer) -> None:
    """Events, webhooks, teams and keys: 501, and what will do in their place."""
    with httpx.Client(base_url=server.url, headers={"X-API-KEY": server.api_key}) as client:
        for path, words in (
            ("/events/sandboxes/i123", "GET /v2/sandboxes"),
            ("/events/webhooks", "GET /v2/sandboxes"),
            ("/api-keys", "prints its one key"),
            ("/teams/t/metrics", "GET /sandboxes/metrics"),
        ):
            reply = client.get(path)
            assert reply.status_code == 501
            assert words in reply.json()["message"]


def test_e2bs_own_templates_that_are_not_here_are_told_from_unknown_ones(
    api: Api, with_server: WithServer
) -> None:
    """e2b_code_interpreter's Sandbox.create() asks for one: the answer says what is missing and what will do."""

    async def story() -> None:
        with pytest.raises(
            SandboxException, match=rf"501: .*code-interpreter-v1.*{NOT_HERE}: .*commands\.run"
        ):
            await AsyncSandbox.create("code-interpreter-v1", **api)
        with pytest.raises(SandboxException, match="404: template 'none' not found"):
            await AsyncSandbox.create("none", **api)

    with_server(story)


def test_the_last_metrics_of_several_sandboxes_come_at_once(server: LocalServer, api: Api) -> None:
    """Running sandboxes that are named are in the answer, others are not."""

    async def story() -> None:
        one = await AsyncSandbox.create(**api)
        info = await one.get_info()
        headers = {"X-API-KEY": server.api_key}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            reply = await client.get(f"/sandboxes/metrics?sandbox_ids={one.sandbox_id},nothing")
            assert (await client.get("/sandboxes/metrics")).status_code == 400
        (found,) = reply.json()["sandboxes"].items()
        assert found[0] == one.sandbox_id
        assert found[1]["cpuCount"] == info.cpu_count == len(os.sched_getaffinity(0))
        assert found[1]["memTotal"] >> 20 == info.memory_mb
        await one.kill()

    asyncio.run(story())


def test_a_create_call_with_a_key_happens_once(api: Api, with_server: WithServer) -> None:
    """Two calls with one idempotency key make one sandbox; another request under that key is refused."""

    async def story() -> None:
        calls = [AsyncSandbox.create(idempotency_key="once", timeout=99, **api) for _ in range(3)]
        sandboxes = await asyncio.gather(*calls)
        assert len({sandbox.sandbox_id for sandbox in sandboxes}) == 1
        with pytest.raises(SandboxException, match="422"):
            await AsyncSandbox.create(idempotency_key="once", timeout=100, **api)
        with pytest.raises(SandboxException, match="404"):
            await AsyncSandbox.create(idempotency_key="failed", template="none", **api)
        with pytest.raises(SandboxException, match="404"):
            await AsyncSandbox.create(idempotency_key="failed", template="none", **api)
        await sandboxes[0].kill()

    with_server(story)


def test_the_api_key_is_needed(api: Api, with_server: WithServer) -> None:
    """A wrong key is refused in E2B's words."""

    async def story() -> None:
        with pytest.raises(AuthenticationException, match="Invalid API key"):
            await AsyncSandbox.create(**{**api, "api_key": "e2b_0000"})

    with_server(story)


def test_no_more_sandboxes_than_allowed() -> None:
    """--max-sandboxes gives 429 above it; a paused or killed sandbox makes room."""

    async def story(api: Api) -> None:
        first, second = [await AsyncSandbox.create(**api) for _ in range(2)]
        with pytest.raises(RateLimitException, match=r"maximum number of concurrent E2B sandboxes \(2\)"):
            await AsyncSandbox.create(retries=0, **api)
        with pytest.raises(SandboxException, match="Count must be lower"):
            await first.fork(count=2)
        await first.pause()
        third = await AsyncSandbox.create(**api)
        await third.kill()
        assert await second.is_running()

    with start_server(max_sandboxes=2) as server:
        asyncio.run(story({"api_key": server.api_key, "api_url": server.url, "sandbox_url": server.url}))


def test_templates_are_there_or_not(api: Api, with_server: WithServer) -> None:
    """The built-in templates exist, others do not."""

    async def story() -> None:
        options = {"api_key": api["api_key"], "api_url": api["api_url"]}
        assert await AsyncTemplate.exists("base", **options)
        assert await AsyncTemplate.exists("claude", **options)
        assert not await AsyncTemplate.exists("another", **options)

    with_server(story)


def test_many_sandboxes_at_once(api: Api, with_server: WithServer) -> None:
    """Twenty sandboxes created at the same time are twenty different ones, each with its own files."""

    async def story() -> None:
        async def one(number: int) -> str:
            async with await AsyncSandbox.create(**api) as sandbox:
                await sandbox.files.write("number", str(number))
                return (await sandbox.commands.run("cat number; ls ~ | wc -l")).stdout

        assert await asyncio.gather(*map(one, range(20))) == [f"{number}1\n" for number in range(20)]

    with_server(story)
