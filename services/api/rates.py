"""How often one may ask. Counted in this process's memory: nothing else has to be there for an answer."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from services.api.problems import TooMany

#: Keys and addresses that are counted at a time.
MAX_COUNTS = 10_000


class _Counts(MemoryStorage):
    """The library's counts without the thread that it starts at a request to throw old ones away (0.4 ms each)."""

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        self.get(key)  # forgets a count whose time is over
        with self.locks[key]:
            self.storage[key] += amount
            if self.storage[key] == amount:
                self.expirations[key] = time.time() + expiry
        if len(self.expirations) > MAX_COUNTS:
            self._forget_old()
        return self.storage[key]

    def _forget_old(self) -> None:
        """Addresses come and go. When too many came within two minutes, counting begins anew."""
        now = time.time()
        old = [key for key, expires_at in list(self.expirations.items()) if expires_at <= now]
        for key in old or list(self.expirations):
            self.clear(key)


def _household(address: str) -> str:
    """What one client cannot change at will: its IPv4 address, of an IPv6 address the first 64 bits."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.IPv6Address(int(ip) >> 64 << 64))


class Rates:
    """Requests of each key, and wrong keys from each address, over the last minute. 0: without limit."""

    def __init__(self, requests_per_minute: int, wrong_keys_per_minute: int) -> None:
        self._requests = RateLimitItemPerMinute(requests_per_minute, namespace="requests")
        self._wrong_keys = RateLimitItemPerMinute(wrong_keys_per_minute, namespace="wrong keys")
        self._counts = _Counts()
        self._counter = SlidingWindowCounterRateLimiter(self._counts)

    def count_request(self, key_id: str) -> None:
        """Raise `TooMany` when this key asks too often."""
        self._count(self._requests, key_id, "This key asks more than {} times a minute.")

    def count_wrong_key(self, address: str) -> None:
        """Raise `TooMany` when wrong keys come too often from this address; right ones are not held up."""
        self._count(
            self._wrong_keys, _household(address), "More than {} wrong keys a minute have come from this address."
        )

    def _count(self, limit: RateLimitItemPerMinute, who: str, sentence: str) -> None:
        if not limit.amount or self._counter.hit(limit, who):
            return
        retry_after_s = self._free_in_s(limit, who)
        raise TooMany(f"{sentence.format(limit.amount)} Try again in {retry_after_s} s.", retry_after_s)

    def _free_in_s(self, limit: RateLimitItemPerMinute, who: str) -> int:
        """When the next one is let through. The library's own answer is too early at the end of a minute.

        What counts is this minute's number and as much of the last one's as still lies within sixty seconds.
        """
        minute_s = limit.get_expiry()
        last, left_s, this, this_expires_in_s = self._counts.get_sliding_window(limit.key_for(who), minute_s)
        if this < limit.amount and not last:  # the counts were thrown away since
            wait_s = 0.0
        elif this < limit.amount:
            wait_s = left_s - (limit.amount - this) * minute_s / last
        else:
            wait_s = this_expires_in_s - minute_s
        return max(1, math.floor(wait_s) + 1)
