"""The enclave's clock, held against the hypervisor's: the timestamp that the NSM puts into its documents.

There is no NTP inside an enclave and time from the host is the host's word; clocks of enclaves drift measurably within
a day. What is signed carries the log's time, never this one; but expiry and renewal are judged by it, and an enclave
that has lost the time no longer knows whether it may sign.
"""

import time
from collections.abc import Callable
from typing import Final

from daas.attestation import NsmClient, parse_document
from daas.common import logs
from daas.common.errors import Unavailable

log = logs.get_logger(__name__)

_MILLION: Final = 1_000_000


def wall_ms() -> int:
    """Milliseconds since the epoch by the enclave's own clock."""
    return time.time_ns() // _MILLION


class HypervisorClock:
    """Compares the two clocks when asked to.

    Args:
        nsm: whose documents say what time it is.
        bound_ms: how far the clocks may be apart.
        wall: the enclave's clock.

    Attributes:
        drift_ms: the hypervisor's clock minus ours at the last comparison; None before the first.
    """

    def __init__(self, nsm: NsmClient, bound_ms: int, wall: Callable[[], int] = wall_ms) -> None:
        self._nsm = nsm
        self._bound_ms = bound_ms
        self._wall = wall
        self.drift_ms: int | None = None

    def now_ms(self) -> int:
        """The time by the hypervisor: ours, corrected by the last comparison."""
        return self._wall() + (self.drift_ms or 0)

    def compare(self) -> bool:
        """Asks the NSM; True when the clocks agree.

        The document was made at some moment between the question and the answer: the least difference that fits counts.

        Raises:
            NsmError: the NSM does not answer.
        """
        before = self._wall()
        stamp = parse_document(self._nsm.attestation()).timestamp_ms
        after = self._wall()
        agreed = self.agrees
        self.drift_ms = stamp - min(max(stamp, before), after)
        if self.agrees is not agreed:
            log.warning("clock", agrees=self.agrees, drift_ms=self.drift_ms, bound_ms=self._bound_ms)
        return self.agrees

    @property
    def agrees(self) -> bool:
        """Whether the last comparison was within the bound; False before the first."""
        return self.drift_ms is not None and abs(self.drift_ms) <= self._bound_ms

    def require(self) -> None:
        """Readiness.

        Raises:
            Unavailable: `clock-unknown` or `clock-drift`.
        """
        if self.drift_ms is None:
            raise Unavailable("the clock has not been compared with the NSM's yet", reason="clock-unknown")
        if not self.agrees:
            raise Unavailable(
                f"the hypervisor's clock is {self.drift_ms} ms from this enclave's, at most {self._bound_ms} are "
                "allowed: nothing is signed",
                reason="clock-drift",
            )
