"""Settings of the chain-relay, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from daas.common.settings import ServiceSettings
from daas.common.subjects import Service
from daas.ledger import GasSource

ObjectId = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class RelaySettings(ServiceSettings):
    """What an operator can set."""

    service: ClassVar[Service | None] = Service.RELAY

    state_dir: Path = Field(description="directory of the outbox, which must survive a restart")
    relay_ledger_url: str = Field(
        description="Sui full nodes, sui.rpc.v2, separated by commas; http:// is for loopback only."
    )
    relay_package: ObjectId = Field(
        description="Address of the Move package daas: of the version whose objects the cluster has."
    )
    relay_registry: ObjectId = Field(description="The cluster's Registry object.")
    relay_keystore: Path = Field(description="File (mode 0600) with the Ed25519 key that pays for transactions.")
    relay_gas: GasSource = Field(
        default=GasSource.COINS,
        description="What pays: coins, or the account's address balance, which `daas chain deposit-gas` fills.",
    )
    relay_development_root: Fingerprint | None = Field(
        default=None,
        description="SHA-256 of the software NSM's root; refused unless the registry was created simulated.",
    )
    relay_submit_attempts: int = Field(
        default=6, ge=1, le=100, description="How often the same signed bytes are sent before the message waits."
    )
    relay_retire_replaced_ms: int = Field(
        default=120_000,
        ge=0,
        description="How long after an enclave has replaced its key the old registration is ended; 0: it ends by time.",
    )
    relay_batches_max: int = Field(
        default=32, ge=1, le=64, description="How many batches one transaction anchors at most, when they queue."
    )
    relay_first_checkpoint: int = Field(
        default=0, ge=0, description="Where a relay without a cursor begins to read: the registry's first checkpoint."
    )
    relay_low_balance_mist: int = Field(
        default=1_000_000_000, ge=0, description="Below this balance the relay warns; below one budget it is not ready."
    )
