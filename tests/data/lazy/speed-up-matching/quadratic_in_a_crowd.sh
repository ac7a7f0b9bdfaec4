#!/usr/bin/env bash
# Looks invoices up by what is asked for, but goes through the taken ones again and again.
set -euo pipefail
python3 - <<'P'
from pathlib import Path

path = Path("reconcile/match.py")
head, _, _ = path.read_text().partition("    open_invoices = list(invoices)")
path.write_text(head + """    invoices = list(invoices)
    groups = {}
    for n, invoice in enumerate(invoices):
        for key in {(normal(invoice.reference), invoice.amount), ("", invoice.amount)}:
            groups.setdefault(key, []).append(n)
    taken = set()
    matched = []
    unmatched = []
    for payment in payments:
        group = groups.get((normal(payment.reference), payment.amount), [])
        n = next((n for n in group if n not in taken), None)
        if n is None:
            unmatched.append(payment)
        else:
            taken.add(n)
            matched.append((payment, invoices[n]))
    return Result(matched, unmatched, [invoice for n, invoice in enumerate(invoices) if n not in taken])
""")
P
