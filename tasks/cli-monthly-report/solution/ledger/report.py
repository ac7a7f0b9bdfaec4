from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from ledger.store import Entry


@dataclass(frozen=True)
class Report:
    categories: dict[str, Decimal]  # the largest total first, equal ones by name
    total: Decimal


def summarize(entries: Iterable[Entry], month: str | None = None) -> Report:
    """The totals of all entries, or of those of `month` ("YYYY-MM")."""
    totals: dict[str, Decimal] = {}
    for entry in entries:
        if month is None or entry.day.isoformat().startswith(month):
            totals[entry.category] = totals.get(entry.category, Decimal(0)) + entry.amount
    categories = dict(sorted(totals.items(), key=lambda pair: (-pair[1], pair[0])))
    return Report(categories, sum(totals.values(), Decimal(0)))
