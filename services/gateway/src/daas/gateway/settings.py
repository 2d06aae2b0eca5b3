"""Settings of the gateway, read from the environment."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from daas.common.settings import ServiceSettings
from daas.common.subjects import Service
from daas.gateway.appender import EVENTS_MAX, AppenderLimits

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
        32, description="bindings in flight at the API server"
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

    @property
    def appender_limits(self) -> AppenderLimits:
        """The shape of the log entries."""
        return AppenderLimits(
            window_s=self.gateway_window_ms / 1000,
            events_max=self.gateway_entry_events_max,
            bytes_max=self.gateway_entry_bytes_max,
            tick_s=self.gateway_tick_ms / 1000,
        )
