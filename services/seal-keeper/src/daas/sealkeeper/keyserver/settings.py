"""Settings of the key server process, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator

from daas.common.errors import ConfigurationError
from daas.common.settings import ProcessSettings

_OBJECT_ID = r"^0x[0-9a-f]{64}$"


class KeyServerProcessSettings(ProcessSettings):
    """Seal key servers: give out keys as the policies of one Move package on one ledger say."""

    namespaces: ClassVar[tuple[str, ...]] = ("KEY_SERVER",)

    key_server_ledger_url: str = Field(description="full node (sui.rpc.v2), or several, comma-separated")
    key_server_package: Annotated[str, Field(pattern=_OBJECT_ID)] = Field(description="the Move package daas")
    key_server_registry: Annotated[str, Field(pattern=_OBJECT_ID)] = Field(description="the Registry object")
    key_server_key_files: str = Field(
        default="",
        description="files with a master key (JSON, mode 0600), comma-separated: one server each. More than one in a "
        "process is for development: they fail and fall together",
    )
    key_server_master_key: SecretStr | None = Field(
        default=None, description="the master key instead of a file: 32 bytes, hexadecimal or base64"
    )
    key_server_object_id: Annotated[str, Field(pattern=_OBJECT_ID)] | None = Field(
        default=None, description="the KeyServer object on the ledger; only with DAAS_KEY_SERVER_MASTER_KEY"
    )
    key_server_make_keys: bool = Field(default=False, description="make key files that are missing")
    key_server_host: str = Field(default="127.0.0.1", description="address to listen on")
    key_server_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0, description="port of the first server, the next ones follow; 0: the system chooses each"
    )
    key_server_metrics_host: str = Field(default="127.0.0.1", description="address of /metrics")
    key_server_metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0, description="port of the first server's /metrics; 0: the system chooses"
    )
    key_server_simulated: bool = Field(
        default=False,
        description="the ledger is the development one, which makes no checkpoints on its own; refused unless the "
        "registry says that it is simulated",
    )
    key_server_log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least level logged"
    )

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        if bool(self.key_files) == (self.key_server_master_key is not None):
            raise ConfigurationError(
                "either DAAS_KEY_SERVER_KEY_FILES or DAAS_KEY_SERVER_MASTER_KEY",
                reason="contradictory-settings",
                field="key_server_key_files",
            )
        if (self.key_server_master_key is None) != (self.key_server_object_id is None):
            raise ConfigurationError(
                "DAAS_KEY_SERVER_MASTER_KEY and DAAS_KEY_SERVER_OBJECT_ID go together",
                reason="contradictory-settings",
                field="key_server_object_id",
            )
        return self

    @property
    def key_files(self) -> list[Path]:
        """The files, in the order given."""
        return [Path(part.strip()) for part in self.key_server_key_files.split(",") if part.strip()]
