import argparse
import sys
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

from ledger import store


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
    return parser


def print_entries(entries: list[store.Entry]) -> None:
    for entry in entries:
        print(f"{entry.day}  {entry.amount:>10.2f}  {entry.category}  {entry.note}".rstrip())


def main(argv: list[str]) -> int:
    options = parser().parse_args(argv)
    if options.command == "add":
        store.append(options.file, store.Entry(options.day, options.amount, options.category, options.note))
    elif options.command == "list":
        print_entries(store.load(options.file))
    else:
        print(f"unknown command: {options.command}", file=sys.stderr)
        return 2
    return 0
