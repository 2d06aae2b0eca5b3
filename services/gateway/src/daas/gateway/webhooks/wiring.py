"""The webhooks as part of the service: what they are built of, when they start, what shows of them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from daas.common.errors import Unavailable
from daas.common.messages import AuditRecorded
from daas.common.service import ServiceApp
from daas.common.subjects import AUDIT_RECORDED
from daas.gateway.settings import GatewaySettings
from daas.gateway.webhooks.admission import AdmissionReviewer
from daas.gateway.webhooks.audit import AuditSink
from daas.gateway.webhooks.authentication import TokenReviewer
from daas.gateway.webhooks.authorization import AccessReviewer
from daas.gateway.webhooks.enclaves import EnclaveKeys, Node
from daas.gateway.webhooks.keeper import KeeperSealer, read_trust
from daas.gateway.webhooks.policy import BusPolicyEngine
from daas.gateway.webhooks.sealed import ApiServerSecrets
from daas.gateway.webhooks.server import TlsFiles, WebhookServer
from daas.gateway.webhooks.stake import StakeBook
from daas.gateway.webhooks.unseal import UnsealContainer
from daas.identity import Tiers
from daas.kube import KubeClient


class Webhooks:
    """Serves from the moment the bus is connected: a standby answers too, since answers need no leader."""

    def __init__(
        self,
        app: ServiceApp,
        settings: GatewaySettings,
        client: KubeClient,
        tls: TlsFiles,
        clock_ms: Callable[[], int],
    ) -> None:
        self._app = app
        self._settings = settings
        self.stakes = StakeBook(settings.state_dir, app.metrics)
        tokens = TokenReviewer(
            cluster=settings.cluster,
            audience=settings.gateway_audience,
            stakes=self.stakes,
            tiers=Tiers.parse(settings.gateway_tiers),
            clock_ms=clock_ms,
            registry=app.metrics,
        )
        self.keys = EnclaveKeys(
            app.metrics,
            clock_ms=clock_ms,
            clock_s=time.monotonic,
            registry=settings.gateway_registry,
            connect=_connect(settings),
        )
        access = AccessReviewer(
            BusPolicyEngine(lambda: app.bus, self.keys, app.metrics),
            self.stakes,
            clock_ms=clock_ms,
            clock_s=time.monotonic,
            registry=app.metrics,
        )
        trust, image = settings.gateway_keeper_trust_file, settings.gateway_unseal_image
        admission = AdmissionReviewer(
            settings.cluster,
            settings.gateway_scheduler_name,
            app.metrics,
            sealer=None if trust is None else KeeperSealer(lambda: app.bus, read_trust(trust)),
            known=ApiServerSecrets(client),
            unseal=UnsealContainer(image, settings.gateway_unseal_node_directory) if image else None,
        )
        audit = AuditSink(self._publish, app.metrics)
        self.server = WebhookServer(
            {
                "/authn": tokens.review,
                "/authz": access.review,
                "/mutate": admission.mutate,
                "/validate": admission.validate,
                "/audit": audit.take,
            },
            tls,
            app.metrics,
        )
        self._running: dict[str, asyncio.Task[None]] = {}

    def register(self) -> None:
        """Hooks and checks."""
        self._app.on_start(self._start)
        self._app.on_stop(self._stop)
        self._app.check("webhooks")(self._check)

    async def _publish(self, fact: AuditRecorded, message_id: str) -> None:
        await self._app.bus.publish(AUDIT_RECORDED, fact, message_id=message_id)

    async def _start(self) -> None:
        settings = self._settings
        url = await self.server.start(settings.gateway_webhook_host, settings.gateway_webhook_port)
        self._app.status["webhooks"] = url
        self._spawn("stakes", self.stakes.run(lambda: self._app.bus))
        self._spawn("enclave-keys", self.keys.run(lambda: self._app.bus))
        self._spawn("certificates", self.server.follow_files())

    def _spawn(self, name: str, run: Coroutine[Any, Any, None]) -> None:
        self._running[name] = asyncio.create_task(run, name=name)

    async def _stop(self) -> None:
        await self.server.stop()
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        await self.keys.close()
        await asyncio.to_thread(self.stakes.save, self._app.bus.cluster)

    async def _check(self) -> None:
        """Raises Unavailable where a part has ended or the stakes are not read yet."""
        for name, task in self._running.items():
            if task.done():
                error = None if task.cancelled() else task.exception()
                raise Unavailable(f"{name} has ended: {error}", reason="task-ended")
        self.stakes.check()


def _connect(settings: GatewaySettings) -> Callable[[], Awaitable[Node]] | None:
    url, package = settings.gateway_ledger_url, settings.gateway_package
    if url is None or package is None:
        return None

    async def connect() -> Node:
        from daas.ledger import Ledger  # noqa: PLC0415 - 35 MB that only a gateway with a ledger needs

        return await Ledger.connect(url, package=package)

    return connect


def build_webhooks(
    app: ServiceApp, settings: GatewaySettings, client: KubeClient, clock_ms: Callable[[], int]
) -> Webhooks | None:
    """The webhooks, None where the settings name no certificate.

    Raises:
        ConfigurationError, DecodeError: what is pinned of the keeper can't be read.
    """
    tls = settings.webhook_tls
    return Webhooks(app, settings, client, tls, clock_ms) if tls is not None else None
