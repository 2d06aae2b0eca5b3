"""The ledger's clock: wall time, unless a test has set it."""

from __future__ import annotations

import time


class LedgerClock:
    """Follows wall time with an offset, or stands still where it was frozen."""

    def __init__(self, frozen_ms: int | None = None) -> None:
        self._offset_ms = 0
        self._frozen_ms = frozen_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._frozen_ms if self._frozen_ms is not None else self._wall_ms() + self._offset_ms

    def set(self, now_ms: int, *, frozen: bool) -> None:
        """Set the time, which may lie in the past; frozen, it stays there until it is set again."""
        self._frozen_ms = now_ms if frozen else None
        self._offset_ms = now_ms - self._wall_ms()

    def follow_wall_time(self) -> None:
        """Forget every earlier setting."""
        self._frozen_ms = None
        self._offset_ms = 0

    @staticmethod
    def _wall_ms() -> int:
        return time.time_ns() // 1_000_000
