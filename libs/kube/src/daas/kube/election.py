"""Leader election by a Lease, as client-go does it: no clock of another machine is trusted, and losing is final.

A Lease fences nothing by itself: a leader that is paused and wakes up later may still believe in itself for a moment.
Whoever leads therefore asks `check` right before each effect, and effects must be safe to repeat anyway (the API
server binds a pod once, whoever asks).
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from daas.common.errors import ConfigurationError, DaasError, Unavailable
from daas.common.logs import get_logger
from daas.kube.client import KubeClient
from daas.kube.errors import KubeNotFound
from daas.kube.objects import Lease, LeaseMeta, LeaseSpec, get_lease, micro_time, put_lease

#: client-go's defaults for controllers: taken over after 15 s, given up after 10 s, tried every 2 s.
LEASE_S: Final = 15.0
RENEW_S: Final = 10.0
RETRY_S: Final = 2.0
_RELEASE_S: Final = 3.0

log = get_logger("election")


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds.

    Attributes:
        lease_s: others take over when the lease has not changed for this long, by their own clocks.
        renew_s: without a renewal for this long the leader gives up; must be well below `lease_s`.
        retry_s: between two attempts.
    """

    lease_s: float = LEASE_S
    renew_s: float = RENEW_S
    retry_s: float = RETRY_S

    def __post_init__(self) -> None:
        """Raises ConfigurationError where a leader could outlive its lease."""
        if not 0 < self.retry_s < self.renew_s < self.lease_s:
            raise ConfigurationError(
                f"expected retry < renew < lease, not {self.retry_s}, {self.renew_s}, {self.lease_s}",
                reason="lease-times",
            )


class NotLeading(Unavailable):
    """Somebody else leads, or may lead by now."""


class LeaderElector:
    """One candidate for one Lease.

    Args:
        client: the API server.
        namespace, name: of the Lease.
        identity: ours; no other candidate may have it.
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock_s: Callable[[], float],
        times: LeaseTimes | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._clock_s = clock_s
        self._times = times or LeaseTimes()
        self._seen: Lease | None = None
        self._seen_s = 0.0
        self._valid_until_s: float | None = None

    @property
    def leading(self) -> bool:
        """Whether we hold the lease and have renewed it in time."""
        return self._valid_until_s is not None and self._clock_s() < self._valid_until_s

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen."""
        return (self._seen.spec.holder_identity or "") if self._seen is not None else ""

    def check(self) -> None:
        """Raises NotLeading unless we lead at this moment."""
        if not self.leading:
            raise NotLeading(f"{self.identity} does not lead; last seen leading: {self.holder}", reason="not-leading")

    async def acquire(self) -> None:
        """Waits, for ever if it must be, until we lead."""
        while not await self._attempt():  # noqa: ASYNC110 - each attempt is a request to the API server
            await asyncio.sleep(self._times.retry_s)
        log.info("leading", identity=self.identity, lease=f"{self._namespace}/{self._name}")

    async def hold(self) -> None:
        """Renews the lease, and ends only by losing it.

        Raises:
            NotLeading: somebody else took it, or it could not be renewed in time.
        """
        while True:
            await asyncio.sleep(self._times.retry_s)
            await self._attempt()
            self.check()

    async def release(self) -> None:
        """Gives the lease back, so that a successor need not wait; does nothing where we do not hold it."""
        if not self.leading or self._seen is None:
            return
        self._valid_until_s = None
        spec = msgspec.structs.replace(self._seen.spec, holder_identity="", lease_duration_seconds=1)
        with contextlib.suppress(DaasError, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                await put_lease(self._client, Lease(self._seen.metadata, spec))

    async def _attempt(self) -> bool:
        """One look at the lease, and one write where it is ours or free; whether we lead."""
        asked_s = self._clock_s()
        try:
            async with asyncio.timeout(self._times.renew_s):
                return await self._look_and_take(asked_s)
        except (DaasError, TimeoutError) as error:
            # A conflict means that another was faster; anything else that nobody knows. `check` decides by time.
            log.info("the lease could not be taken or renewed", error=error)
            return self.leading

    async def _look_and_take(self, asked_s: float) -> bool:
        try:
            found: Lease | None = await get_lease(self._client, self._namespace, self._name)
        except KubeNotFound:
            found = None
        if found is not None and (self._seen is None or found.spec != self._seen.spec):
            self._seen, self._seen_s = found, self._clock_s()
        elif found is not None:
            self._seen = found
        holder = found.spec.holder_identity if found is not None else None
        ours = holder == self.identity
        if holder and not ours:
            self._valid_until_s = None
            duration_s = max(float(found.spec.lease_duration_seconds or 0) if found else 0.0, self._times.lease_s)
            if self._clock_s() < self._seen_s + duration_s:
                return False
        await self._write(found, ours=ours, asked_s=asked_s)
        return True

    async def _write(self, found: Lease | None, *, ours: bool, asked_s: float) -> None:
        now = micro_time(datetime.now(UTC))
        before = found.spec if found is not None else LeaseSpec()
        spec = LeaseSpec(
            holder_identity=self.identity,
            lease_duration_seconds=max(1, round(self._times.lease_s)),
            acquire_time=before.acquire_time if ours else now,
            renew_time=now,
            lease_transitions=(before.lease_transitions or 0) + (0 if ours or found is None else 1),
        )
        meta = found.metadata if found is not None else LeaseMeta(name=self._name, namespace=self._namespace)
        self._seen = await put_lease(self._client, Lease(meta, spec))
        self._seen_s = self._clock_s()
        # Counted from before the request: the server may have stored it at once and answered late.
        self._valid_until_s = asked_s + self._times.renew_s
