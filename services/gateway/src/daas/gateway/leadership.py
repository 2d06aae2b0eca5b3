"""Active and standby gateways: who waits, what starts only with the lease, and what ends when it is lost."""

import secrets
import socket
import time
from collections.abc import Callable

from daas.common.logs import get_logger
from daas.kube import KubeClient, LeaderElector, LeaseTimes

log = get_logger("gateway")


def default_identity() -> str:
    """Host name and a random part: a restarted process is another candidate."""
    return f"{socket.gethostname()}_{secrets.token_hex(4)}"


class Leadership:
    """Leads alone, or by a Lease.

    A standby serves webhooks, but neither watches nor subscribes: it has not begun to start. A leader that loses its
    lease stops as a whole (exit code 1) and comes back as a standby: nothing half-led is left in the process.

    Args:
        lease: `NAMESPACE/NAME`, empty where there is only one gateway.
        told: given what /status should show.
    """

    def __init__(
        self, client: KubeClient, lease: str, identity: str, times: LeaseTimes, told: Callable[[str], None]
    ) -> None:
        self._told = told
        self._elector: LeaderElector | None = None
        if lease:
            namespace, _, name = lease.partition("/")
            self._elector = LeaderElector(
                client,
                namespace=namespace,
                name=name,
                identity=identity or default_identity(),
                clock_s=time.monotonic,
                times=times,
            )

    @property
    def elected(self) -> bool:
        """Whether there is an election at all."""
        return self._elector is not None

    async def wait(self) -> None:
        """Returns when we lead."""
        if self._elector is not None:
            self._told("standby")
            await self._elector.acquire()
        self._told("active")

    async def hold(self) -> None:
        """Renews for ever. Raises NotLeading."""
        assert self._elector is not None
        await self._elector.hold()

    def permit(self) -> None:
        """Raises NotLeading where another gateway may lead by now."""
        if self._elector is not None:
            self._elector.check()

    async def release(self) -> None:
        """Lets a successor take over at once."""
        if self._elector is not None:
            await self._elector.release()
