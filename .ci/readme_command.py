"""Print the README's command that follows a sentence: CI runs what a newcomer reads, and nothing else.

python .ci/readme_command.py "Run the shipped tasks"
"""

import re
import sys
from pathlib import Path

readme = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
found = re.search(rf"^{re.escape(sys.argv[1])}.*?^```sh\n(.*?)\n```$", readme, re.MULTILINE | re.DOTALL)
if not found:
    sys.exit(f"README.md has no command after {sys.argv[1]!r}")
if "\n" in found[1]:
    sys.exit(f"README.md's command after {sys.argv[1]!r} is not one line")
print(found[1])
