"""A circuit breaker: after enough failures in a row nobody waits for a server that is away."""

from collections.abc import Callable
from typing import Final

#: So many answers missing in a row are no accident; the API server retries a single one by itself.
FAILURES_MAX: Final = 5
#: First pause; doubles up to the longest. Half a minute without a probe would delay recovery more than it saves.
PAUSE_FIRST_S: Final = 1.0
PAUSE_MAX_S: Final = 15.0


class CircuitBreaker:
    """Closed: everyone may ask. Open: nobody. When the pause is over, one may ask; its outcome decides for all.

    Args:
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        clock_s: Callable[[], float],
        *,
        failures_max: int = FAILURES_MAX,
        pause_first_s: float = PAUSE_FIRST_S,
        pause_max_s: float = PAUSE_MAX_S,
    ) -> None:
        self._clock_s = clock_s
        self._failures_max = failures_max
        self._pause_first_s = pause_first_s
        self._pause_max_s = pause_max_s
        self._pause_s = pause_first_s
        self._failures = 0
        self._opened_until_s: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether failures have opened it and no probe has closed it again."""
        return self._opened_until_s is not None

    def may_ask(self) -> bool:
        """Whether the caller may ask; if so, it must tell the outcome."""
        if self._opened_until_s is None:
            return True
        if self._probing or self._clock_s() < self._opened_until_s:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """An answer came."""
        self._failures, self._opened_until_s, self._probing = 0, None, False
        self._pause_s = self._pause_first_s

    def failed(self) -> None:
        """No answer came."""
        self._failures += 1
        probe, self._probing = self._probing, False
        if probe or (self._opened_until_s is None and self._failures >= self._failures_max):
            self._opened_until_s = self._clock_s() + self._pause_s
            self._pause_s = min(2 * self._pause_s, self._pause_max_s)

    def gave_up(self) -> None:
        """The caller was cancelled: nothing is known."""
        self._probing = False
