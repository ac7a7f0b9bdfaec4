import unittest

from expiring import ExpiringCache


class ExpiringCacheTest(unittest.TestCase):
    def setUp(self):
        self.now = 1000.0
        self.cache = ExpiringCache(2, 10, clock=lambda: self.now)

    def assert_holds(self, **values):
        for key in ("a", "b", "c"):
            with self.subTest(key=key):
                self.assertEqual(key in self.cache, key in values)
                if key in values:
                    self.assertEqual(self.cache.get(key), values[key])
        self.assertEqual(len(self.cache), len(values))


class ReadingTest(ExpiringCacheTest):
    def test_a_new_cache_is_empty(self):
        self.assert_holds()
        self.assertIsNone(self.cache.get("a"))
        self.assertEqual(self.cache.get("a", 7), 7)

    def test_what_was_put_is_there(self):
        self.cache.put("a", 1)
        self.cache.put("b", 2)
        self.assert_holds(a=1, b=2)

    def test_none_is_a_value(self):
        self.cache.put("a", None)
        self.assertIn("a", self.cache)
        self.assertIsNone(self.cache.get("a", 7))

    def test_removed_values_are_gone(self):
        self.cache.put("a", 1)
        self.cache.put("b", 2)
        self.cache.remove("a")
        self.assert_holds(b=2)

    def test_what_is_not_there_cannot_be_removed(self):
        with self.assertRaises(KeyError):
            self.cache.remove("a")

    def test_there_is_no_cache_without_room(self):
        for capacity in (0, -1):
            with self.subTest(capacity=capacity), self.assertRaises(ValueError):
                ExpiringCache(capacity, 10)
        ExpiringCache(1, 10)


class AgeTest(ExpiringCacheTest):
    def test_a_value_lives_until_it_reaches_its_age(self):
        self.cache.put("a", 1)
        self.now += 9.5
        self.assert_holds(a=1)
        self.now += 0.5
        self.assert_holds()
        self.assertEqual(self.cache.get("a", 7), 7)

    def test_an_expired_value_does_not_count(self):
        self.cache.put("a", 1)
        self.now += 10
        self.assertEqual(len(self.cache), 0)

    def test_an_expired_value_cannot_be_removed(self):
        self.cache.put("a", 1)
        self.now += 10
        with self.assertRaises(KeyError):
            self.cache.remove("a")

    def test_reading_does_not_make_younger(self):
        self.cache.put("a", 1)
        self.now += 6
        self.cache.get("a")
        self.assertIn("a", self.cache)
        self.now += 6
        self.assert_holds()

    def test_put_makes_young_again(self):
        self.cache.put("a", 1)
        self.now += 6
        self.cache.put("a", 2)
        self.now += 6
        self.assert_holds(a=2)


class RoomTest(ExpiringCacheTest):
    def setUp(self):
        super().setUp()
        self.cache.put("a", 1)
        self.cache.put("b", 2)

    def test_the_value_not_used_for_the_longest_time_goes(self):
        self.cache.put("c", 3)
        self.assert_holds(b=2, c=3)

    def test_get_is_use(self):
        self.cache.get("a")
        self.cache.put("c", 3)
        self.assert_holds(a=1, c=3)

    def test_put_is_use(self):
        self.cache.put("a", 4)
        self.cache.put("c", 3)
        self.assert_holds(a=4, c=3)

    def test_in_is_no_use(self):
        self.assertIn("a", self.cache)
        self.cache.put("c", 3)
        self.assert_holds(b=2, c=3)

    def test_a_known_key_needs_no_room(self):
        self.cache.put("b", 4)
        self.assert_holds(a=1, b=4)

    def test_expired_values_take_no_room(self):
        self.now += 6
        self.cache.put("a", 4)
        self.cache.get("b")
        self.now += 6
        self.cache.put("c", 3)
        self.assert_holds(a=4, c=3)


if __name__ == "__main__":
    unittest.main()
