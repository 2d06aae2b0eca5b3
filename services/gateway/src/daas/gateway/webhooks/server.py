"""The HTTPS server behind the webhooks: TLS with renewal, client certificates, bounds, metrics.

Whoever asks must show a certificate of our authority, also for admission: the answers tell which Secrets there are.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram

from daas.common.errors import ConfigurationError, DaasError, Unavailable
from daas.common.logs import get_logger

Object = dict[str, Any]
Handler = Callable[[Object], Awaitable[Object]]

#: kube-apiserver takes objects of up to 3 MiB; a review holds two. An audit batch of 400 events may be more.
BODY_BYTES_MAX: Final = 16 * 1024 * 1024
#: Longest a caller is kept waiting, whatever it asks for: the API server's own limit is 30 s.
HANDLER_S: Final = 25.0
RELOAD_EVERY_S: Final = 10.0
_STOP_S: Final = 2.0

log = get_logger("webhooks")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; they may be replaced while we run."""

    certificate: Path
    key: Path
    client_authorities: Path

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever a file does."""
        return tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key, self.client_authorities))


class WebhookServer:
    """Serves the routes.

    Args:
        routes: the answer to a decoded body, by path.
        tls: certificate, key, and the authorities of client certificates.
    """

    def __init__(self, routes: Mapping[str, Handler], tls: TlsFiles, registry: CollectorRegistry) -> None:
        self._routes = dict(routes)
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._stamp: tuple[int, ...] = ()
        self._runner: web.AppRunner | None = None
        self._requests = Counter(
            "daas_gateway_webhook_requests", "Webhook requests", ["path", "code"], registry=registry
        )
        self._seconds = Histogram(
            "daas_gateway_webhook_seconds",
            "Webhook requests, from the body to the answer",
            ["path"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3),
            registry=registry,
        )
        self.url = ""

    async def start(self, host: str, port: int) -> str:
        """Listens; the base URL.

        Raises:
            ConfigurationError: `webhook-tls`.
            Unavailable: `webhook-address`.
        """
        self._stamp = self._load()
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, ssl_context=self._context, backlog=1024).start()
        except OSError as error:
            await self._runner.cleanup()
            raise Unavailable(f"can't listen on {host}:{port}: {error.strerror}", reason="webhook-address") from None
        bound = self._runner.addresses[0]
        self.url = f"https://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        return self.url

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def follow_files(self) -> None:
        """Takes renewed certificates for new connections, for ever."""
        while True:
            await asyncio.sleep(RELOAD_EVERY_S)
            self.reload()

    def reload(self) -> bool:
        """Reads the files again if they have changed; what can't be read leaves the old certificates in use."""
        try:
            if self._tls.stamp() == self._stamp:
                return False
            self._stamp = self._load()
        except (OSError, ConfigurationError) as error:
            log.warning("renewed certificates can't be used yet", error=error)
            return False
        log.info("certificates renewed")
        return True

    def _load(self) -> tuple[int, ...]:
        """Into the context that the listener holds: connections made from now on use what it says then."""
        try:
            stamp = self._tls.stamp()
            probe = self._fill(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._context = probe if self._context is None else self._fill(self._context)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"webhook certificates: {error}", reason="webhook-tls") from None
        return stamp

    def _fill(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(self._tls.certificate, self._tls.key)
        context.load_verify_locations(self._tls.client_authorities)
        return context

    async def _serve(self, request: web.Request) -> web.Response:
        path = request.path
        route = self._routes.get(path)
        if route is None:
            return self._refused("other", 404, "not-found", f"there is no webhook at {path}")
        if not _certificate(request):
            return self._refused(path, 401, "no-certificate", "this webhook answers API servers only")
        try:
            body = msgspec.json.decode(await request.read(), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return self._refused(path, 400, "body", f"expected a JSON object: {error}")
        except web.HTTPRequestEntityTooLarge:
            return self._refused(path, 413, "body-size", f"expected at most {BODY_BYTES_MAX} bytes")
        with self._seconds.labels(path).time():
            return await self._answer(path, route, body)

    async def _answer(self, path: str, route: Handler, body: Object) -> web.Response:
        try:
            async with asyncio.timeout(HANDLER_S):
                answer = await route(body)
        except DaasError as error:
            return self._refused(path, error.http_status, error.reason, error.message)
        except TimeoutError:
            return self._refused(path, 504, "timeout", f"no answer within {HANDLER_S} s")
        except Exception:  # outermost loop of a request, counted by its code
            log.exception("a webhook failed", path=path)
            return self._refused(path, 500, "unexpected-error", "the gateway failed; its log says why")
        self._requests.labels(path, "200").inc()
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    def _refused(self, path: str, code: int, reason: str, message: str) -> web.Response:
        self._requests.labels(path, str(code)).inc()
        body = msgspec.json.encode({"reason": reason, "message": message})
        return web.Response(body=body, status=code, content_type="application/json")


def _certificate(request: web.Request) -> bool:
    transport = request.transport
    return transport is not None and bool(transport.get_extra_info("peercert"))
