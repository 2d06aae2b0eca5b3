"""Settings of the KMS plugin, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from daas.common.settings import ProcessSettings


class KmsSettings(ProcessSettings):
    """KMS v2 plugin: data keys of a Kubernetes API server under seeds that are Seal objects. It needs no NATS."""

    namespaces: ClassVar[tuple[str, ...]] = ("KMS",)

    kms_socket: Path = Field(default=Path("/run/k3s-daas/kms.sock"), description="Unix socket to listen on, mode 0600")
    kms_keyring: Path = Field(
        default=Path("/etc/k3s-daas/kms-keyring.json"), description="sealed seeds, written by `daas kms init|rotate`"
    )
    kms_key_servers: Path = Field(
        default=Path("/etc/k3s-daas/key-servers.json"), description="key servers with their public keys, and threshold"
    )
    kms_keystore: Path = Field(
        default=Path("/etc/k3s-daas/kms.key"),
        description="key of the Sui account whose stake or node opens seeds",
    )
    kms_poll_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=2.0, description="how often the keyring is looked at, in seconds"
    )
    http_host: str = Field(default="127.0.0.1", description="address of /healthz /readyz /metrics /status")
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(default=0, description="its port; 0: the system chooses")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    ready_file: Path | None = Field(default=None, description="file to write the ready line to, besides stdout")
