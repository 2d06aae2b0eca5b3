"""Settings of the storage service, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from daas.common.errors import ConfigurationError
from daas.common.settings import ServiceSettings
from daas.common.subjects import Service
from daas.etcd import Tls


class StorageSettings(ServiceSettings):
    """The storage service: keeps public evidence of every anchored batch in etcd."""

    service: ClassVar[Service | None] = Service.STORAGE

    storage_etcd_endpoints: str = Field(
        "http://127.0.0.1:2379", description="http:// or https:// URLs of etcd, comma-separated"
    )
    storage_etcd_ca_file: Path | None = Field(None, description="CA certificates (PEM) that etcd must chain to")
    storage_etcd_certificate_file: Path | None = Field(None, description="our certificate (PEM), for mutual TLS")
    storage_etcd_key_file: Path | None = Field(None, description="its key (PEM)")
    storage_etcd_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = Field(
        5_000, description="how long a call to etcd may take, reconnects included"
    )
    storage_snapshot_poll_s: Annotated[float, Field(gt=0, le=60)] = Field(
        1.0, description="how often the enclave's snapshots are looked for, in seconds"
    )

    @model_validator(mode="after")
    def _tls_agrees(self) -> Self:
        if (self.storage_etcd_certificate_file is None) != (self.storage_etcd_key_file is None):
            raise ConfigurationError(
                "DAAS_STORAGE_ETCD_CERTIFICATE_FILE and DAAS_STORAGE_ETCD_KEY_FILE go together",
                reason="contradictory-settings",
                field="storage_etcd_key_file",
            )
        if self.storage_etcd_certificate_file is not None and self.storage_etcd_ca_file is None:
            raise ConfigurationError(
                "a certificate for etcd needs DAAS_STORAGE_ETCD_CA_FILE",
                reason="contradictory-settings",
                field="storage_etcd_ca_file",
            )
        return self

    @property
    def etcd_endpoints(self) -> list[str]:
        """The endpoints, in the order given."""
        return [part.strip() for part in self.storage_etcd_endpoints.split(",") if part.strip()]

    def etcd_tls(self) -> Tls | None:
        """Trust and identity towards etcd; None for plaintext.

        Raises:
            ConfigurationError: `unreadable-file`.
        """
        if self.storage_etcd_ca_file is None:
            return None
        return Tls(
            ca=_read(self.storage_etcd_ca_file),
            certificate=_read(self.storage_etcd_certificate_file) if self.storage_etcd_certificate_file else None,
            key=_read(self.storage_etcd_key_file) if self.storage_etcd_key_file else None,
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", reason="unreadable-file") from None
