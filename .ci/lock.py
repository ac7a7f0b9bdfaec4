"""Lock what CI installs: each distribution that pip would choose now, with the SHA-256 of its file.

python .ci/lock.py > .ci/requirements.lock      with CI's Python, on CI's platform
python .ci/lock.py --versions                   the locked versions, as constraints for pip
python .ci/lock.py --check PYTHON               tell what that Python's environment has that is not locked

A file of another Python or platform has another hash: the lock names in its first line what it is for.
"""

import json
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / ".ci" / "requirements.lock"
OWN = "pytest-claude-code"


def place() -> str:
    return f"Python {'.'.join(platform.python_version_tuple()[:2])} on {sysconfig.get_platform()}"


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return {canonical(name): version for name, version in lines}


def make() -> None:
    with tempfile.NamedTemporaryFile() as report:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
        subprocess.run([*pip, "--report", report.name, f"{ROOT}[dev]"], check=True, stdout=sys.stderr)
        found = json.loads(Path(report.name).read_bytes())["install"]
    lines = []
    for one in found:
        name, version = canonical(one["metadata"]["name"]), one["metadata"]["version"]
        if name != OWN:
            digest = one["download_info"]["archive_info"]["hashes"]["sha256"]
            lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    sys.stdout.write(f"# For {place()}; made by .ci/lock.py.\n{''.join(sorted(lines))}")


def check(python: str) -> int:
    said = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True)
    known = locked()
    tools = {OWN, "pip", "setuptools", "wheel"}
    there = {canonical(one["name"]): one["version"] for one in json.loads(said.stdout)}
    wrong = [
        f"{name} {version}: locked is {known.get(name, 'nothing')}"
        for name, version in sorted(there.items())
        if name not in tools and known.get(name) != version
    ]
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    if "--versions" in sys.argv:
        if place() in LOCK.read_text(encoding="utf-8").splitlines()[0]:
            sys.stdout.write("".join(f"{name}=={version}\n" for name, version in locked().items()))
    elif "--check" in sys.argv:
        sys.exit(check(sys.argv[-1]))
    else:
        make()
