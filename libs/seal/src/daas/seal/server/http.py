"""What all endpoints share: headers, body limit, refusals as JSON, cross-origin rules, metrics and one log line."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from daas.common.errors import InvalidInput
from daas.seal import wire
from daas.seal.server.metrics import Metrics
from daas.seal.server.refusal import Refusal
from daas.seal.versions import LIBRARY_VERSION, PROTOCOL_VERSION, parse_version

_LOG = logging.getLogger(__name__)

_HEADERS: Final = {
    wire.HEADER_SERVER_VERSION: PROTOCOL_VERSION,
    wire.HEADER_SERVER_GIT: f"k3s-daas-seal-{LIBRARY_VERSION}",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "*",
    "Cache-Control": "no-store",
}
_PREFLIGHT: Final = {
    **_HEADERS,
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
}
#: What a handler adds to the log line of its request.
LOGGED: Final = web.RequestKey("logged", dict[str, object])
#: A client that has not sent 180 KiB by then holds a place that others need.
_BODY_TIMEOUT_S: Final = 10.0
#: Types of clients that get a series of their own in the metrics: others could be made up without end.
_KNOWN_TYPES: Final = frozenset({"typescript", "rust", "python", "aggregator"})
_ENDPOINTS: Final = frozenset({wire.FETCH_KEY, wire.SERVICE, wire.PARTIAL_PUBLIC_KEY})


def make_middleware(metrics: Metrics, in_flight_max: int) -> Middleware:
    """The frame around every request: whatever happens inside, the answer has the protocol's form.

    Args:
        metrics: where outcomes are counted.
        in_flight_max: requests answered at a time; more are turned away at once.
    """
    answering = 0

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal answering
        if answering >= in_flight_max:
            raise Refusal("Failure")
        answering += 1
        metrics.in_flight.set(answering)
        try:
            return await handler(request)
        finally:
            answering -= 1
            metrics.in_flight.set(answering)

    @web.middleware
    async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
        endpoint = request.path if request.path in _ENDPOINTS else "other"
        started = time.perf_counter()
        code, status = "OK", 200
        try:
            if request.method == "OPTIONS":
                return web.Response(status=204, headers=_PREFLIGHT)
            response = await answer(request, handler)
        except Refusal as error:
            code, status = error.code, error.status
            return refusal_response(error)
        except (web.RequestPayloadError, ConnectionError):
            # Official clients abort what they no longer need: nobody reads this answer.
            code, status = "InvalidRequest", 400
            return refusal_response(Refusal(code))
        except web.HTTPRequestEntityTooLarge:
            code, status = "RequestTooLarge", 413
            return refusal_response(Refusal(code))
        except web.HTTPException as error:
            code, status = ("MethodNotAllowed", 405) if error.status == 405 else ("NotFound", 404)
            return refusal_response(Refusal(code))
        except Exception as error:  # noqa: BLE001 - the outermost frame: counted, named, and never shown to the client
            code, status = "Failure", 503
            metrics.errors.inc()
            _LOG.error("unexpected %s while answering %s", type(error).__name__, endpoint)
            return refusal_response(Refusal(code))
        else:
            response.headers.update(_HEADERS)
            return response
        finally:
            seconds = time.perf_counter() - started
            metrics.requests.labels(endpoint, code).inc()
            metrics.request_seconds.labels(endpoint).observe(seconds)
            _LOG.info(
                "%s %s %d %s %.1f ms", request.method, endpoint, status, code, seconds * 1000,
                extra=request.get(LOGGED, {}),
            )  # fmt: skip

    return frame


def refusal_response(refusal: Refusal) -> web.Response:
    """A refusal as JSON."""
    body = msgspec.json.encode(wire.ErrorAnswer(refusal.code, refusal.message))
    return web.Response(status=refusal.status, body=body, content_type="application/json", headers=_HEADERS)


def json_response(body: bytes) -> web.Response:
    """An answer."""
    return web.Response(body=body, content_type="application/json")


def check_client(
    request: web.Request, minimum: Mapping[str, tuple[int, int, int]], metrics: Metrics, *, closed: bool
) -> str:
    """Holds a client to the oldest version of its type that is served; the type.

    Args:
        request: with the headers.
        minimum: oldest versions by type.
        metrics: where types are counted.
        closed: refuse types that are not in `minimum`.

    Raises:
        Refusal: `MissingRequiredHeader`, `InvalidSDKType`, `InvalidSDKVersion`, `DeprecatedSDKVersion`.
    """
    version = request.headers.get(wire.HEADER_SDK_VERSION)
    if version is None:
        raise Refusal("MissingRequiredHeader")
    kind = request.headers.get(wire.HEADER_SDK_TYPE, "typescript")
    metrics.clients.labels(kind if kind in _KNOWN_TYPES else "other").inc()
    if closed and kind not in minimum:
        raise Refusal("InvalidSDKType")
    try:
        parsed = parse_version(version)
    except InvalidInput:
        raise Refusal("InvalidSDKVersion") from None
    if parsed < minimum.get(kind, (0, 0, 0)):
        raise Refusal("DeprecatedSDKVersion")
    return kind


async def read_body(request: web.Request) -> bytes:
    """The body, within the limit that the application was made with.

    Raises:
        Refusal: `RequestTooLarge`, before it is read where the client says its length; `InvalidRequest` where it does
            not come.
    """
    if (request.content_length or 0) > wire.REQUEST_BYTES_MAX:
        raise Refusal("RequestTooLarge")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Refusal("InvalidRequest") from None


def metrics_handler(metrics: Metrics) -> Handler:
    """`GET /metrics` for an application on a port of its own: metrics are not for clients."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return handler


def make_metrics_app(metrics: Metrics) -> web.Application:
    """An application with `/metrics` and nothing else."""
    app = web.Application()
    app.router.add_get("/metrics", metrics_handler(metrics))
    return app
