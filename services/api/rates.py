"""How often one may ask. Counted in this process's memory: nothing else has to be there for an answer."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from services.api.problems import TooMany


class Rates:
    """Requests of each key, and wrong keys from each address, over the last minute. 0: without limit."""

    def __init__(self, requests_per_minute: int, wrong_keys_per_minute: int) -> None:
        self._requests = RateLimitItemPerMinute(requests_per_minute, namespace="requests")
        self._wrong_keys = RateLimitItemPerMinute(wrong_keys_per_minute, namespace="wrong keys")
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count_request(self, key_id: str) -> None:
        """Raise `TooMany` when this key asks too often."""
        self._count(self._requests, key_id, "This key asks more than {} times a minute.")

    def count_wrong_key(self, address: str) -> None:
        """Raise `TooMany` when wrong keys come too often from this address; right ones are not held up."""
        self._count(self._wrong_keys, address, "More than {} wrong keys a minute have come from this address.")

    def _count(self, limit: RateLimitItemPerMinute, who: str, sentence: str) -> None:
        if not limit.amount or self._counter.hit(limit, who):
            return
        free_at = self._counter.get_window_stats(limit, who).reset_time
        retry_after_s = max(1, math.ceil(free_at - time.time()))
        raise TooMany(f"{sentence.format(limit.amount)} Try again in {retry_after_s} s.", retry_after_s)
