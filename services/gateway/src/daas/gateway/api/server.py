"""The HTTP server of the monitors' API: routes, limits, and refusals in the one form."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import Counter

from daas.common.bus import Bus
from daas.common.errors import DaasError, InvalidInput, NotFound, Problem, Unavailable
from daas.common.logs import get_logger
from daas.common.messages import PlacementDecided, decode
from daas.common.service import ServiceApp
from daas.common.subjects import PLACEMENT_DECIDED, Stream
from daas.gateway.api import openapi, views
from daas.gateway.api.events import EventFeed, position
from daas.gateway.api.index import Batch, BatchIndex
from daas.gateway.cache import ClusterCache
from daas.kube import KubeClient, get_pod

PROOF_ANNOTATION: Final = "k3s-daas.io/proof"
LIMIT_DEFAULT, LIMIT_MAX = 100, 500
_STOP_S: Final = 2.0
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = get_logger("api")


class MonitorApi:
    """Serves what is public; nothing here changes anything.

    Args:
        app: the service.
        client: the API server, for a pod's annotations.
        cache: the live view.
        complete: whether the live view can be relied on.
    """

    def __init__(
        self,
        app: ServiceApp,
        client: KubeClient,
        cache: ClusterCache,
        complete: Callable[[], bool],
        *,
        host: str,
        port: int,
    ) -> None:
        self._app = app
        self._client = client
        self._cache = cache
        self._complete = complete
        self._host, self._port = host, port
        self.index = BatchIndex()
        self.events = EventFeed(self._bus)
        self._requests = Counter(
            "daas_gateway_api_requests", "Requests of monitors", ["path", "code"], registry=app.metrics
        )
        self._runner: web.AppRunner | None = None
        self._following: asyncio.Task[None] | None = None
        self._document: bytes | None = None
        self.url = ""

    def _bus(self) -> Bus:
        return self._app.bus

    def register(self) -> None:
        """Hooks and checks."""
        self._app.on_start(self.start)
        self._app.on_stop(self.stop)
        self._app.check("api")(self._check)

    async def start(self) -> None:
        """Listens. Raises Unavailable where the address is taken."""
        routes = web.Application(client_max_size=65_536)
        for path, answer in (
            ("/v1/events", self._events),
            ("/v1/batches", self._batches),
            ("/v1/batches/{sequence}", self._batch),
            ("/v1/pods/{namespace}/{name}/proof", self._proof),
            ("/v1/nodes", self._nodes),
            ("/openapi.json", self._openapi),
        ):
            routes.router.add_get(path, self._guarded(path, answer), allow_head=False)
        # A client that goes away ends its event stream at once.
        self._runner = web.AppRunner(
            routes, access_log=None, handle_signals=False, shutdown_timeout=_STOP_S, handler_cancellation=True
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            text = f"can't listen on {self._host}:{self._port}: {error.strerror}"
            raise Unavailable(text, reason="api-address") from None
        bound = self._runner.addresses[0]
        self.url = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        self._app.status["api"] = self.url
        self._following = asyncio.create_task(self.index.run(self._bus), name="batches")

    async def stop(self) -> None:
        """Stops listening."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _check(self) -> None:
        if self._following is not None and self._following.done():
            raise Unavailable("the index of decisions has ended", reason="task-ended")

    def _guarded(self, path: str, answer: Answer) -> Answer:
        async def serve(request: web.Request) -> web.StreamResponse:
            try:
                response = await answer(request)
            except DaasError as error:
                code = error.http_status if error.http_status in (400, 404, 503) else 503
                response = _json(error.problem(), code)
            except web.HTTPException:
                raise
            except Exception:  # outermost loop of a request, counted by its code
                log.exception("a request failed", path=path)
                response = _json(Problem(reason="unexpected-error", message="the gateway failed"), 503)
            self._requests.labels(path, str(response.status)).inc()
            return response

        return serve

    async def _events(self, request: web.Request) -> web.StreamResponse:
        return await self.events.serve(request)

    async def _batches(self, request: web.Request) -> web.StreamResponse:
        after = position(request.query.get("after", ""), "after") or 0
        asked = position(request.query.get("limit", ""), "limit")
        limit = LIMIT_DEFAULT if asked is None else asked
        if not 1 <= limit <= LIMIT_MAX:
            raise InvalidInput(f"expected 1 to {LIMIT_MAX}, not {limit}", reason="limit", field="limit")
        found = self.index.after(after, limit + 1)
        page = found[:limit]
        more = page[-1].sequence if len(found) > limit else None
        return _json(views.BatchPage(batches=page, next_after=more))

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        sequence = position(request.match_info["sequence"], "sequence")
        if sequence is None:
            raise InvalidInput("expected a number", reason="event-id", field="sequence")
        batch = self._known(sequence)
        return _json(views.detail(batch, await self._decided(batch)))

    async def _proof(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        pod = await get_pod(self._client, namespace, name)
        if not pod.spec.node_name:
            raise NotFound(f"{namespace}/{name} is not bound yet", reason="not-bound")
        text = (pod.metadata.annotations or {}).get(PROOF_ANNOTATION, "")
        sequence, slash, index = text.partition("/")
        if not slash or not sequence.isdecimal() or not index.isdecimal() or len(text) > 40:
            raise NotFound(f"{namespace}/{name} carries no proof", reason="no-proof")
        batch = self._known(int(sequence))
        decided = await self._decided(batch)
        return _json(views.pod_proof(batch, decided, int(index), pod.metadata.uid, pod.spec.node_name))

    def _known(self, sequence: int) -> Batch:
        batch = self.index.get(sequence)
        if batch is None:
            raise NotFound(f"no anchored decision {sequence} is known here", reason="no-batch")
        return batch

    async def _decided(self, batch: Batch) -> PlacementDecided:
        bus = self._bus()
        stored = await bus.fetch(Stream.PLACEMENT, batch.decided_sequence)
        if stored.subject != PLACEMENT_DECIDED.full(bus.cluster):
            raise NotFound(f"message {batch.decided_sequence} is no decision", reason="no-batch")
        return decode(stored.data, PlacementDecided)

    async def _nodes(self, _request: web.Request) -> web.StreamResponse:
        if not self._complete():
            raise Unavailable("the nodes are not listed yet, or another gateway leads", reason="not-synced")
        return _json(views.node_page(self._cache))

    async def _openapi(self, _request: web.Request) -> web.StreamResponse:
        if self._document is None:
            self._document = msgspec.json.encode(openapi.document())
        return web.Response(body=self._document, content_type="application/json")


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
