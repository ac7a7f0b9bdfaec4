import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any


class ExpiringCache:
    """A cache that forgets what is old, and what was not used for the longest time. See README.md."""

    def __init__(self, capacity: int, max_age: float, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {capacity}")
        self._capacity = capacity
        self._max_age = max_age
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def put(self, key: Hashable, value: Any) -> None:
        self._drop_expired()
        if key not in self._entries and len(self._entries) >= self._capacity:
            self._entries.popitem(last=False)
        self._entries[key] = (self._clock(), value)
        self._entries.move_to_end(key)

    def get(self, key: Hashable, default: Any = None) -> Any:
        self._drop_expired()
        if key not in self._entries:
            return default
        self._entries.move_to_end(key)
        return self._entries[key][1]

    def remove(self, key: Hashable) -> None:
        self._drop_expired()
        del self._entries[key]

    def __contains__(self, key: Hashable) -> bool:
        self._drop_expired()
        return key in self._entries

    def __len__(self) -> int:
        self._drop_expired()
        return len(self._entries)

    def _drop_expired(self) -> None:
        now = self._clock()
        for key in [key for key, (stored, _) in self._entries.items() if now - stored >= self._max_age]:
            del self._entries[key]
