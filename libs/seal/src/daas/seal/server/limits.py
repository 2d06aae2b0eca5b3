"""Token buckets: how often one address may ask."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import msgspec

from daas.common.errors import ConfigurationError

_BUCKETS_MAX: Final = 65_536
_SECOND_MS: Final = 1000


class Rate(msgspec.Struct, frozen=True):
    """`per_second` requests in the long run, up to `burst` at once."""

    per_second: float
    burst: int


class RateLimiter:
    """A bucket for each address, of the network or of the ledger; the least recently used make room.

    A full table forgets who asked longest ago: an attacker with more than 65,536 addresses is not for this to stop.
    """

    def __init__(self, rate: Rate, clock: Callable[[], int]) -> None:
        if rate.per_second <= 0 or rate.burst < 1:
            raise ConfigurationError("expected a rate above 0 and a burst of 1 or more", reason="seal-rate")
        self._rate = rate
        self._clock = clock
        #: Address to (tokens left, ms since the epoch when that was so).
        self._buckets: OrderedDict[object, tuple[float, int]] = OrderedDict()

    def allow(self, address: object, cost: float = 1.0) -> bool:
        """Takes `cost` tokens of an address if it has them."""
        now = self._clock()
        tokens, then = self._buckets.pop(address, (float(self._rate.burst), now))
        # A clock that was set back gives nothing and takes nothing.
        tokens = min(self._rate.burst, tokens + max(0, now - then) * self._rate.per_second / _SECOND_MS)
        allowed = tokens >= min(cost, self._rate.burst)
        self._buckets[address] = (tokens - min(cost, tokens) if allowed else tokens, now)
        if len(self._buckets) > _BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return allowed
