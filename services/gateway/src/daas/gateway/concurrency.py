"""How many requests the API server is given at once: found by itself, from how long it takes to answer.

The estimate is TCP Vegas' (Brakmo and Peterson, 1994), as others use it for services: of `limit` requests in flight,
`limit * (1 - shortest / round_trip)` wait in a queue somewhere. While that queue is short the server can take more;
when it grows, more requests only wait longer. An overloaded answer (429, 5xx, none at all) takes a third away at once.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

#: Round trips that one change of the limit is judged by: at least so many, and at least one limit's worth.
WINDOW_SAMPLES: Final = 16
#: After so many windows the shortest round trip is measured anew, since a server may have become slower for good: for
#: one window with a quarter of the limit, so that our own queue is not taken for the server's pace (BBR's ProbeRTT).
WINDOWS_REMEMBERED: Final = 64
PROBE_FACTOR: Final = 1 / 4
#: Of the limit that an overload leaves: a third less, once for all requests that were in flight together.
OVERLOAD_FACTOR: Final = 2 / 3
START: Final = 8


class Vegas:
    """The limit as a pure function of what was observed; no clock, no tasks.

    Args:
        most: the limit is never above this.
        start: where it begins.
    """

    def __init__(self, most: int, start: int = START) -> None:
        self._most = most
        self._limit = float(min(start, most))
        self._window: list[float] = []
        self._busiest = 0
        self._shortest = math.inf
        self._windows = 0
        self._before_probe = 0.0
        self._forgiven = 0

    @property
    def limit(self) -> int:
        """Requests that may be in flight, at least 1."""
        return max(1, int(self._limit))

    def answered(self, round_trip_s: float, in_flight: int) -> None:
        """A request was answered.

        Args:
            round_trip_s: from the first byte sent to the last received, in seconds.
            in_flight: requests under way when it began, itself included.
        """
        self._forgiven = max(0, self._forgiven - 1)
        self._window.append(round_trip_s)
        self._busiest = max(self._busiest, in_flight)
        if len(self._window) < max(WINDOW_SAMPLES, self.limit):
            return
        shortest, mean = min(self._window), sum(self._window) / len(self._window)
        busy = self._busiest * 2 >= self.limit
        self._window.clear()
        self._busiest = 0
        if self._before_probe:
            self._limit, self._before_probe = self._before_probe, 0.0
            self._shortest = shortest
            return
        self._shortest = min(self._shortest, shortest)
        if not busy:  # the limit was not what held anybody up: nothing was learned about it
            return
        waiting = self._limit * (1 - self._shortest / mean) if mean > 0 else 0.0
        step = max(1.0, math.log2(self._limit))
        if waiting < 2 * step:
            self._limit = min(float(self._most), self._limit + step)
        elif waiting > 4 * step:
            self._limit = max(1.0, self._limit - step)
        self._windows += 1
        if self._windows % WINDOWS_REMEMBERED == 0:
            self._before_probe, self._limit = self._limit, max(1.0, self._limit * PROBE_FACTOR)

    def overloaded(self, in_flight: int) -> None:
        """The server refused a request because of its load, or did not answer.

        Args:
            in_flight: requests under way: their refusals have the same cause and change nothing more.
        """
        if self._forgiven:
            return
        self._forgiven = in_flight
        self._limit = max(1.0, (self._before_probe or self._limit) * OVERLOAD_FACTOR)
        self._before_probe = 0.0
        self._window.clear()
        self._busiest = 0


class AdaptiveConcurrency:
    """Slots for requests, as many as `Vegas` finds right at the moment; waiting is first come, first served.

    Args:
        most: never more slots than this.
        clock_s: a monotonic clock in seconds.
    """

    def __init__(self, most: int, clock_s: Callable[[], float]) -> None:
        self._vegas = Vegas(most)
        self._clock_s = clock_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Slots there are now."""
        return self._vegas.limit

    def overloaded(self) -> None:
        """Says that the request of a slot was refused because of load; while the slot is held."""
        self._vegas.overloaded(self.in_flight)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Holds one slot, for at most one request at a time."""
        await self._enter()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._wake()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around the one request of a slot: how long it takes is what the limit is found by."""
        together = self.in_flight
        began_s = self._clock_s()
        yield  # only answers are measured: what raises is overload, or no question of speed
        self._vegas.answered(self._clock_s() - began_s, together)

    async def quiet(self) -> None:
        """Waits until nothing waits for a slot."""
        await self._quiet.wait()

    async def _enter(self) -> None:
        if self.in_flight < self.limit and not self._waiting:
            self.in_flight += 1
            return
        self._quiet.clear()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # whoever wakes us has taken the slot in our name
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.in_flight -= 1
                self._wake()
            else:
                self._waiting.remove(turn)
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self.in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_flight += 1
                turn.set_result(None)
        if not self._waiting:
            self._quiet.set()
