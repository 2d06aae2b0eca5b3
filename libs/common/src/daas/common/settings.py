"""Settings from the environment: one class per service, documented by its own `--help`, refusing what it doesn't know.

Names: a field `nats_url` is set by `DAAS_NATS_URL`. A service's own fields begin with its name (`relay_gas_budget` is
`DAAS_RELAY_GAS_BUDGET`). What is refused at start (exit code 2): a value of the wrong form, settings that contradict
each other, and an unknown variable which is (a) in the service's own namespace `DAAS_<SERVICE>_*`, or (b) in a common
one (`DAAS_NATS_*`, `DAAS_HTTP_*`, `DAAS_LOG_*`), or (c) outside every other namespace and nearly a known name. The
variables of other programs, of the development stack (`DAAS_DEV_*`) and of tests (`DAAS_TEST_*`) are left alone.
"""

import difflib
import os
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

from daas.common.errors import ConfigurationError, DaasError, InvalidInput
from daas.common.subjects import Service, prefix

ENV_PREFIX: Final = "DAAS_"
_COMMON_NAMESPACES: Final = ("NATS", "HTTP", "LOG", "TRACE")
_FOREIGN_NAMESPACES: Final = ("DEV", "TEST", "KMS", "KEY_SERVER")
#: Above this similarity (0..1) an unknown name is taken for a slip of the pen: NATS_ULR and NATS_URL are at 0.92.
_TYPO_CUTOFF: Final = 0.85


def _whole(value: object) -> object:
    """A literal of integers takes no text, and the environment holds nothing else."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class ProcessSettings(BaseSettings):
    """What all settings classes share: where values come from, and which names are theirs."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True, env_ignore_empty=True
    )
    #: Which service's namespace is checked for unknown names; None for tools that have none.
    service: ClassVar[Service | None] = None
    #: Further namespaces that are checked: of programs that are on no bus and so no Service.
    namespaces: ClassVar[tuple[str, ...]] = ()


class BusSettings(ProcessSettings):
    """How to reach the bus, and in which cluster."""

    cluster: str = Field(default="dev", description="name of the cluster, a DNS label; part of every subject")
    nats_url: str = Field(default="nats://127.0.0.1:4222", description="nats:// or tls:// URLs, comma-separated")
    nats_user: str | None = Field(default=None, description="NATS user; only together with DAAS_NATS_PASSWORD")
    nats_password: SecretStr | None = Field(default=None, description="password of DAAS_NATS_USER (development)")
    nats_nkey_file: Path | None = Field(default=None, description="file with this service's NKey seed (production)")
    nats_ca_file: Path | None = Field(default=None, description="CA certificates (PEM) for the NATS server")
    nats_tls_first: bool = Field(default=False, description="TLS handshake before the server's greeting")
    nats_tls_name: str | None = Field(
        default=None, description="name that the server's certificate must carry; none: the host of its URL"
    )
    nats_start_timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=60.0, description="how long to wait for NATS at start, in seconds"
    )
    nats_publish_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        default=30.0, description="how long a publish is retried before it fails, in seconds"
    )
    nats_publish_in_flight: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=128, description="publishes that wait for the stream's acknowledgement at once"
    )
    nats_declare: bool = Field(
        default=True, description="make missing streams and consumers; false: wait until `daas bus apply` has made them"
    )
    nats_replicas: Annotated[Literal[1, 3, 5], BeforeValidator(_whole)] = Field(
        default=1, description="replicas of the streams that are made"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        prefix(self.cluster)
        if (self.nats_user is None) != (self.nats_password is None):
            raise ConfigurationError(
                "DAAS_NATS_USER and DAAS_NATS_PASSWORD go together", reason="contradictory-settings", field="nats_user"
            )
        if self.nats_user is not None and self.nats_nkey_file is not None:
            raise ConfigurationError(
                "either DAAS_NATS_USER or DAAS_NATS_NKEY_FILE, not both",
                reason="contradictory-settings",
                field="nats_nkey_file",
            )
        urls = self.nats_urls
        if not urls or any(not url.startswith(("nats://", "tls://")) for url in urls):
            raise ConfigurationError(
                "DAAS_NATS_URL expects nats:// or tls:// URLs", reason="nats-url", field="nats_url"
            )
        if self.nats_tls_first and self.nats_ca_file is None and not any(url.startswith("tls://") for url in urls):
            raise ConfigurationError(
                "DAAS_NATS_TLS_FIRST needs a tls:// URL or DAAS_NATS_CA_FILE",
                reason="contradictory-settings",
                field="nats_tls_first",
            )
        if self.nats_tls_name is not None and not any(url.startswith("tls://") for url in urls):
            raise ConfigurationError(
                "DAAS_NATS_TLS_NAME needs a tls:// URL", reason="contradictory-settings", field="nats_tls_name"
            )
        return self

    @property
    def nats_urls(self) -> list[str]:
        """The servers, in the order given."""
        return [url.strip() for url in self.nats_url.split(",") if url.strip()]


class ServiceSettings(BusSettings):
    """What every service has on top: its HTTP endpoint, logs, and how it stops."""

    http_host: str = Field(default="127.0.0.1", description="address of /healthz /readyz /metrics /status")
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(default=0, description="its port; 0: the system chooses")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    state_dir: Path | None = Field(default=None, description="directory for what must survive a restart")
    ready_file: Path | None = Field(default=None, description="file to write the ready line to, besides stdout")
    trace_otlp_url: str | None = Field(
        default=None, description="OTLP/HTTP address that takes spans, e.g. http://collector:4318/v1/traces; none: off"
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(default=1.0, description="share of the traces kept")
    stop_timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        default=15.0, description="how long running handlers may take to finish at a stop, in seconds"
    )


S = TypeVar("S", bound=ProcessSettings)


def load(cls: type[S], environment: Mapping[str, str] | None = None) -> S:
    """The settings of this process's environment.

    Args:
        cls: the settings class.
        environment: where unknown names are looked for; values are always read from the process's environment.

    Raises:
        ConfigurationError: `unknown-setting`, `invalid-setting`, `contradictory-settings`; never quotes a value.
    """
    _refuse_unknown(cls, os.environ if environment is None else environment)
    try:
        return cls()
    except InvalidInput as error:
        raise ConfigurationError(error.message, reason="invalid-setting", field=error.field) from None
    except ValidationError as error:
        problems = [(_variable(str(e["loc"][0])) if e["loc"] else "settings", e["msg"]) for e in error.errors()]
        raise ConfigurationError(
            "; ".join(f"{name}: {text}" for name, text in problems), reason="invalid-setting", field=problems[0][0]
        ) from None


def _variable(field: str) -> str:
    return f"{ENV_PREFIX}{field}".upper()


def _refuse_unknown(cls: type[ProcessSettings], environment: Mapping[str, str]) -> None:
    known = {_variable(name) for name in cls.model_fields}
    own = [*([cls.service] if cls.service is not None else []), *cls.namespaces]
    common = [name for name in _COMMON_NAMESPACES if name != "NATS" or issubclass(cls, BusSettings)]
    refused = {_namespace(name) for name in (*own, *common)}
    left_alone = {_namespace(name) for name in (*Service, *_FOREIGN_NAMESPACES, *_COMMON_NAMESPACES)}
    left_alone -= refused
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in known or upper.startswith(tuple(left_alone)):
            continue
        near = difflib.get_close_matches(upper, known, n=1, cutoff=_TYPO_CUTOFF)
        if near or upper.startswith(tuple(refused)):
            hint = f"; did you mean {near[0]}?" if near else "; --help lists what there is"
            raise ConfigurationError(f"{name} is not a setting{hint}", reason="unknown-setting", field=name)


def _namespace(name: str) -> str:
    return f"{ENV_PREFIX}{name.upper().replace('-', '_')}_"


def help_text(cls: type[ProcessSettings], program: str) -> str:
    """What `--help` prints: each setting's variable, type, default and description."""
    lines = [f"usage: {program} [--help]", "", (cls.__doc__ or "").strip().split("\n", maxsplit=1)[0], ""]
    lines.append("Settings are environment variables:")
    for name, info in cls.model_fields.items():
        default = "required" if info.is_required() else f"default {_shown(info.get_default(call_default_factory=True))}"
        lines += ["", f"  {_variable(name)}  <{_type_name(info.annotation)}>  ({default})"]
        lines.append(f"      {info.description or ''}")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    if value is None or value is PydanticUndefined:
        return "none"
    if isinstance(value, SecretStr):
        return "(secret)"
    if isinstance(value, Enum):
        return str(value.value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        return " | ".join(_type_name(arg) for arg in get_args(annotation) if arg is not type(None))
    if origin is Literal:
        return " | ".join(str(arg) for arg in get_args(annotation))
    if origin is Annotated:
        return _type_name(get_args(annotation)[0])
    if annotation is SecretStr:
        return "secret"
    if origin is not None:
        return str(annotation).replace("typing.", "")
    return str(getattr(annotation, "__name__", annotation)).lower()


def main(cls: type[S], build: Callable[[S], Any], argv: Sequence[str] | None = None) -> int:
    """The `__main__` of a service: `raise SystemExit(main(RelaySettings, build))`.

    Args:
        cls: its settings.
        build: makes the ServiceApp; may raise ConfigurationError too.
        argv: the arguments; those of the process by default.

    Returns:
        The exit code: 0 for --help and a stop in order, 1 when the service failed, 2 when it refused to start.
    """
    arguments = sys.argv[1:] if argv is None else argv
    program = f"python -m {(build.__module__ or 'daas').rpartition('.')[0] or build.__module__}"
    if any(argument in {"--help", "-h"} for argument in arguments):
        sys.stdout.write(help_text(cls, program))
        return 0
    if arguments:
        sys.stderr.write(f"{program}: unexpected argument {arguments[0]!r}: settings are variables, see --help\n")
        return 2
    try:
        app = build(load(cls))
    except ConfigurationError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    except DaasError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    code: int = app.run()
    return code
