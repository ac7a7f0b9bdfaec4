"""A command that outlives the connection to its sandbox, as the scripts that start, follow and end it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.sandboxes.layout import HOME


@dataclass
class Job:
    """A command that runs apart in the sandbox, its output in files of `folder` (below the home).

    It starts from a login shell. With `login_env`, it starts with those variables, and the shell's start-up files are
    not read. `files` are put into the folder before. `exit_code` and `stderr` (its end) are known once it has ended.
    They are None when the job was killed.
    """

    command: str
    folder: str
    cwd: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    login_env: Mapping[str, str] | None = None
    exit_code: int | None = None
    stderr: str = ""

    def start_script(self, hand_over: str = "true") -> str:
        """Start it detached, once `hand_over` has put its files in place, and follow its output."""
        out, err, exit_file = map(self._file, ("out", "err", "exit"))
        body = f"{{ {self.command}\n}} >{out} 2>{err}; echo $? >{exit_file}"
        return (
            f"{{ [ -d ~/{self.folder} ] || mkdir -p ~/{self.folder}; }} && : >{out} || exit\n{hand_over} || exit\n"
            f"cd {self._shell(self.cwd)} || exit\n"
            f"setsid bash -c {shlex.quote(body)} >/dev/null 2>&1 </dev/null &\n"
            f"echo $! >{self._file('pid')}\n" + self.follow_script(from_line=1)
        )

    def follow_script(self, from_line: int) -> str:
        """Print its output from a line on until it has ended, then on stderr its exit code and its own stderr."""
        out, err, exit_file, pid = map(self._file, ("out", "err", "exit", "pid"))
        return (
            # Named, the file would be watched by inotify, whose end takes the kernel 10 to 20 ms.
            f"tail -n +{from_line} -s 0.01 --pid=$(<{pid}) -f <{out}\n"
            f"code=; [ ! -f {exit_file} ] || read -r code <{exit_file}\n"
            f'{{ echo "$code"; [ ! -s {err} ] || tail -c 20000 {err}; }} >&2'
        )

    def kill_script(self) -> str:
        """End it and all of its session, at once."""
        return f"kill -KILL -- -$(<{self._file('pid')}) 2>/dev/null; true"

    def ended(self, report: str) -> None:
        """Take note of what the follow script said at its end."""
        code, _, self.stderr = report.partition("\n")
        self.exit_code = int(code) if code.strip().isdigit() else None

    def _file(self, name: str) -> str:
        return f"~/{self.folder}/{name}"

    @staticmethod
    def _shell(path: str) -> str:
        return path.replace(HOME, "~", 1)
