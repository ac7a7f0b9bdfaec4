import subprocess
import sys
import unittest
from pathlib import Path

from shopreport.report import build_report

ORDERS = Path(__file__).parent / "data" / "orders.csv"


class ReportTest(unittest.TestCase):
    maxDiff = None

    def test_the_report_of_a_day(self):
        self.assertEqual(
            build_report(ORDERS.read_text().splitlines()),
            "REVENUE\n"
            "  DE         28.90  1 order\n"
            "  ??          4.50  1 order\n"
            "  AT        -16.05  2 orders\n"
            "  all        17.35\n"
            "BEST SELLERS\n"
            "  1. tea: 4 for 13.50\n"
            "  2. mug: 3 for 28.85\n"
            "PROBLEMS\n"
            "  line 9: not a number\n",
        )

    def test_an_empty_day(self):
        self.assertEqual(build_report([]), "REVENUE\n  all         0.00\n")

    def test_the_program_prints_the_report(self):
        run = subprocess.run(
            [sys.executable, "-m", "shopreport", str(ORDERS)], capture_output=True, text=True
        )
        self.assertEqual(run.stdout, build_report(ORDERS.read_text().splitlines()))


if __name__ == "__main__":
    unittest.main()
