"""A command that runs apart in a sandbox while its output is followed: the agent.

On a server that keeps output (the local one) the job is the command that the server itself starts: its output is in the
server's own pipe, where no file and no follower in the sandbox can be got at. E2B's envd keeps nothing, so there the
output goes to a file, and a follower tells it from a line on.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.sandboxes.layout import HOME

JOB = "HARNESS_JOB"
_KEEP = "HARNESS_KEEP_OUTPUT"
_TAIL_CHARS = 20_000
_LINGER_S = 3
# The follow script's words, in the midst of the shell's own on a follower that was killed.
_RUNS_ON = "runs on"
_PID = re.compile(r"^pid=(\d+)$", re.MULTILINE)
_ENDED = re.compile(r"^ended=(\d*)\n", re.MULTILINE)


class Tail:
    """The end of a text that comes in pieces."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, piece: str) -> None:
        """Add a piece."""
        self.text = (self.text + piece)[-_TAIL_CHARS:]


@dataclass
class Job:
    """A command, and what has to be done before it in the same shell (`prepare`).

    It starts from a login shell, or, where `login_env` is given, with those variables instead of what the shell's
    start-up files say now. `exit_code` and `stderr` (its end) are known once it has ended; None when it was killed.
    `is_left`: what followed it has ended, and it has not. `pid` is its process, once that is known.
    """

    command: str
    folder: str
    cwd: str
    prepare: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    login_env: Mapping[str, str] | None = None
    exit_code: int | None = None
    stderr: str = ""
    is_left: bool = False
    pid: int | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def marks(self) -> dict[str, str]:
        """Variables for a server that keeps output; the command does not see them."""
        return {_KEEP: "1", JOB: self.token}

    def run_script(self, hand_over: str) -> str:
        """Become the command, once `hand_over` has put its files in place."""
        return f"{self._ready(hand_over)}unset {_KEEP} {JOB}\n{self._body()}"

    def start_script(self, hand_over: str) -> str:
        """Start it detached, once `hand_over` has put its files in place, and follow its output."""
        out, err, exit_file = map(self._file, ("out", "err", "exit"))
        # Whoever removes the files takes no output away: this shell has them open, as 3, 4 and 5.
        body = (
            f"exec 3>{exit_file} 4>{out} 5>{err}\n"
            f"( exec >&4 2>&5 3>&- 4>&- 5>&-\n{self._body()}\n)\necho $? >&3\n"
            # Removed files can be read from here alone, by a follower that may have been ended too and comes anew.
            f"[ -f {out} ] || sleep {_LINGER_S}"
        )
        return (
            f"{self._ready(hand_over)}: >{out} || exit\n"
            f"setsid bash -c {shlex.quote(body)} >/dev/null 2>&1 </dev/null &\n"
            f"pid=$!; echo $pid >{self._file('pid')}\n" + self._follow(from_line=1)
        )

    def follow_script(self, from_line: int) -> str:
        """Print its output from a line on until it has ended, then on stderr its exit code and its own stderr.

        When only the follower has ended, it says on stderr that the job runs on.
        """
        known = str(self.pid) if self.pid is not None else f"$(<{self._file('pid')})"
        return f"pid={known}\n{self._follow(from_line)}"

    def _follow(self, from_line: int) -> str:
        out, err, exit_file = map(self._file, ("out", "err", "exit"))
        return (
            'echo "pid=$pid" >&2\n'
            f'out={out}; [ -f $out ] || out="/proc/$pid/fd/4"\n'
            # Named, the file would be watched by inotify, whose end takes the kernel 10 to 20 ms.
            f'tail -n +{from_line} -s 0.01 --pid="$pid" -f <"$out"\n'
            f'if kill -0 "$pid" 2>/dev/null; then echo "{_RUNS_ON}" >&2; exit; fi\n'
            f"code=; [ ! -f {exit_file} ] || read -r code <{exit_file}\n"
            f'{{ echo "ended=$code"; [ ! -s {err} ] || tail -c {_TAIL_CHARS - 100} {err}; }} >&2'
        )

    def kill_script(self) -> str:
        """End it and all of its session, at once."""
        known = str(self.pid) if self.pid is not None else f"$(<{self._file('pid')})"
        return f"kill -KILL -- -{known} 2>/dev/null; true"

    def take_report(self, report: str) -> None:
        """Take note of what the follow script said: the job's process, and at the end how that ended."""
        pid, ended = _PID.search(report), _ENDED.search(report)
        self.pid = int(pid[1]) if pid else self.pid
        self.is_left = not ended and _RUNS_ON in report.splitlines()
        self.exit_code = int(ended[1]) if ended and ended[1] else None
        self.stderr = report[ended.end() :] if ended else ""

    def _ready(self, hand_over: str) -> str:
        folder, cwd = f"~/{self.folder}", self.cwd.replace(HOME, "~", 1)
        return f"{{ [ -d {folder} ] || mkdir -p {folder}; }} || exit\n{hand_over} || exit\ncd {cwd} || exit\n"

    def _body(self) -> str:
        return f"{self.prepare}\nexec {self.command}"

    def _file(self, name: str) -> str:
        return f"~/{self.folder}/{name}"
