import argparse
import json
import re
import sys
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ledger import store
from ledger.report import Report, summarize


def amount(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"not an amount: {text}") from None
    if not value.is_finite() or value != round(value, 2):
        raise argparse.ArgumentTypeError(f"not an amount with at most two decimals: {text}")
    return value


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a date: {text}") from None


def month(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", text):
        raise argparse.ArgumentTypeError(f"not a month in the form YYYY-MM: {text!r}")
    return text


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ledger")
    parser.add_argument("file", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)

    add = commands.add_parser("add", help="append an entry")
    add.add_argument("day", type=day)
    add.add_argument("amount", type=amount)
    add.add_argument("category")
    add.add_argument("note", nargs="?", default="")

    commands.add_parser("list", help="print all entries")

    report = commands.add_parser("report", help="print the total of each category")
    report.add_argument("--month", type=month, metavar="YYYY-MM", help="only this month")
    report.add_argument("--json", action="store_true", help="print a JSON object")
    return parser


def print_entries(entries: list[store.Entry]) -> None:
    for entry in entries:
        print(f"{entry.day}  {entry.amount:>10.2f}  {entry.category}  {entry.note}".rstrip())


def print_report(report: Report) -> None:
    lines = [*report.categories.items(), ("total", report.total)]
    names = max(len(name) for name, _ in lines)
    amounts = max(len(f"{amount:.2f}") for _, amount in lines)
    for name, amount in lines:
        print(f"{name:<{names}}  {amount:>{amounts}.2f}")


def print_report_json(report: Report, month: str | None) -> None:
    categories = {name: f"{amount:.2f}" for name, amount in report.categories.items()}
    print(json.dumps({"month": month, "categories": categories, "total": f"{report.total:.2f}"}))


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    if options.command == "add":
        store.append(options.file, store.Entry(options.day, options.amount, options.category, options.note))
    elif options.command == "list":
        print_entries(store.load(options.file))
    elif options.command == "report":
        report = summarize(store.load(options.file), options.month)
        if options.json:
            print_report_json(report, options.month)
        else:
            print_report(report)
    else:
        print(f"unknown command: {options.command}", file=sys.stderr)
        return 2
    return 0
