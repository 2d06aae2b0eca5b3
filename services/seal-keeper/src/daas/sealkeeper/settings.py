"""Settings of seal-keeper, read from the environment."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from daas.common.settings import ServiceSettings
from daas.common.subjects import Service


class SealKeeperSettings(ServiceSettings):
    """seal-keeper: seals and opens Secrets for those whom a policy allows."""

    service: ClassVar[Service | None] = Service.SEAL_KEEPER

    seal_keeper_nsm: Path = Field(
        default=Path("/dev/nsm"),
        description="Nitro Security Module: the device, or the Unix socket of the development stand-in.",
    )
