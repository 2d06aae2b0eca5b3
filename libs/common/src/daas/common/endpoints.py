"""The HTTP side of a service: /healthz, /readyz with every check and its reason, /metrics, /status."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from daas.common.errors import DaasError, Unavailable

Check = Callable[[], Awaitable[None]]

_CHECK_S: Final = 5.0
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Responses still being written at a stop get this long.
_STOP_S: Final = 2.0


class CheckResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of one readiness check."""

    ok: bool
    reason: str | None = None
    message: str | None = None


async def run_check(check: Check) -> CheckResult:
    """Runs one check, bounded in time."""
    try:
        async with asyncio.timeout(_CHECK_S):
            await check()
    except DaasError as error:
        return CheckResult(ok=False, reason=error.reason, message=error.message)
    except TimeoutError:
        return CheckResult(ok=False, reason="check-timeout", message=f"no answer within {_CHECK_S} s")
    return CheckResult(ok=True)


async def run_checks(checks: Mapping[str, Check]) -> dict[str, CheckResult]:
    """Runs all checks at once; an exception outside the error tree fails its check, not the request."""
    results = await asyncio.gather(*(run_check(check) for check in checks.values()), return_exceptions=True)
    return {
        name: result
        if isinstance(result, CheckResult)
        else CheckResult(ok=False, reason="unexpected-error", message=f"{type(result).__name__}: {result}")
        for name, result in zip(checks, results, strict=True)
    }


class Endpoints:
    """An HTTP server for probes and people.

    Args:
        registry: what /metrics shows.
        checks: what /readyz asks; read at each request, so that checks can come and go.
        alive: whether the service still does its work, for /healthz.
        status: the facts of /status.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        checks: Callable[[], Mapping[str, Check]],
        alive: Callable[[], bool],
        status: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self.url = ""
        self._registry = registry
        self._checks = checks
        self._alive = alive
        self._status = status
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Listens, and returns the base URL with the port that was chosen.

        Raises:
            Unavailable: `http-address` when the address is taken or not ours.
        """
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._show_status)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_STOP_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise Unavailable(f"can't listen on {host}:{port}: {error.strerror}", reason="http-address") from None
        bound = self._runner.addresses[0]
        self.url = f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}"
        return self.url

    async def stop(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _request: web.Request) -> web.Response:
        alive = self._alive()
        return _json({"ok": alive}, 200 if alive else 503)

    async def _readyz(self, _request: web.Request) -> web.Response:
        results = await run_checks(self._checks())
        ready = all(result.ok for result in results.values())
        return _json({"ready": ready, "checks": results}, 200 if ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": _METRICS_TYPE})

    async def _show_status(self, _request: web.Request) -> web.Response:
        return _json(await self._status(), 200)


def _json(value: object, status: int) -> web.Response:
    # Facts are whatever a service puts there; what JSON has no word for is shown as text rather than refused.
    body = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=1)
    return web.Response(body=body + b"\n", status=status, content_type="application/json")
