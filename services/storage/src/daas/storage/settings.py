"""Settings of the storage service, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from daas.common.errors import ConfigurationError
from daas.common.settings import ServiceSettings
from daas.common.subjects import Service
from daas.etcd import Credentials, Tls
from daas.evidence.packing import Backend
from daas.evidence.store import MAX_REPLAY_BATCHES
from daas.walrus import MAX_EPOCHS, Limits, PublisherKey, WalrusClient
from daas.walrus.tokens import Algorithm


class StorageSettings(ServiceSettings):
    """The storage service: keeps evidence, audit events and public metadata in etcd and Walrus."""

    service: ClassVar[Service | None] = Service.STORAGE

    storage_etcd_endpoints: str = Field(
        "http://127.0.0.1:2379", description="http:// or https:// URLs of etcd, comma-separated"
    )
    storage_etcd_ca_file: Path | None = Field(None, description="CA certificates (PEM) that etcd must chain to")
    storage_etcd_certificate_file: Path | None = Field(None, description="our certificate (PEM), for mutual TLS")
    storage_etcd_key_file: Path | None = Field(None, description="its key (PEM)")
    storage_etcd_user: str | None = Field(None, description="user of etcd's own authentication")
    storage_etcd_password_file: Path | None = Field(None, description="file with the user's password")
    storage_etcd_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = Field(
        5_000, description="how long a call to etcd may take, reconnects included"
    )
    storage_evidence_backend: Backend = Field(Backend.ETCD, description="where evidence bundles are kept")
    storage_audit_backend: Backend = Field(Backend.ETCD, description="where audit events are kept")
    storage_snapshot_backend: Backend = Field(Backend.ETCD, description="where the scheduler's states are kept")
    storage_walrus_publishers: str = Field("", description="URLs of Walrus publishers, comma-separated, best first")
    storage_walrus_aggregators: str = Field("", description="URLs of Walrus aggregators, comma-separated, best first")
    storage_walrus_secret_file: Path | None = Field(
        None, description="what tokens for the publishers are signed with: a shared secret, or a private key (PEM)"
    )
    storage_walrus_algorithm: Algorithm = Field("HS256", description="how they are signed")
    storage_walrus_epochs: Annotated[int, Field(ge=2, le=MAX_EPOCHS)] = Field(
        26, description="for how many epochs blobs are stored, each time"
    )
    storage_walrus_epoch_ms: Annotated[int, Field(ge=1)] = Field(
        14 * 86_400_000, description="length of the network's epochs, in milliseconds (mainnet: two weeks)"
    )
    storage_walrus_upload_bytes: Annotated[int, Field(ge=5 * 1024 * 1024, le=1024 * 1024 * 1024)] = Field(
        10 * 1024 * 1024, description="largest upload that the publishers take"
    )
    storage_walrus_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        120.0, description="how long one upload or read may take"
    )
    storage_walrus_linger_ms: Annotated[int, Field(ge=0, le=600_000)] = Field(
        500,
        description="how long facts wait for others to share a quilt, which is paid for as 64 MB and more",
    )
    storage_walrus_renewal_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        3600.0, description="how often it is looked whether blobs are due for renewal"
    )
    storage_snapshots_kept: Annotated[int, Field(ge=2, le=10_000)] = Field(
        16, description="newest states of the scheduler that are all kept; older ones are thinned out"
    )
    storage_snapshot_gap: Annotated[int, Field(ge=1, le=MAX_REPLAY_BATCHES)] = Field(
        1_000, description="batches that a replay from an older state may have to go through"
    )
    storage_snapshot_poll_s: Annotated[float, Field(gt=0, le=60)] = Field(
        1.0, description="how often the enclave's snapshots are looked for, in seconds"
    )

    @model_validator(mode="after")
    def _walrus_is_known(self) -> Self:
        wanted = any(
            backend.walrus
            for backend in (self.storage_evidence_backend, self.storage_audit_backend, self.storage_snapshot_backend)
        )
        for field in ("storage_walrus_publishers", "storage_walrus_aggregators"):
            if wanted and not _urls(getattr(self, field)):
                raise ConfigurationError(
                    f"a backend is Walrus, but DAAS_{field.upper()} names none",
                    reason="contradictory-settings",
                    field=field,
                )
        return self

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
        if (self.storage_etcd_user is None) != (self.storage_etcd_password_file is None):
            raise ConfigurationError(
                "DAAS_STORAGE_ETCD_USER and DAAS_STORAGE_ETCD_PASSWORD_FILE go together",
                reason="contradictory-settings",
                field="storage_etcd_user",
            )
        return self

    @property
    def etcd_endpoints(self) -> list[str]:
        """The endpoints, in the order given."""
        return _urls(self.storage_etcd_endpoints)

    def etcd_credentials(self) -> Credentials | None:
        """Who we are to etcd; None where it does not ask.

        Raises:
            ConfigurationError: `unreadable-file`.
        """
        if self.storage_etcd_user is None or self.storage_etcd_password_file is None:
            return None
        password = _read(self.storage_etcd_password_file).decode(errors="replace").strip()
        return Credentials(self.storage_etcd_user, password)

    def walrus(self) -> WalrusClient | None:
        """The client; None where no aggregator is named.

        Raises:
            ConfigurationError: `unreadable-file`, `walrus-secret`, `walrus-url`.
        """
        aggregators = _urls(self.storage_walrus_aggregators)
        if not aggregators:
            return None
        file = self.storage_walrus_secret_file
        key = PublisherKey(_read(file).strip(), algorithm=self.storage_walrus_algorithm) if file else None
        limits = Limits(upload_bytes=self.storage_walrus_upload_bytes, timeout_s=self.storage_walrus_timeout_s)
        return WalrusClient(_urls(self.storage_walrus_publishers), aggregators, key=key, limits=limits)

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


def _urls(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", reason="unreadable-file") from None
