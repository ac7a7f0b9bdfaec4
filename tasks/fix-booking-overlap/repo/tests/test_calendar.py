import unittest

from rooms import Calendar, Conflict


class CalendarTest(unittest.TestCase):
    def setUp(self):
        self.room = Calendar("08:00", "18:00")

    def test_overlapping_bookings_are_refused(self):
        self.room.book("09:00", "10:00", "Ada")
        with self.assertRaises(Conflict):
            self.room.book("09:30", "10:30", "Ben")

    def test_bookings_outside_the_opening_hours_are_refused(self):
        with self.assertRaises(ValueError):
            self.room.book("17:30", "18:30", "Ada")

    def test_a_cancelled_booking_leaves_the_time_free(self):
        self.room.book("09:00", "10:00", "Ada")
        self.room.cancel("09:00", "10:00")
        self.room.book("09:15", "09:45", "Ben")
        self.assertEqual(self.room.busy(), ["09:15-09:45"])

    def test_busy_and_free_cover_the_day(self):
        self.room.book("12:00", "13:00", "Ada")
        self.room.book("09:00", "10:00", "Ben")
        self.assertEqual(self.room.busy(), ["09:00-10:00", "12:00-13:00"])
        self.assertEqual(self.room.free(), ["08:00-09:00", "10:00-12:00", "13:00-18:00"])

    def test_find_offers_the_opening_time_first(self):
        self.room.book("12:00", "13:00", "Ada")
        self.assertEqual(self.room.find(60), "08:00")


if __name__ == "__main__":
    unittest.main()
