from collections.abc import Iterable
from dataclasses import dataclass

from reconcile.model import Invoice, Payment, normal


@dataclass(frozen=True)
class Result:
    matched: list[tuple[Payment, Invoice]]
    unmatched: list[Payment]
    open: list[Invoice]


def fits(payment: Payment, invoice: Invoice) -> bool:
    if payment.amount != invoice.amount:
        return False
    wanted = normal(payment.reference)
    return wanted == "" or wanted == normal(invoice.reference)


def match(invoices: Iterable[Invoice], payments: Iterable[Payment]) -> Result:
    open_invoices = list(invoices)
    matched = []
    unmatched = []
    for payment in payments:
        for position, invoice in enumerate(open_invoices):
            if fits(payment, invoice):
                matched.append((payment, invoice))
                del open_invoices[position]
                break
        else:
            unmatched.append(payment)
    return Result(matched, unmatched, open_invoices)
