from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from reconcile.model import Invoice, Payment, normal


@dataclass(frozen=True)
class Result:
    matched: list[tuple[Payment, Invoice]]
    unmatched: list[Payment]
    open: list[Invoice]


class OpenInvoices:
    """Invoices by what a payment can ask for. Each stands in two queues, and leaves the second one lazily."""

    def __init__(self, invoices: Iterable[Invoice]) -> None:
        self._invoices = list(invoices)
        self._taken = [False] * len(self._invoices)
        self._queues: defaultdict[tuple[str, int], deque[int]] = defaultdict(deque)
        for position, invoice in enumerate(self._invoices):
            reference = normal(invoice.reference)
            for key in {(reference, invoice.amount), ("", invoice.amount)}:
                self._queues[key].append(position)

    def take(self, payment: Payment) -> Invoice | None:
        queue = self._queues.get((normal(payment.reference), payment.amount), ())
        while queue:
            position = queue.popleft()
            if not self._taken[position]:
                self._taken[position] = True
                return self._invoices[position]
        return None

    def left(self) -> list[Invoice]:
        return [invoice for invoice, taken in zip(self._invoices, self._taken, strict=True) if not taken]


def match(invoices: Iterable[Invoice], payments: Iterable[Payment]) -> Result:
    open_invoices = OpenInvoices(invoices)
    matched = []
    unmatched = []
    for payment in payments:
        invoice = open_invoices.take(payment)
        if invoice is None:
            unmatched.append(payment)
        else:
            matched.append((payment, invoice))
    return Result(matched, unmatched, open_invoices.left())
