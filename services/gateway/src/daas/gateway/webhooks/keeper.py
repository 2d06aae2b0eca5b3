"""The webhook's way to the keeper: whoever it is must attest to what an administrator has pinned."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daas.common.bus import Bus
from daas.common.errors import ConfigurationError
from daas.secrets.keeper import Keeper, KeeperTrust


def read_trust(path: Path) -> KeeperTrust:
    """What is pinned of the keeper.

    Raises:
        ConfigurationError: `keeper-trust-file`. DecodeError: `keeper-trust`.
    """
    try:
        return KeeperTrust.decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", reason="keeper-trust-file") from None


class KeeperSealer:
    """Seals through the cluster's keeper.

    Args:
        bus: the service's connection, once there is one.
        trust: see `read_trust`.
    """

    def __init__(self, bus: Callable[[], Bus], trust: KeeperTrust) -> None:
        self._bus = bus
        self._trust = trust
        self._keeper: Keeper | None = None

    async def seal(self, manifest: Mapping[str, Any], *, policy_name: str) -> dict[str, Any]:
        """The sealed manifest.

        Raises:
            DaasError: as the keeper refused, or as its attestation was refused; Unavailable where none answers.
        """
        if self._keeper is None:
            self._keeper = Keeper(self._bus(), self._trust)
        return await self._keeper.seal(manifest, policy_name=policy_name)
