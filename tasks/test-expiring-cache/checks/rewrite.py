"""Another right implementation: two plain dicts and a counter of uses."""

import time


class ExpiringCache:
    def __init__(self, capacity, max_age, clock=time.monotonic):
        if capacity < 1:
            raise ValueError("capacity")
        self.room, self.limit, self.time = capacity, max_age, clock
        self.values = {}
        self.used = {}
        self.uses = 0

    def _live(self, key):
        if key in self.values and self.time() - self.values[key][1] < self.limit:
            return True
        self.values.pop(key, None)
        self.used.pop(key, None)
        return False

    def _use(self, key):
        self.uses += 1
        self.used[key] = self.uses

    def put(self, key, value):
        if not self._live(key) and len(self) == self.room:
            self.remove(min(self.used, key=self.used.__getitem__))
        self.values[key] = [value, self.time()]
        self._use(key)

    def get(self, key, default=None):
        if not self._live(key):
            return default
        self._use(key)
        return self.values[key][0]

    def remove(self, key):
        if not self._live(key):
            raise KeyError(key)
        del self.values[key], self.used[key]

    def __contains__(self, key):
        return self._live(key)

    def __len__(self):
        return sum(self._live(key) for key in list(self.values))
