"""Settings of seal-keeper, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from daas.common.settings import ServiceSettings
from daas.common.subjects import Service

_OBJECT_ID = r"^0x[0-9a-f]{64}$"
_PolicyId = Annotated[str, Field(pattern=_OBJECT_ID)]


class SealKeeperSettings(ServiceSettings):
    """seal-keeper: seals and opens Secrets for those whom a policy allows."""

    service: ClassVar[Service | None] = Service.SEAL_KEEPER

    seal_keeper_nsm: Path = Field(
        default=Path("/dev/nsm"),
        description="Nitro Security Module: the device, or the Unix socket of the development stand-in.",
    )
    seal_keeper_ledger_url: str = Field(
        default="", description="full node (sui.rpc.v2), or several, comma-separated; empty: no secret is sealed"
    )
    seal_keeper_package: str = Field(default="", description="the Move package daas, 0x and 64 digits")
    seal_keeper_registry: str = Field(default="", description="the Registry object, 0x and 64 digits")
    seal_keeper_key_servers: Path | None = Field(
        default=None, description="JSON file with the threshold and the pinned key servers"
    )
    seal_keeper_policies: dict[str, _PolicyId] = Field(
        default_factory=dict, description="Seal policies by the name that Secrets are labelled with, JSON, pinned"
    )
    seal_keeper_kubeconfig: Path | None = Field(
        default=None,
        description="of the API server: to find further policies' names and count what is sealed; none: neither",
    )
    seal_keeper_attest_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=1800.0, description="how often the keeper's key is attested anew, in seconds"
    )
    seal_keeper_survey_s: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        default=60.0, description="how often Secrets on old generations are counted, in seconds"
    )
