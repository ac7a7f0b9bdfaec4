#!/usr/bin/env python3
"""On random batches, crowded with equal references and amounts, the result is that of the plain double loop."""

import json
import random
import subprocess
import sys

PLAY = """
import json, sys
sys.dont_write_bytecode = True
sys.path.insert(0, ".")
from reconcile import Invoice, Payment, match

def answer(invoices, payments):
    invoices = [Invoice(*invoice) for invoice in invoices]
    result = match(iter(invoices), iter([Payment(*payment) for payment in payments]))
    return [
        [[payment.id, invoice.id, invoice.reference] for payment, invoice in result.matched],
        [payment.id for payment in result.unmatched],
        [[invoice.id, invoice.reference] for invoice in result.open],
    ]

print(json.dumps([answer(*batch) for batch in json.load(sys.stdin)]))
"""
REFERENCES = ["", " ", "RE 1", "re1", "R E 1 ", "RE 12", "1", "x\ty"]


def normal(reference):
    return "".join(reference.split()).upper()


def double_loop(invoices, payments):
    left, matched, unmatched = list(invoices), [], []
    for name, reference, amount in payments:
        wanted = normal(reference)
        found = next((i for i in left if i[2] == amount and wanted in ("", normal(i[1]))), None)
        if found is None:
            unmatched.append(name)
        else:
            left = [invoice for invoice in left if invoice is not found]
            matched.append([name, found[0], found[1]])
    return [matched, unmatched, [invoice[:2] for invoice in left]]


def random_batch(seed):
    source = random.Random(seed)

    def documents(letter):
        # Ids repeat now and then: documents are told apart by their place, not by their id.
        return [
            [f"{letter}{source.randrange(20)}", source.choice(REFERENCES), source.choice([100, 200, -100])]
            for _ in range(source.randrange(25))
        ]

    return documents("i"), documents("p")


def main() -> int:
    batches = [random_batch(seed) for seed in range(300)]
    command = [sys.executable, "-c", PLAY]
    play = subprocess.run(command, input=json.dumps(batches), capture_output=True, text=True, timeout=30)
    if play.returncode != 0:
        print(f"match fails:\n{play.stderr[-2000:]}")
        return 1
    for batch, answer in zip(batches, json.loads(play.stdout), strict=True):
        expected = double_loop(*batch)
        if answer != expected:
            names = ("invoices", "payments"), ("matched", "unmatched", "open")
            print(*(f"{name}: {value}" for name, value in zip(names[0], batch, strict=True)), sep="\n")
            for name, right, got in zip(names[1], expected, answer, strict=True):
                print(f"{name}: expected {right}\n{' ' * len(name)}  got      {got}")
            return 1
    return 0


sys.exit(main())
