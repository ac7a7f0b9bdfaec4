import subprocess
import sys
import tempfile
import unittest
from pathlib import Path


class CliTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "ledger.csv"

    def ledger(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", "ledger", str(self.file), *arguments], capture_output=True, text=True
        )

    def test_what_was_added_is_listed(self):
        self.ledger("add", "2024-03-01", "950", "rent")
        self.ledger("add", "2024-03-02", "61.35", "groceries", "for the party")
        self.assertEqual(
            self.ledger("list").stdout,
            "2024-03-01      950.00  rent\n2024-03-02       61.35  groceries  for the party\n",
        )

    def test_a_bad_amount_is_a_usage_error(self):
        answer = self.ledger("add", "2024-03-01", "1.234", "rent")
        self.assertEqual(answer.returncode, 2)
        self.assertIn("two decimals", answer.stderr)
        self.assertFalse(self.file.exists())


if __name__ == "__main__":
    unittest.main()
