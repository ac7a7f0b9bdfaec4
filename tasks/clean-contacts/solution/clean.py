"""Merges the exports of the CRM and the shop into the contacts file that docs/contacts.md describes."""

import csv
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # email, name, phone, since, tags: cleaned values of one row


def email(text: str) -> str | None:
    address = text.strip().lower()
    local, at, domain = address.partition("@")
    inner_dot = "." in domain.strip(".") and domain == domain.strip(".")
    if not local or not at or "@" in domain or not inner_dot or re.search(r"\s", address):
        return None
    return address


def words(text: str) -> str | None:
    return " ".join(text.split()) or None


def phone(text: str) -> str | None:
    number = re.sub(r"[\s./-]", "", text)
    if re.match(r"\(?(\+|00)", number):
        number = number.replace("(0)", "", 1)
    number = re.sub(r"[()]", "", number)
    if number.startswith("00"):
        number = "+" + number[2:]
    elif number.startswith("0"):
        number = "+49" + number[1:]
    return number if re.fullmatch(r"\+[0-9]{6,15}", number) else None


def german_date(text: str) -> str | None:
    return "-".join(reversed(text.strip().split("."))) or None


def tags(text: str) -> set[str]:
    return {tag.strip().lower() for tag in text.split("|")} - {""}


def crm_rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, delimiter=";"):
            yield {
                "email": email(row["E-Mail"]),
                "name": words(row["Name"]),
                "phone": phone(row["Phone"]),
                "since": german_date(row["Since"]),
                "tags": tags(row["Tags"]),
            }


def shop_rows(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield {
                "email": email(row["email"]),
                "name": words(f"{row['first_name']} {row['last_name']}"),
                "phone": phone(row["phone"]),
                "since": row["created"].strip()[:10] or None,
                "tags": {"newsletter"} if row["newsletter"].strip().lower() == "yes" else set(),
            }


def merged(rows: list[Row]) -> Row:
    return {
        "email": rows[0]["email"],
        "name": next((row["name"] for row in rows if row["name"]), None),
        "phone": next((row["phone"] for row in rows if row["phone"]), None),
        "since": min((row["since"] for row in rows if row["since"]), default=None),
        "tags": sorted(set().union(*(row["tags"] for row in rows))),
    }


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    by_email: dict[str, list[Row]] = {}
    for row in [*crm_rows(folder / "crm.csv"), *shop_rows(folder / "shop.csv")]:
        if row["email"]:
            by_email.setdefault(row["email"], []).append(row)
    contacts = [merged(by_email[address]) for address in sorted(by_email)]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(contacts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
