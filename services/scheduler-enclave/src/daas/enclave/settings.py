"""Settings of the scheduler-enclave, read from the environment."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from daas.common.settings import ServiceSettings
from daas.common.subjects import Service


class EnclaveSettings(ServiceSettings):
    """What an operator can set. Nothing here can weaken a check: the registry decides what is simulated."""

    service: ClassVar[Service | None] = Service.ENCLAVE

    enclave_nsm: Path = Field(
        default=Path("/dev/nsm"),
        description="Nitro Security Module: the device, or the Unix socket of the development stand-in.",
    )
    enclave_snapshot_every: int = Field(
        default=64, ge=1, le=65_536, description="Decisions between two snapshots of the state."
    )
    enclave_snapshots_kept: int = Field(default=4, ge=2, le=64, description="Snapshots kept in the object store.")
    enclave_takeover_ms: int = Field(
        default=2_000, ge=100, le=600_000, description="How long a standby waits for an anchor before it takes over."
    )
    enclave_republish_ms: int = Field(
        default=10_000, ge=1_000, le=600_000, description="How long to wait for an anchor before publishing again."
    )
    enclave_clock_bound_ms: int = Field(
        default=5_000,
        ge=100,
        le=60_000,
        description="How far the clock may be from the NSM's; beyond, nothing is signed.",
    )
    enclave_clock_every_ms: int = Field(
        default=30_000, ge=100, le=600_000, description="How often the clock is compared with the NSM's."
    )
    enclave_policies: Path | None = Field(
        default=None,
        description="Folder of the access policies (set.json, *.cedar); none: those that come along. Part of what is "
        "attested: the registry has to require their digest.",
    )
    enclave_receipt_entries: int = Field(
        default=256, ge=1, le=65_536, description="Log entries after which a receipt is signed at once."
    )
    enclave_receipt_ms: int = Field(
        default=5_000, ge=100, le=600_000, description="How long a log entry waits for its receipt at most."
    )
    enclave_plan_ms: int = Field(
        default=30_000, ge=100, le=110_000, description="How long an allocation or rebalance plan may take."
    )
