"""Compares a contacts file with the one that is right: the faults, and the share of contacts that are right."""

import json
from pathlib import Path


def compare(path: Path, right: Path) -> tuple[list[str], float]:
    expected = json.loads(right.read_text(encoding="utf-8"))
    try:
        text = path.read_text(encoding="utf-8")
        contacts = {contact["email"]: contact for contact in json.loads(text)}
    except (OSError, ValueError, TypeError, KeyError) as error:
        return [f"{path.name} is not a readable contacts file: {error!r}"], 0.0
    faults = []
    for contact in expected:
        got = contacts.pop(contact["email"], None)
        if got != contact:
            faults.append(f"{contact['email']}:\n  expected {contact}\n  got      {got}")
    score = max(0.0, 1 - (len(faults) + len(contacts)) / len(expected))
    faults += [f"{email}: should not be there" for email in contacts]
    if not faults and text != right.read_text(encoding="utf-8"):
        faults.append(
            "the contacts are right, but not the order of rows or keys, the indentation or the escapes"
        )
    return faults, score
