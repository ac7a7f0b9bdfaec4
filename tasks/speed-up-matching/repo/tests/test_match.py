import unittest

from reconcile import Invoice, Payment, match


class MatchTest(unittest.TestCase):
    def ids(self, invoices, payments):
        result = match(
            [Invoice(*invoice) for invoice in invoices], [Payment(*payment) for payment in payments]
        )
        return (
            [(payment.id, invoice.id) for payment, invoice in result.matched],
            [payment.id for payment in result.unmatched],
            [invoice.id for invoice in result.open],
        )

    def test_reference_and_amount_must_fit(self):
        invoices = [("i1", "RE 1", 100), ("i2", "RE 2", 100), ("i3", "RE 2", 200)]
        payments = [("p1", "re2", 200), ("p2", "RE 3", 100)]
        self.assertEqual(self.ids(invoices, payments), ([("p1", "i3")], ["p2"], ["i1", "i2"]))

    def test_without_a_reference_the_first_of_the_amount_is_taken(self):
        invoices = [("i1", "RE 1", 100), ("i2", "RE 2", 100)]
        payments = [("p1", "", 100), ("p2", " ", 100), ("p3", "", 100)]
        self.assertEqual(self.ids(invoices, payments), ([("p1", "i1"), ("p2", "i2")], ["p3"], []))

    def test_equal_invoices_are_taken_in_their_order(self):
        invoices = [("i1", "RE 1", 100), ("i2", "RE 1", 100)]
        self.assertEqual(self.ids(invoices, [("p1", "RE 1", 100)]), ([("p1", "i1")], [], ["i2"]))


if __name__ == "__main__":
    unittest.main()
