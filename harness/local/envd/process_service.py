"""The RPC service for commands and terminals, `process.Process`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.process import process_pb as pb
from e2b.envd.process.process_connect import Process as ProcessProtocol
from protobuf import Oneof

from harness.local.boxes.box import Box
from harness.local.boxes.types import BadDirectory, BoxDied, BoxError
from harness.local.envd import rpc
from harness.local.envd.channel import Channel
from harness.local.envd.processes import Command, End, Event, Output, Process, ProcessTable

_MAX_TERMINAL_SIDE = 0xFFFF
"""The kernel keeps a terminal's size in 16 bits."""

_Input: TypeAlias = pb.ProcessInput | None
_Selector: TypeAlias = pb.ProcessSelector | None


class ProcessService(ProcessProtocol):
    """envd's service for the commands of one sandbox."""

    def __init__(self, box: Box, table: ProcessTable) -> None:
        self._box = box
        self._table = table

    async def start(self, request: pb.StartRequest, ctx: rpc.Context) -> AsyncIterator[pb.StartResponse]:
        """Run a command and stream its output. The command keeps running if this stream breaks."""
        process, listener = await self._spawn(request, ctx)
        async with aclosing(_stream(process, listener, ctx)) as events:
            async for event in events:
                yield pb.StartResponse(event=event)

    async def connect(
        self, request: pb.ConnectRequest, ctx: rpc.Context
    ) -> AsyncIterator[pb.ConnectResponse]:
        """Stream the output of a running command from now on; of one that is kept, from its start."""
        kept = self._find_kept(request.process)
        if kept:
            async for event in self._replay(kept, ctx):
                yield pb.ConnectResponse(event=event)
            return
        process = self._find(request.process)
        listener = process.add_listener()
        if (seconds := rpc.timeout_s(ctx)) is not None:
            listener.fail_after(seconds)
        async with aclosing(_stream(process, listener, ctx)) as events:
            async for event in events:
                yield pb.ConnectResponse(event=event)

    async def list(self, request: pb.ListRequest, ctx: rpc.Context) -> pb.ListResponse:
        """List the running commands."""
        return pb.ListResponse(processes=[_info(process) for process in self._table])

    async def update(self, request: pb.UpdateRequest, ctx: rpc.Context) -> pb.UpdateResponse:
        """Resize a terminal."""
        process = self._find(request.process)
        if request.pty is not None:
            cols, rows = _size(request.pty)
            try:
                process.resize(cols, rows)
            except BoxError as error:
                raise ConnectError(Code.FAILED_PRECONDITION, f"error resizing tty: {error}") from error
        return pb.UpdateResponse()

    async def send_input(self, request: pb.SendInputRequest, ctx: rpc.Context) -> pb.SendInputResponse:
        """Write to a command's stdin or terminal. Returns when all has been written."""
        await _write(self._find(request.process), request.input)
        return pb.SendInputResponse()

    async def stream_input(
        self, request: AsyncIterator[pb.StreamInputRequest], ctx: rpc.Context
    ) -> pb.StreamInputResponse:
        """Write a sequence of inputs in their order."""
        process: Process | None = None
        async for message in request:
            match message.event:
                case Oneof(field="start", value=pb.StreamInputRequest.StartEvent() as start):
                    process = self._find(start.process)
                case Oneof(field="data", value=pb.StreamInputRequest.DataEvent() as data):
                    if process is None:
                        raise ConnectError(Code.INVALID_ARGUMENT, "the first event must name the process")
                    await _write(process, data.input)
                case Oneof(field="keepalive"):
                    pass
                case _:
                    raise ConnectError(Code.UNIMPLEMENTED, "unknown input event")
        return pb.StreamInputResponse()

    async def send_signal(self, request: pb.SendSignalRequest, ctx: rpc.Context) -> pb.SendSignalResponse:
        """Send SIGTERM or SIGKILL."""
        process = self._find(request.process)
        if request.signal not in (pb.Signal.SIGTERM, pb.Signal.SIGKILL):
            raise ConnectError(Code.UNIMPLEMENTED, f"invalid signal: {request.signal}")
        try:
            await process.signal(int(request.signal))
        except ProcessLookupError as error:
            raise ConnectError(Code.NOT_FOUND, f"process with pid {process.pid} not found") from error
        return pb.SendSignalResponse()

    async def close_stdin(self, request: pb.CloseStdinRequest, ctx: rpc.Context) -> pb.CloseStdinResponse:
        """Close a command's stdin."""
        process = self._find(request.process)
        if process.has_terminal:
            raise ConnectError(
                Code.FAILED_PRECONDITION, "cannot close stdin for PTY process — send Ctrl+D (0x04) instead"
            )
        process.close_stdin()
        return pb.CloseStdinResponse()

    async def _spawn(self, request: pb.StartRequest, ctx: rpc.Context) -> tuple[Process, Channel[Event]]:
        config = request.process or pb.ProcessConfig()
        _check(config)
        user = rpc.find_caller(self._box, ctx)
        cwd = rpc.resolve_path(user, config.cwd)
        command = Command(
            program=config.cmd,
            args=tuple(config.args),
            env=dict(config.envs),
            cwd=config.cwd if config.has_field("cwd") else None,
            tag=request.tag if request.has_field("tag") else None,
        )
        try:
            return await self._table.start(
                command,
                cwd=cwd,
                user=user.name,
                pty=None if request.pty is None else _size(request.pty),
                # The default is True: clients older than the field rely on an open stdin.
                stdin=request.stdin if request.has_field("stdin") else True,
                seconds=rpc.timeout_s(ctx),
            )
        except BadDirectory as error:
            raise ConnectError(Code.INVALID_ARGUMENT, f"cwd '{cwd}' does not exist: {error}") from error
        except BoxDied:
            raise
        except BoxError as error:  # also what the sandbox has lost, as its terminals
            raise ConnectError(
                Code.INVALID_ARGUMENT, f"error starting process '{config.cmd}': {error}"
            ) from error

    def _find_kept(self, selector: _Selector) -> Process | None:
        match selector.selector if selector else None:
            case Oneof(field="pid", value=int() as pid):
                return self._table.find_kept(pid)
        return None

    async def _replay(self, process: Process, ctx: rpc.Context) -> AsyncGenerator[pb.ProcessEvent, None]:
        """All that a command has said, and then what it says, to its end."""
        assert process.kept, "its output is kept"
        end, past, listener = process.end, process.kept.read(), process.add_listener()
        yield _event("start", pb.ProcessEvent.StartEvent(pid=process.pid))
        try:
            for name, data in past:
                yield _encode(Output(name, data))
            if end:
                yield _encode(end)
                return
            async for event in rpc.read_channel(listener, ctx):
                yield _encode(event)
        finally:
            process.remove_listener(listener)

    def _find(self, selector: _Selector) -> Process:
        match selector.selector if selector else None:
            case Oneof(field="pid", value=int() as pid):
                process, name = self._table.find_by_pid(pid), f"pid {pid}"
            case Oneof(field="tag", value=str() as tag):
                process, name = self._table.find_by_tag(tag), f"tag {tag}"
            case _:
                raise ConnectError(Code.INVALID_ARGUMENT, "a process must be named by pid or tag")
        if process is None:
            raise ConnectError(Code.NOT_FOUND, f"process with {name} not found")
        return process


async def _stream(
    process: Process, listener: Channel[Event], ctx: rpc.Context
) -> AsyncGenerator[pb.ProcessEvent, None]:
    try:
        yield _event("start", pb.ProcessEvent.StartEvent(pid=process.pid))
        async for event in rpc.read_channel(listener, ctx):
            yield _encode(event)
    finally:
        process.remove_listener(listener)


def _encode(event: Event | None) -> pb.ProcessEvent:
    match event:
        case Output(stream, data):
            return _event("data", pb.ProcessEvent.DataEvent(output=_one_of(stream, data)))
        case End(exit_code, exited, status, error):
            end = pb.ProcessEvent.EndEvent(exit_code=exit_code, exited=exited, status=status, error=error)
            return _event("end", end)
        case None:
            return _event("keepalive", pb.ProcessEvent.KeepAlive())


def _event(kind: str, content: Any) -> pb.ProcessEvent:
    return pb.ProcessEvent(event=_one_of(kind, content))


def _one_of(field: str, value: Any) -> Any:
    """Make a oneof. Its type lists the field names as literals, so a variable does not type-check."""
    return Oneof(field, value)


def _info(process: Process) -> pb.ProcessInfo:
    command = process.command
    config = pb.ProcessConfig(
        cmd=command.program, args=list(command.args), envs=dict(command.env), cwd=command.cwd
    )
    return pb.ProcessInfo(config=config, pid=process.pid, tag=command.tag)


async def _write(process: Process, data: _Input) -> None:
    match data.input if data else None:
        case Oneof(field="stdin" | "pty" as target, value=content):
            if (target == "pty") != process.has_terminal:
                raise ConnectError(
                    Code.FAILED_PRECONDITION, f"error writing to {target}: the process has none"
                )
            try:
                await process.write(content)
            except OSError as error:
                raise ConnectError(Code.FAILED_PRECONDITION, f"error writing to {target}: {error}") from error
        case _:
            raise ConnectError(Code.UNIMPLEMENTED, "unknown kind of input")


def _size(pty: pb.PTY) -> tuple[int, int]:
    size = pty.size or pb.PTY.Size()
    if size.cols > _MAX_TERMINAL_SIDE or size.rows > _MAX_TERMINAL_SIDE:
        raise ConnectError(
            Code.INVALID_ARGUMENT, f"a terminal has at most {_MAX_TERMINAL_SIDE} cols and rows"
        )
    return size.cols, size.rows


def _check(config: pb.ProcessConfig) -> None:
    """Reject strings with null characters and variable names with '=', which the kernel cannot take."""
    if not config.cmd:
        raise ConnectError(Code.INVALID_ARGUMENT, "a process needs a command")
    if any("\0" in text for text in (config.cmd, *config.args, *config.envs.keys(), *config.envs.values())):
        raise ConnectError(Code.INVALID_ARGUMENT, "a command must not hold null characters")
    if any(not name or "=" in name for name in config.envs):
        raise ConnectError(
            Code.INVALID_ARGUMENT, "an environment variable's name must not be empty or hold '='"
        )
