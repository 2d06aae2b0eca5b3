"""The gateway as a service: its parts, what they react to, and what makes it ready."""

import asyncio
import time

from daas.common.bus import Event
from daas.common.errors import DecodeError, InvalidInput
from daas.common.logs import get_logger
from daas.common.messages import MetadataChanged, PlacementAnchored
from daas.common.service import ServiceApp
from daas.common.subjects import LOG_CLUSTER, METADATA_CHANGED, PLACEMENT_ANCHORED, Service
from daas.gateway.api.server import MonitorApi
from daas.gateway.appender import AppenderMetrics, LogAppender
from daas.gateway.binder import Binder, BinderMetrics
from daas.gateway.binding import PodBinder
from daas.gateway.cache import ClusterCache
from daas.gateway.events import Reporter, ReporterMetrics
from daas.gateway.evictions import EvictionMetrics, Evictor
from daas.gateway.leadership import Leadership
from daas.gateway.publicdata import PublicData
from daas.gateway.settings import GatewaySettings
from daas.gateway.volumes import VolumeBinder
from daas.gateway.watcher import ClusterWatcher, WatchMetrics
from daas.gateway.webhooks.wiring import build_webhooks
from daas.gateway.witness import LedgerWitness, Node
from daas.kube import KubeClient, load_configuration
from daas.placement.log import decode_entry

#: Anchored messages in work at once; their binds share one bound anyway.
ANCHORED_IN_FLIGHT = 16
STATUS_EVERY_S = 1.0

log = get_logger("gateway")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Gateway:
    """Wires watch, log and binder to one service shell.

    Args:
        app: the shell.
        settings: see `GatewaySettings`.
        client: the API server.
    """

    def __init__(self, app: ServiceApp, settings: GatewaySettings, client: KubeClient) -> None:
        self._app = app
        self._client = client
        self.cache = ClusterCache(settings.gateway_scheduler_name)
        self.appender = LogAppender(
            self._publish,
            _now_ms,
            wants_tick=lambda: self.cache.pending > 0 or self.cache.reservations > 0,
            limits=settings.appender_limits,
            metrics=AppenderMetrics(app.metrics),
        )
        self.watcher = ClusterWatcher(
            client,
            self.cache,
            self.appender,
            _now_ms,
            metrics=WatchMetrics(app.metrics),
            watch_timeout_s=settings.gateway_watch_timeout_s,
            on_refused=_refused,
            surroundings=True,
        )
        pods = PodBinder(
            client,
            self.cache,
            _now_ms,
            concurrency=settings.gateway_bind_concurrency,
            attempts_max=settings.gateway_bind_attempts_max,
        )
        self.reporter = Reporter(
            client,
            self.cache,
            _now_ms,
            metrics=ReporterMetrics(app.metrics),
            concurrency=settings.gateway_report_concurrency,
            waiting_max=settings.gateway_report_waiting_max,
            quiet=pods.concurrency.quiet,
        )
        self.leadership = Leadership(
            client,
            settings.gateway_lease,
            settings.gateway_identity,
            settings.lease_times,
            lambda role: app.status.update({"role": role}),
        )
        surroundings = self.watcher.surroundings
        assert surroundings is not None, "the watcher was told to follow them"
        evictor = Evictor(
            client,
            self.cache,
            self.appender.append,
            _now_ms,
            metrics=EvictionMetrics(app.metrics),
            permit=self.leadership.permit,
        )
        self.witness = _witness(app, settings)
        self.binder = Binder(
            bus=lambda: app.bus,
            pods=pods,
            cache=self.cache,
            append=self.appender.append,
            reporter=self.reporter,
            ready=self.watcher.wait_complete,
            metrics=BinderMetrics(app.metrics),
            witness=self.witness.check if self.witness is not None else None,
            permit=self.leadership.permit,
            volumes=VolumeBinder(client, self.cache, surroundings, _now_ms),
            evictor=evictor,
        )
        self.webhooks = build_webhooks(app, settings, client, _now_ms)
        self.public_data = PublicData(
            client, self._tell_metadata, app.metrics, watch_timeout_s=settings.gateway_watch_timeout_s
        )
        self.api = MonitorApi(
            app,
            client,
            self.cache,
            lambda: self.watcher.complete,
            host=settings.gateway_api_host,
            port=settings.gateway_api_port,
        )

    def register(self) -> None:
        """Subscriptions, tasks, checks and stops."""
        app = self._app
        app.on(PLACEMENT_ANCHORED, PlacementAnchored, in_flight=ANCHORED_IN_FLIGHT)(self._on_anchored)
        self.api.register()
        if self.webhooks is not None:
            self.webhooks.register()
        app.on_start(self.leadership.wait)
        app.on_start(self._start)
        if self.leadership.elected:
            app.task("lease")(self.leadership.hold)
        app.task("appender")(self.appender.run)
        app.task("nodes")(self.watcher.follow_nodes)
        app.task("pods")(self.watcher.follow_pods)
        app.task("surroundings")(self.watcher.follow_surroundings)
        app.task("reporter")(self.reporter.run)
        app.task("public-data")(self.public_data.run)
        app.task("status")(self._report_status)
        app.check("kubernetes")(self.watcher.check)
        app.on_stop(self._stop)

    async def _publish(self, body: bytes, message_id: str, timestamp_ms: int) -> int:
        return await self._app.bus.publish(LOG_CLUSTER, body, message_id=message_id, time_ms=timestamp_ms)

    async def _tell_metadata(self, fact: MetadataChanged, message_id: str) -> None:
        await self._app.bus.publish(METADATA_CHANGED, fact, message_id=message_id)

    async def _on_anchored(self, event: Event[PlacementAnchored]) -> None:
        await self.binder.on_anchored(event)

    async def _start(self) -> None:
        """Log time goes on from the newest entry there is, even where the clock was set back."""
        newest = await self._app.bus.last(LOG_CLUSTER)
        if newest is not None:
            try:
                self.appender.not_before(decode_entry(newest.data).timestamp_ms)
            except InvalidInput as error:
                log.warning("newest log entry is unreadable", sequence=newest.sequence, error=error)

    async def _stop(self) -> None:
        await self.binder.stop()
        if self.appender.waiting:
            self.leadership.permit()
            await self.appender.drain()
        await self.leadership.release()
        if self.witness is not None:
            await self.witness.close()
        await self._client.close()

    async def _report_status(self) -> None:
        while True:
            self._app.status.update(self.status())
            await asyncio.sleep(STATUS_EVERY_S)

    def status(self) -> dict[str, object]:
        """What /status shows of us."""
        return {
            "nodes": len(self.cache.nodes),
            "pods": len(self.cache.pods),
            "pods_pending": self.cache.pending,
            "binds_unseen": self.cache.reservations,
            "log_sequence": self.appender.last_sequence,
            "log_events_waiting": self.appender.waiting,
            "decision_settled": self.binder.last_sequence,
            "nodes_version": self.watcher.nodes.resource_version,
            "pods_version": self.watcher.pods.resource_version,
        }


def _witness(app: ServiceApp, settings: GatewaySettings) -> LedgerWitness | None:
    url, package, registry = settings.gateway_ledger_url, settings.gateway_package, settings.gateway_registry
    app.status["trusts_relay"] = settings.gateway_trust_relay
    if url is None or package is None or registry is None:
        log.warning("anchors are not looked up on the ledger: the relay's word is taken")
        return None

    async def connect() -> Node:
        from daas.ledger import Ledger  # noqa: PLC0415 - 35 MB that only a gateway with a ledger needs

        return await Ledger.connect(url, package=package)

    return LedgerWitness(connect, registry, app.metrics)


def _refused(error: DecodeError) -> None:
    log.warning("object refused", error=error)


def build(settings: GatewaySettings) -> ServiceApp:
    """The service.

    Raises:
        ConfigurationError: the kubeconfig can't be used.
    """
    client = KubeClient(asyncio.run(load_configuration(settings.gateway_kubeconfig)))
    app = ServiceApp(Service.GATEWAY, settings)
    Gateway(app, settings, client).register()
    return app
