"""Claude Code on top of any template: `with_claude(Template().from_image("python:3.13"))`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_INSTALL = r"""
set -e
have() { command -v "$1" >/dev/null 2>&1; }
install_packages() {
  if have apt-get; then apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
  elif have apk; then apk add --no-cache "$@"
  elif have dnf; then dnf install -y "$@"
  elif have yum; then yum install -y "$@"
  else echo "the image has no $*, and no apt-get, apk, dnf or yum to install it with" >&2; return 1
  fi
}
missing=
for program in %(programs)s; do have "$program" || missing="$missing $program"; done
if ! have claude; then
  have curl || missing="$missing curl ca-certificates"
  if have apk; then missing="$missing libgcc libstdc++"; fi
fi
if [ -n "$missing" ]; then install_packages $missing; fi
if ! have claude; then
  curl -fsSL https://claude.ai/install.sh | HOME=/opt/claude-install bash -s -- %(version)s
  install -D -m 755 "$(readlink -f /opt/claude-install/.local/bin/claude)" /usr/local/bin/claude
  rm -rf /opt/claude-install
fi
"""
_NEEDED = ("bash", "tar", "git")
"""What harness itself needs in a sandbox beside coreutils; git only for tasks with a repo."""


def with_claude(template: Any, version: str = "latest", programs: Sequence[str] = _NEEDED) -> Any:
    """A template with Claude Code, for any engine that builds E2B's templates.

    Where the engine or the image has `claude` already, as this machine's sandboxes do, that one stays.

    Args:
        template: one of e2b's `Template()`, from an image, a Dockerfile or another template.
        version: what Claude Code's installer takes: "latest", "stable" or a number.
        programs: what is installed beside it where it is missing.
    """
    script = _INSTALL.strip() % {"programs": " ".join(programs), "version": version}
    return template.run_cmd(script, user="root").set_envs({"DISABLE_AUTOUPDATER": "1"})
