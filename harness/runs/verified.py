"""The findings of verifying a run, for people and for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from harness.report.table import printable

_SHOWN = 200
"""The most findings that are shown in the terminal; JSON has them all."""


@dataclass(frozen=True)
class Contradiction:
    """A contradiction in a run: in which file, of which trial (None: of none), and how."""

    file: str
    trial: str | None
    what: str

    @property
    def sentence(self) -> str:
        """It, for a reader."""
        return f"{self.file}: {f'{self.trial}: ' if self.trial else ''}{self.what}"


@dataclass
class Verified:
    """The result. `findings` contradict the run; `unverified` counts what there was nothing to compare with."""

    run: str
    manifest: str = "whole"
    files: int = 0
    records: int = 0
    recomputed: Counter[str] = field(default_factory=Counter)
    findings: list[Contradiction] = field(default_factory=list)
    unverified: Counter[str] = field(default_factory=Counter)

    def find(self, file: str, what: str, trial: str | None = None) -> None:
        """Take in what contradicts the run."""
        self.findings.append(Contradiction(file, trial, what))

    def as_json(self) -> str:
        """For programs."""
        told = {
            "verified": not self.findings,
            "run": self.run,
            "manifest": self.manifest,
            "files": self.files,
            "records": self.records,
            "recomputed": dict(self.recomputed),
            "unverified": dict(self.unverified),
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(told, indent=1) + "\n"

    def text(self) -> str:
        """For the terminal."""
        lines = [f"run {self.run}: {self.records} records, {self.files} files in the manifest"]
        lines.append(f"manifest: {_MANIFESTS[self.manifest]}")
        if self.recomputed:
            counts = ", ".join(f"{number} {what}" for what, number in sorted(self.recomputed.items()))
            lines.append(f"recomputed from evidence: {counts}")
        lines += [f"not verified: {what} ({number})" for what, number in self.unverified.items()]
        lines += [f"- {one.sentence}" for one in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            lines.append(f"- and {len(self.findings) - _SHOWN} more (--json has them all)")
        number = len(self.findings)
        lines.append(
            f"NOT VERIFIED: {number} contradictions" if number else "verified: nothing contradicts it"
        )
        return "".join(f"{printable(line)}\n" for line in lines)


_MANIFESTS: Mapping[str, str] = {
    "whole": "every file is as it was at the run's end",
    "missing": "there is none: the run goes on, was killed, or is older than manifests; its evidence is compared alone",
    "differs": "it differs, see below",
}
