import csv
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    day: date
    amount: Decimal
    category: str
    note: str


def load(path: Path) -> list[Entry]:
    """The entries in the order of the file; none when there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Entry(date.fromisoformat(day), Decimal(amount), category, note)
            for day, amount, category, note in csv.reader(file)
        ]


def append(path: Path, entry: Entry) -> None:
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow([entry.day.isoformat(), entry.amount, entry.category, entry.note])
