"""The routes of E2B's protocol, and what the local server does with each.

The facts are those of E2B's published files as of August 2026: `spec/openapi.yml` (the control plane, `API`),
`packages/envd/spec/envd.yaml` and the two `.proto` files beside it (`ENVD`, `RPCS`), and its page on events. Also
the routes of the installed SDK that those files do not have yet.
"""

from __future__ import annotations

from typing import Literal

Answer = Literal["served", "refused", "closed"]
"""served; refused with 501 and what will do in its place; closed: 404, as E2B's own proxy answers from outside."""

SERVED: Answer = "served"
REFUSED: Answer = "refused"
CLOSED: Answer = "closed"

API: dict[tuple[str, str], Answer] = {
    ("GET", "/health"): SERVED,
    # sandboxes
    ("GET", "/sandboxes"): SERVED,
    ("POST", "/sandboxes"): SERVED,
    ("GET", "/v2/sandboxes"): SERVED,
    ("POST", "/v2/sandboxes"): SERVED,
    ("GET", "/sandboxes/metrics"): SERVED,
    ("GET", "/sandboxes/{}"): SERVED,
    ("DELETE", "/sandboxes/{}"): SERVED,
    ("GET", "/sandboxes/{}/logs"): SERVED,
    ("GET", "/v2/sandboxes/{}/logs"): SERVED,
    ("GET", "/sandboxes/{}/metrics"): SERVED,
    ("POST", "/sandboxes/{}/pause"): SERVED,
    ("POST", "/sandboxes/{}/resume"): SERVED,
    ("POST", "/sandboxes/{}/connect"): SERVED,
    ("POST", "/v2/sandboxes/{}/connect"): SERVED,
    ("POST", "/sandboxes/{}/fork"): SERVED,
    ("POST", "/sandboxes/{}/timeout"): SERVED,
    ("POST", "/sandboxes/{}/refreshes"): SERVED,
    ("POST", "/sandboxes/{}/snapshots"): SERVED,
    ("PUT", "/sandboxes/{}/network"): SERVED,
    ("GET", "/snapshots"): SERVED,
    # templates
    ("POST", "/v3/templates"): SERVED,
    ("POST", "/v2/templates"): REFUSED,
    ("POST", "/templates"): REFUSED,
    ("POST", "/templates/{}"): REFUSED,
    ("POST", "/templates/{}/builds/{}"): REFUSED,
    ("GET", "/templates"): SERVED,
    ("GET", "/v2/templates"): SERVED,
    ("GET", "/default-templates"): SERVED,
    ("GET", "/templates/{}"): SERVED,
    ("DELETE", "/templates/{}"): SERVED,
    ("PATCH", "/templates/{}"): SERVED,
    ("PATCH", "/v2/templates/{}"): SERVED,
    ("GET", "/templates/{}/files/{}"): SERVED,
    ("POST", "/v2/templates/{}/builds/{}"): SERVED,
    ("GET", "/templates/{}/builds/{}/status"): SERVED,
    ("GET", "/templates/{}/builds/{}/logs"): SERVED,
    ("GET", "/templates/aliases/{}"): SERVED,
    ("POST", "/templates/tags"): SERVED,
    ("DELETE", "/templates/tags"): SERVED,
    ("GET", "/templates/{}/tags"): SERVED,
    ("GET", "/templates/{}/tags/count"): SERVED,
    ("GET", "/templates/{}/tags/exists"): SERVED,
    ("GET", "/templates/{}/tags/groups"): REFUSED,
    ("GET", "/templates/{}/tags/{}/assignments"): REFUSED,
    # what only a cloud has
    ("GET", "/teams"): REFUSED,
    ("GET", "/teams/{}/metrics"): REFUSED,
    ("GET", "/teams/{}/metrics/max"): REFUSED,
    ("GET", "/nodes"): REFUSED,
    ("GET", "/nodes/{}"): REFUSED,
    ("POST", "/nodes/{}"): REFUSED,
    ("POST", "/admin/teams/{}/sandboxes/kill"): REFUSED,
    ("GET", "/admin/sandboxes/running-counts"): REFUSED,
    ("POST", "/admin/teams/{}/builds/cancel"): REFUSED,
    ("POST", "/admin/teams/{}/api-keys"): REFUSED,
    ("DELETE", "/admin/teams/{}/api-keys/{}"): REFUSED,
    ("POST", "/access-tokens"): REFUSED,
    ("DELETE", "/access-tokens/{}"): REFUSED,
    ("GET", "/api-keys"): REFUSED,
    ("POST", "/api-keys"): REFUSED,
    ("PATCH", "/api-keys/{}"): REFUSED,
    ("DELETE", "/api-keys/{}"): REFUSED,
    ("GET", "/volumes"): REFUSED,
    ("POST", "/volumes"): REFUSED,
    ("GET", "/volumes/{}"): REFUSED,
    ("DELETE", "/volumes/{}"): REFUSED,
    ("GET", "/volumecontent/{}/path"): REFUSED,
    ("PATCH", "/volumecontent/{}/path"): REFUSED,
    ("DELETE", "/volumecontent/{}/path"): REFUSED,
    ("GET", "/volumecontent/{}/dir"): REFUSED,
    ("POST", "/volumecontent/{}/dir"): REFUSED,
    ("GET", "/volumecontent/{}/file"): REFUSED,
    ("PUT", "/volumecontent/{}/file"): REFUSED,
    ("GET", "/secrets"): REFUSED,
    ("POST", "/secrets"): REFUSED,
    ("GET", "/secrets/{}"): REFUSED,
    ("POST", "/secrets/{}"): REFUSED,
    ("DELETE", "/secrets/{}"): REFUSED,
    ("GET", "/events/sandboxes"): REFUSED,
    ("GET", "/events/sandboxes/{}"): REFUSED,
    ("GET", "/events/webhooks"): REFUSED,
    ("POST", "/events/webhooks"): REFUSED,
    ("GET", "/events/webhooks/{}"): REFUSED,
    ("PATCH", "/events/webhooks/{}"): REFUSED,
    ("DELETE", "/events/webhooks/{}"): REFUSED,
}

ENVD: dict[tuple[str, str], Answer] = {
    ("GET", "/health"): SERVED,
    ("GET", "/metrics"): SERVED,
    ("GET", "/envs"): SERVED,
    ("GET", "/files"): SERVED,
    ("POST", "/files"): SERVED,
    ("POST", "/files/compose"): SERVED,
    ("POST", "/init"): CLOSED,
    ("POST", "/freeze"): CLOSED,
    ("POST", "/unfreeze"): CLOSED,
    ("POST", "/collapse"): CLOSED,
    ("POST", "/fsfreeze"): CLOSED,
    ("POST", "/fsthaw"): CLOSED,
}

RPCS: dict[str, Literal["unary", "stream"]] = {
    "/process.Process/List": "unary",
    "/process.Process/Connect": "stream",
    "/process.Process/Start": "stream",
    "/process.Process/Update": "unary",
    "/process.Process/StreamInput": "stream",
    "/process.Process/SendInput": "unary",
    "/process.Process/SendSignal": "unary",
    "/process.Process/CloseStdin": "unary",
    "/filesystem.Filesystem/Stat": "unary",
    "/filesystem.Filesystem/MakeDir": "unary",
    "/filesystem.Filesystem/Move": "unary",
    "/filesystem.Filesystem/ListDir": "unary",
    "/filesystem.Filesystem/Remove": "unary",
    "/filesystem.Filesystem/WatchDir": "stream",
    "/filesystem.Filesystem/CreateWatcher": "unary",
    "/filesystem.Filesystem/GetWatcherEvents": "unary",
    "/filesystem.Filesystem/RemoveWatcher": "unary",
}
"""All of them are served. Those with a stream in either direction have their messages in envelopes."""

FIELDS: dict[str, str] = {
    "AWSRegistry": "type awsAccessKeyId awsSecretAccessKey awsRegion",  # refused by its type
    "AssignTemplateTagsRequest": "target tags",
    "ConnectSandbox": "timeout memory",
    "ConnectSandboxV2": "timeout memory",
    "DeleteTemplateTagsRequest": "name tags",
    "GCPRegistry": "type serviceAccountJson",  # likewise
    "GeneralRegistry": "type username password",
    "NewSandbox": "templateID "
    "timeout autoPause autoPauseMemory autoResume secure allow_internet_access network metadata "
    "envVars mcp iam volumeMounts",  # the last two are refused
    "NewSandboxV2": "templateID "
    "timeout autoPause autoPauseMemory autoResume allow_internet_access network metadata "
    "envVars mcp iam volumeMounts",
    "ResumedSandbox": "timeout autoPause memory",
    "SandboxAutoResumeConfig": "enabled",
    "SandboxForkRequest": "timeout count",
    # dnsServers, egressProxy, maskRequestHost and httpsPorts are refused
    "SandboxNetworkConfig": "allowPublicTraffic "
    "allowOut denyOut dnsServers egressProxy maskRequestHost httpsPorts rules",
    "SandboxNetworkRule": "transform",
    "SandboxNetworkTransform": "headers",
    "SandboxNetworkUpdateConfig": "allowOut denyOut dnsServers egressProxy rules allow_internet_access",
    "SandboxPauseRequest": "memory requireHealthyGuest",  # the guest always answers, or the sandbox has ended
    "SandboxRefreshRequest": "duration",
    "SandboxSnapshotRequest": "name memory",  # a snapshot has files alone
    "SandboxTimeoutRequest": "timeout",
    "TemplateBuildRequestV3": "name tags alias teamID cpuCount memoryMB minFreeDiskMb",
    "TemplateBuildStartV2": "fromImage fromTemplate fromImageRegistry force steps startCmd readyCmd",
    "TemplateStep": "type args filesHash force",
    "TemplateUpdateRequest": "public",
}
"""What bodies of requests to routes that are served may say, by the SDK's names for them."""
