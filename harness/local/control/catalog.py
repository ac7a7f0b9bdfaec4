"""The sources of new sandboxes: built-in templates, templates that were built, and snapshots of sandboxes.

E2B treats a snapshot as a template. It has an id and optionally a name, both with a tag, and `create` takes either.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.local.api_errors import bad_request, not_on_this_server, template_not_found
from harness.local.boxes.file_tree import remove_tree
from harness.local.builds.store import TemplateStore
from harness.local.template import Template, with_claude_version

DEFAULT_TAG = "default"
_BUILD_YOUR_OWN = (
    "build one of this name from `base` or `claude` with what you need (Template().from_template)"
)
_E2B_TEMPLATES = {
    "code-interpreter-v1": "it has Jupyter kernels, which e2b_code_interpreter's run_code speaks to; take `base` or "
    "`claude` with the package e2b, and run code with sandbox.commands.run('python3 ...')",
    "desktop": f"it has a screen; {_BUILD_YOUR_OWN}",
    **dict.fromkeys(("amp", "codex", "grok", "openai-codex", "opencode"), _BUILD_YOUR_OWN),
}
"""Templates that E2B has built for everybody, and what will do in their place. A template built here goes before."""

_REFERENCE = re.compile(r"(?:(?P<space>[a-z0-9_-]+)/)?(?P<name>[a-z0-9_-]+)(?::(?P<tag>[a-z0-9._-]+))?")


@dataclass(frozen=True)
class Snapshot:
    """The files of a sandbox at one moment."""

    id: str
    name: str | None
    tag: str
    sandbox_id: str
    template: Template
    path: Path
    created_at: datetime

    @property
    def reference(self) -> str:
        """The reference by which `create` starts a sandbox from it."""
        return f"{self.name or self.id}:{self.tag}"

    @property
    def names(self) -> list[str]:
        """Its names; empty if it was given none."""
        return [self.reference] if self.name else []


@dataclass(frozen=True)
class SandboxSource:
    """The source of a sandbox's initial content: a template, optionally with the files of a snapshot."""

    template: Template
    seed: Path | None = None


class Catalog:
    """All templates and snapshots that `create` can start a sandbox from."""

    def __init__(
        self,
        templates: Sequence[Template],
        store: TemplateStore,
        directory: Path,
        find_image: Callable[[str], Template | None] = lambda name: None,
    ) -> None:
        self.templates = tuple(templates)
        self._find_image = find_image
        self._store = store
        self._directory = directory
        self._snapshots: dict[str, Snapshot] = {}

    def find_source(self, reference: str) -> SandboxSource:
        """Return the template or snapshot of this name or id. Raises `ApiError` 400 or 404."""
        name, tag = parse_reference(reference)
        if (template := self.find_template(reference)) is not None:
            return SandboxSource(template)
        snapshot = self._find_snapshot(name, tag)
        if snapshot is None:
            if name in _E2B_TEMPLATES:
                raise not_on_this_server(f"E2B's template '{name}'", _E2B_TEMPLATES[name])
            raise template_not_found(reference)
        return SandboxSource(snapshot.template, snapshot.path)

    def find_builtin(self, name: str) -> Template | None:
        """Return the built-in template of this name, alias or id."""
        return next(
            (one for one in self.templates if name in (one.name, one.id, *one.aliases)),
            None,
        )

    def find_root(self, name: str) -> Template | None:
        """Return what a template can be built on: a built-in one, or an image that has been unpacked."""
        return self.find_builtin(name) or self._find_image(name)

    def find_template(self, reference: str) -> Template | None:
        """Return the template of this name or id, built-in or built here.

        One with Claude Code has the versions of it that were fetched as tags, too.
        """
        name, tag = parse_reference(reference)
        builtin = self.find_builtin(name)
        if builtin and tag in (DEFAULT_TAG, builtin.build_id.lower()):
            return builtin
        found = self.find_built(name, tag)
        if found is None and tag != DEFAULT_TAG and (plain := self.find_template(name)):
            return with_claude_version(plain, tag)
        return found

    def find_built(self, name: str, tag: str) -> Template | None:
        """Return the template that was built under this name or id, and tag. A build's own id is one of its tags."""
        record = self._store.find_record(name)
        build = record.builds.get(record.tags.get(tag, tag)) if record else None
        root = (self._find_image(build.root) or self.find_template(build.root)) if build else None
        return self._store.make_template(record, build, root) if record and build and root else None

    def list_snapshots(self, sandbox_id: str | None, name: str | None) -> list[Snapshot]:
        """Return the snapshots, the newest first; only those of a sandbox or of a name if it is given."""
        wanted = [
            snapshot
            for snapshot in self._snapshots.values()
            if sandbox_id in (None, snapshot.sandbox_id) and name in (None, snapshot.name, snapshot.reference)
        ]
        return sorted(wanted, key=lambda snapshot: (snapshot.created_at, snapshot.id), reverse=True)

    def new_snapshot(self, name: str | None, sandbox_id: str, template: Template) -> Snapshot:
        """Return a new snapshot, to be filled and then added. Raises `ApiError` 400 for a bad name."""
        alias, tag = parse_reference(name) if name else (None, DEFAULT_TAG)
        if alias is not None and self.find_builtin(alias):
            raise bad_request(f"'{alias}' is the name of a built-in template")
        snapshot_id = secrets.token_hex(10)
        path = self._directory / snapshot_id
        return Snapshot(snapshot_id, alias, tag, sandbox_id, template, path, datetime.now(UTC))

    async def add_snapshot(self, snapshot: Snapshot) -> None:
        """Add a snapshot that has been filled. It replaces the one with the same name and tag."""
        replaced = self._find_snapshot(snapshot.name, snapshot.tag) if snapshot.name else None
        self._snapshots[snapshot.id] = snapshot
        if replaced:
            await self._remove_snapshot(replaced)

    async def delete_snapshot(self, reference: str) -> None:
        """Remove a snapshot. Raises `ApiError` 404, and 400 for a built-in template."""
        name, tag = parse_reference(reference)
        if self.find_builtin(name):
            raise bad_request(f"'{name}' is a built-in template and cannot be deleted")
        snapshot = self._find_snapshot(name, tag)
        if snapshot is None:
            raise template_not_found(reference)
        await self._remove_snapshot(snapshot)

    def _find_snapshot(self, name: str, tag: str) -> Snapshot | None:
        return next(
            (one for one in self._snapshots.values() if name in (one.id, one.name) and tag == one.tag),
            None,
        )

    async def _remove_snapshot(self, snapshot: Snapshot) -> None:
        del self._snapshots[snapshot.id]
        await asyncio.to_thread(remove_tree, snapshot.path)


def parse_reference(reference: str) -> tuple[str, str]:
    """Split a reference into name and tag. A namespace is accepted and ignored: this server has one owner."""
    match = _REFERENCE.fullmatch(reference.lower())
    if match is None:
        raise bad_request(f"Invalid template reference: {reference!r}")
    return match["name"], match["tag"] or DEFAULT_TAG
