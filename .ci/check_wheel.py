"""Fail unless a wheel has the name that users install, and every file of the package that git knows.

python .ci/check_wheel.py WHEEL
"""

import re
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from pathlib import Path

from harness import __version__

wheel = Path(sys.argv[1])
listed = subprocess.run(
    ["git", "ls-files", "-z", "harness", "tasks"], capture_output=True, text=True, check=True
)
# The shipped tasks are in the package there, for `harness demo`.
files = {
    re.sub("^tasks/", "harness/shipped_tasks/", name) for name in filter(None, listed.stdout.split("\0"))
}
with zipfile.ZipFile(wheel) as content:
    names = set(content.namelist())
    (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    about = BytesParser().parsebytes(content.read(metadata))

problems = [f"{name} is not in the wheel" for name in sorted(files - names)]
problems += [f"{name} is in the wheel alone" for name in sorted(names - files) if name.startswith("harness/")]
if (about["Name"], about["Version"]) != ("pytest-claude-code", __version__):
    problems.append(f"it is {about['Name']} {about['Version']}")
if problems:
    sys.exit("\n".join(problems))
print(f"{wheel.name} has all {len(files)} files of the package")
