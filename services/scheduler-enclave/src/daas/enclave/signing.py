"""Whether this enclave may sign now: its key is registered, the registration is not over, and the clock is right."""

import asyncio

from prometheus_client import CollectorRegistry, Gauge

from daas.common.errors import Unavailable
from daas.enclave.clock import HypervisorClock
from daas.enclave.identity import Identity
from daas.enclave.keys import Keys
from daas.enclave.registration import Registration


class Signing:
    """The one place that hands out the signing key.

    Args:
        clock_every_ms: how often the clock is compared.
    """

    def __init__(
        self,
        keys: Keys,
        registration: Registration,
        clock: HypervisorClock,
        registry: CollectorRegistry,
        *,
        clock_every_ms: int,
    ) -> None:
        self._keys = keys
        self._registration = registration
        self._clock = clock
        self._clock_every_s = clock_every_ms / 1000
        self._drift = Gauge(
            "daas_enclave_clock_drift_seconds",
            "The hypervisor's clock minus the enclave's at the last comparison",
            registry=registry,
        )
        self._expires = Gauge(
            "daas_enclave_registration_expires_timestamp_seconds",
            "When the registration in force ends, seconds since the epoch; 0 without one",
            registry=registry,
        )
        self._leaf = Gauge(
            "daas_enclave_leaf_expires_timestamp_seconds",
            "When the certificate under the registration in force ends, seconds since the epoch; 0 without one",
            registry=registry,
        )
        self._allowed = Gauge(
            "daas_enclave_may_sign", "1 while the key is registered and the clock is right", registry=registry
        )

    def require(self) -> Identity:
        """The key that may sign now.

        Raises:
            Unavailable: `clock-unknown`, `clock-drift`, `not-registered` or `registration-expired`.
        """
        self._clock.require()
        return self._registration.require()

    def key(self) -> Identity | None:
        """The key that may sign now, or None."""
        try:
            return self.require()
        except Unavailable:
            return None

    def now_ms(self) -> int:
        """The time that a receipt names."""
        return self._clock.now_ms()

    async def watch_clock(self) -> None:
        """Compares the clocks for ever.

        Raises:
            NsmError: the NSM is gone: without it nothing here can be vouched for.
        """
        while True:
            self._clock.compare()
            self._drift.set((self._clock.drift_ms or 0) / 1000)
            await asyncio.sleep(self._clock_every_s)

    def status(self) -> dict[str, object]:
        """How key and clock stand; also brings the gauges up to date."""
        active, candidate = self._keys.active, self._keys.candidate
        may_sign = self.key() is not None
        self._allowed.set(may_sign)
        self._expires.set(active.fact.expires_ms / 1000 if active else 0)
        self._leaf.set(active.leaf_not_after_ms / 1000 if active else 0)
        return {
            "public_key": active.identity.public_key if active else None,
            "next_public_key": candidate.public_key if candidate else None,
            "enclave": active.fact.enclave if active else None,
            "expires_ms": active.fact.expires_ms if active else None,
            "leaf_not_after_ms": active.leaf_not_after_ms if active else None,
            "renew_ms": self._registration.renew_ms if active else None,
            "clock_drift_ms": self._clock.drift_ms,
            "may_sign": may_sign,
        }
