"""What a fresh sandbox contains: the built-in templates `base` and `claude`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Template:
    """A named content for sandboxes. `build_id` changes whenever the content does."""

    name: str
    id: str
    build_id: str
    aliases: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    programs: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Programs put on PATH before the host's own: name -> file (or a script inside a folder of `folders`)."""
    folders: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Folders bound read-only: path inside -> folder of this machine."""
    layers: tuple[Path, ...] = ()
    """Folders laid over the file system, lowest first; each belongs to the sandbox's account."""


def builtin_templates() -> tuple[Template, ...]:
    """The templates that every local server has, `base` first."""
    return (Template(name="base", id="base", build_id="base"),)
