"""Settings of the gateway, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator

from daas.common.errors import ConfigurationError
from daas.common.settings import ServiceSettings
from daas.common.subjects import Service
from daas.gateway.appender import EVENTS_MAX, AppenderLimits
from daas.gateway.webhooks.server import TlsFiles
from daas.identity import Tiers
from daas.kube import LeaseTimes

ObjectId = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
#: schedulerName of the pods that are ours to place.
SCHEDULER_NAME = "k3s-daas"


class GatewaySettings(ServiceSettings):
    """The gateway: watches nodes and pods into the cluster log, and binds what was decided and anchored."""

    service: ClassVar[Service | None] = Service.GATEWAY

    gateway_kubeconfig: Path | None = Field(
        None, description="kubeconfig of the cluster; none: the service account of the pod that this runs in"
    )
    gateway_scheduler_name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        SCHEDULER_NAME, description="spec.schedulerName of the pods to place"
    )
    gateway_window_ms: Annotated[int, Field(ge=0, le=1000)] = Field(
        5, description="how long a log entry waits for more events, in milliseconds"
    )
    gateway_entry_events_max: Annotated[int, Field(ge=1, le=EVENTS_MAX)] = Field(
        EVENTS_MAX, description="most events of one log entry"
    )
    gateway_entry_bytes_max: Annotated[int, Field(ge=65_536, le=3 * 1024 * 1024)] = Field(
        3 * 1024 * 1024, description="most bytes of one log entry"
    )
    gateway_tick_ms: Annotated[int, Field(ge=1000, le=60_000)] = Field(
        1000, description="after this silence log time is ticked while pods wait, in milliseconds"
    )
    gateway_bind_concurrency: Annotated[int, Field(ge=1, le=256)] = Field(
        128, description="most bindings in flight; fewer while the API server answers slowly or is overloaded"
    )
    gateway_bind_attempts_max: Annotated[int, Field(ge=1, le=100)] = Field(
        8, description="attempts at one binding while the API server is away or overloaded"
    )
    gateway_report_concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="event posts and condition patches in flight; separate from bindings"
    )
    gateway_report_waiting_max: Annotated[int, Field(ge=1, le=100_000)] = Field(
        8192, description="events and conditions waiting; more are dropped and counted"
    )
    gateway_watch_timeout_s: Annotated[int, Field(ge=1, le=3600)] = Field(
        120, description="after how many seconds (up to twice) a watch is ended and begun again"
    )

    gateway_ledger_url: str | None = Field(
        None,
        description="Sui full nodes, separated by commas, on which each anchor is looked up before its pods are bound",
    )
    gateway_package: ObjectId | None = Field(None, description="address of the Move package daas, with the ledger")
    gateway_registry: ObjectId | None = Field(None, description="the cluster's Registry object, with the ledger")

    gateway_trust_relay: bool = Field(
        False, description="true instead of a ledger: pods are bound on the relay's word that a decision is anchored"
    )

    gateway_lease: Annotated[str, Field(max_length=253)] = Field(
        "",
        description="NAMESPACE/NAME of the Lease by which one of several gateways leads; empty: this is the only one",
    )
    gateway_identity: Annotated[str, Field(max_length=253)] = Field(
        "", description="our name in the Lease, unlike every other gateway's; empty: host name and a random part"
    )
    gateway_lease_s: Annotated[float, Field(ge=1, le=300)] = Field(
        15.0, description="a Lease unchanged for so many seconds is taken over"
    )
    gateway_api_host: str = Field("127.0.0.1", description="address of the monitors' API")
    gateway_api_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of the monitors' API; 0: the system chooses"
    )
    gateway_webhook_host: str = Field("127.0.0.1", description="address of the webhooks")
    gateway_webhook_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of the webhooks; 0: the system chooses"
    )
    gateway_webhook_certificate_file: Path | None = Field(
        None, description="PEM certificate of the webhooks; none: no webhooks are served"
    )
    gateway_webhook_key_file: Path | None = Field(None, description="its private key")
    gateway_webhook_client_ca_file: Path | None = Field(
        None, description="PEM authorities of the API servers that may ask"
    )
    gateway_keeper_trust_file: Path | None = Field(
        None,
        description="JSON: what the seal-keeper must attest; none: labelled Secrets must come sealed",
    )
    gateway_unseal_image: str = Field(
        "", description="image of the init container that opens sealed Secrets for pods; empty: pods are not changed"
    )
    gateway_unseal_node_directory: str = Field(
        "/etc/rancher/k3s-daas", description="directory of a node with its context.json and node.keystore"
    )
    gateway_audience: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        "https://kubernetes.default.svc.cluster.local",
        description="audience of login tokens where the API server names none",
    )
    gateway_tiers: str = Field(
        "member=1,operator=1000,guardian=100000",
        description="groups daas:tier:NAME by bonded stake, for RBAC: NAME=SUI, comma-separated; the default names are "
        "those of the built-in policy set, and what the enclave judges is its own set's",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        files = (
            self.gateway_webhook_certificate_file,
            self.gateway_webhook_key_file,
            self.gateway_webhook_client_ca_file,
        )
        if any(files) and not all(files):
            raise ConfigurationError(
                "the webhooks need certificate, key and client authorities",
                reason="contradictory-settings",
                field="gateway_webhook_certificate_file",
            )
        ledger = (self.gateway_ledger_url, self.gateway_package, self.gateway_registry)
        if any(ledger) and not all(ledger):
            raise ConfigurationError(
                "looking anchors up takes the ledger's URL, the package and the registry",
                reason="contradictory-settings",
                field="gateway_ledger_url",
            )
        if any(ledger) is self.gateway_trust_relay:
            raise ConfigurationError(
                "expected the ledger's URL, the package and the registry, by which anchors are looked up, or "
                "DAAS_GATEWAY_TRUST_RELAY=true, by which the relay's word is taken; one of the two",
                reason="contradictory-settings",
                field="gateway_trust_relay",
            )
        if self.gateway_lease and len([part for part in self.gateway_lease.split("/") if part]) != 2:
            raise ConfigurationError("expected NAMESPACE/NAME", reason="invalid-setting", field="gateway_lease")
        Tiers.parse(self.gateway_tiers)
        return self

    @property
    def lease_times(self) -> LeaseTimes:
        """Renewed and retried in the proportions of client-go's 15, 10 and 2 seconds."""
        return LeaseTimes(self.gateway_lease_s, self.gateway_lease_s * 2 / 3, self.gateway_lease_s * 2 / 15)

    @property
    def webhook_tls(self) -> TlsFiles | None:
        """The files of the webhooks, None where none are served."""
        certificate, key = self.gateway_webhook_certificate_file, self.gateway_webhook_key_file
        authorities = self.gateway_webhook_client_ca_file
        if certificate is None or key is None or authorities is None:
            return None
        return TlsFiles(certificate, key, authorities)

    @property
    def appender_limits(self) -> AppenderLimits:
        """The shape of the log entries."""
        return AppenderLimits(
            window_s=self.gateway_window_ms / 1000,
            events_max=self.gateway_entry_events_max,
            bytes_max=self.gateway_entry_bytes_max,
            tick_s=self.gateway_tick_ms / 1000,
        )
