"""The JSON of sandboxes, snapshots, templates and metrics in the control plane's replies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.local.builds.store import TemplateRecord
from harness.local.control.catalog import Snapshot
from harness.local.control.registry import LocalSandbox, Sample
from harness.local.envd import app as envd
from harness.local.envd.journal import LogEntry
from harness.local.limits import BoxLimits
from harness.local.template import Template

Json = dict[str, Any]

_CLIENT_ID = "local"
"""The id of the sandbox's machine, which E2B still sends for clients of its first protocol."""


@dataclass(frozen=True)
class Resources:
    """The most that one sandbox can use: its limits, or else the machine's resources."""

    cpu_count: int
    memory_mb: int
    disk_size_mb: int

    @classmethod
    def of(cls, limits: BoxLimits, state: Path) -> Resources:
        """Return the limits, completed by the machine's own numbers."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        return cls(
            cpu_count=max(1, int(limits.cpus or len(os.sched_getaffinity(0)))),
            memory_mb=limits.memory_mb or memory,
            disk_size_mb=shutil.disk_usage(state).total >> 20,
        )

    def within(self, limits: BoxLimits) -> Resources:
        """Return what a sandbox with these limits can use."""
        return replace(
            self,
            cpu_count=min(self.cpu_count, max(1, int(limits.cpus or self.cpu_count))),
            memory_mb=min(self.memory_mb, limits.memory_mb or self.memory_mb),
            disk_size_mb=min(self.disk_size_mb, limits.disk_mb or self.disk_size_mb),
        )

    def as_json(self) -> Json:
        """Return the three fields that E2B shows with sandboxes and templates."""
        return {
            "cpuCount": self.cpu_count,
            "memoryMB": self.memory_mb,
            "diskSizeMB": self.disk_size_mb,
        }


def sandbox_connection(sandbox: LocalSandbox, domain: str) -> Json:
    """Return the reply to create, connect and fork. A client reaches the sandbox's port N at `N-ID.DOMAIN`."""
    reply = {**_identity(sandbox), "domain": domain, "trafficAccessToken": sandbox.traffic_token}
    return reply if sandbox.token is None else {**reply, "envdAccessToken": sandbox.token}


def sandbox_summary(sandbox: LocalSandbox, resources: Resources) -> Json:
    """Return a sandbox as an item of a list."""
    return {
        **_identity(sandbox),
        **resources.within(sandbox.box.spec.limits).as_json(),
        "startedAt": timestamp(sandbox.started_at),
        "endAt": timestamp(sandbox.end_at),
        "state": sandbox.state,
        "metadata": dict(sandbox.request.metadata),
    }


def sandbox_details(sandbox: LocalSandbox, resources: Resources, domain: str) -> Json:
    """Return all fields of one sandbox."""
    request = sandbox.request
    detail: Json = {
        **sandbox_summary(sandbox, resources),
        "domain": domain,
        "allowInternetAccess": request.allow_internet_access,
        "lifecycle": {
            "onTimeout": "pause" if request.pause_on_timeout else "kill",
            "autoResume": request.auto_resume,
        },
    }
    if sandbox.token is not None:
        detail["envdAccessToken"] = sandbox.token
    if request.network is not None:
        detail["network"] = dict(request.network)
    if sandbox.state == "paused":
        detail["pauseMode"] = "full" if sandbox.frozen else "filesystem"
    return detail


def usage_sample(sample: Sample) -> Json:
    """Return a sample of a sandbox's resource usage."""
    usage = sample.usage
    return {
        "timestamp": timestamp(sample.taken_at),
        "timestampUnix": int(sample.taken_at.timestamp()),
        "cpuCount": usage.cpu_count,
        "cpuUsedPct": round(usage.cpu_percent / usage.cpu_count, 2),  # E2B's: of all cores together
        "memUsed": usage.mem_used,
        "memTotal": usage.mem_total,
        "memCache": 0,  # the page cache belongs to the machine and is counted for no sandbox
        "diskUsed": usage.disk_used,
        "diskTotal": usage.disk_total,
    }


def log_line(entry: LogEntry) -> Json:
    """Return an event in the log's first form: a line."""
    return {"timestamp": timestamp(entry.taken_at), "line": entry.line}


def log_entry(entry: LogEntry) -> Json:
    """Return an event in the log's later form: message and fields."""
    return {
        "timestamp": timestamp(entry.taken_at),
        "level": entry.level,
        "message": entry.message,
        "fields": entry.fields,
    }


def snapshot_summary(snapshot: Snapshot) -> Json:
    """Return a snapshot with the reference that `create` takes."""
    return {"snapshotID": snapshot.reference, "names": snapshot.names}


def builtin_template_summary(
    template: Template, resources: Resources, started_at: datetime, spawn_count: int
) -> Json:
    """Return a built-in template as an item of a list. It counts as ready since the server started."""
    return {
        "templateID": template.id,
        "buildID": template.build_id,
        **resources.as_json(),
        "public": True,
        "aliases": [template.name, *template.aliases],
        "names": [template.name, *template.aliases],
        "createdAt": timestamp(started_at),
        "updatedAt": timestamp(started_at),
        "createdBy": None,
        "lastSpawnedAt": None,
        "spawnCount": spawn_count,
        "buildCount": 1,
        "envdVersion": envd.VERSION,
        "buildStatus": "ready",
        "isDefault": True,
    }


def built_template_summary(record: TemplateRecord, resources: Resources) -> Json:
    """Return a template that was built here as an item of a list, with the facts of its newest build."""
    newest = max(record.builds.values(), key=lambda build: build.finished_at)
    return {
        "templateID": record.id,
        "buildID": newest.id,
        **resources.as_json(),
        "public": False,
        "aliases": [record.name],
        "names": [record.name],
        "createdAt": timestamp(record.created_at),
        "updatedAt": timestamp(newest.finished_at),
        "createdBy": None,
        "lastSpawnedAt": None,
        "spawnCount": 0,
        "buildCount": len(record.builds),
        "envdVersion": envd.VERSION,
        "buildStatus": "ready",
        "isDefault": False,
    }


def template_details(record: TemplateRecord, resources: Resources) -> Json:
    """Return all fields of one template that was built here."""
    builds = [
        {
            "buildID": build.id,
            "status": "ready",
            "createdAt": timestamp(build.created_at),
            "updatedAt": timestamp(build.finished_at),
            "finishedAt": timestamp(build.finished_at),
            **resources.as_json(),
            "envdVersion": envd.VERSION,
        }
        for build in record.builds.values()
    ]
    return {**built_template_summary(record, resources), "builds": builds}


def build_log_entry(entry: LogEntry) -> Json:
    """Return a line of a build's log."""
    return {
        "timestamp": timestamp(entry.taken_at),
        "level": entry.level,
        "message": entry.message,
        **entry.fields,
    }


def timestamp(moment: datetime) -> str:
    """Format a moment as E2B does: UTC, RFC 3339."""
    return moment.isoformat().replace("+00:00", "Z")


def _identity(sandbox: LocalSandbox) -> Mapping[str, Any]:
    return {
        "templateID": sandbox.request.template.id,
        "sandboxID": sandbox.id,
        "clientID": _CLIENT_ID,
        "envdVersion": envd.VERSION,
        "alias": sandbox.request.template.name,
    }
