"""The shell around every service: it connects, subscribes, runs, says how it is, and stops without losing anything.

    app = ServiceApp(Service.RELAY, settings)

    @app.on(PLACEMENT_DECIDED, PlacementDecided)
    async def anchor(event: Event[PlacementDecided]) -> None: ...

    raise SystemExit(app.run())

Order at start: HTTP (so that probes see a reason), the bus with patience, `on_start` hooks, subscriptions, tasks; then
the ready line on stdout once every check passes. Order at a stop: nothing more is pulled, running handlers finish,
tasks are cancelled and awaited, `on_stop` hooks in reverse, the bus is flushed and closed. Every wait is bounded.
"""

import asyncio
import gc
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry

from daas.common import logs, tracing
from daas.common.bus import Bus, Event
from daas.common.bus.advisories import watch_advisories
from daas.common.bus.declarations import DurableOptions, durable_options
from daas.common.bus.delivery import subscribe
from daas.common.bus.requests import Answering
from daas.common.bus.subscriber import DurableSubscriber
from daas.common.endpoints import Check, Endpoints, run_checks
from daas.common.errors import ConfigurationError, DaasError, Unavailable
from daas.common.messages import Message
from daas.common.metrics import BusMetrics
from daas.common.settings import ServiceSettings, main
from daas.common.subjects import CATALOGUE, Kind, Service, Stream, Subject, durable_name

__all__ = ["Event", "ServiceApp", "ServiceSettings", "main"]

M = TypeVar("M", bound=Message)
Handler = Callable[[Event[M]], Awaitable[None]]
Coroutine = Callable[[], Awaitable[None]]
H = TypeVar("H", bound=Callable[..., Awaitable[None]])

_READY_POLL_S: Final = (0.05, 1.0)
_HOOK_S: Final = 10.0
_START_BACKOFF_S: Final = (0.1, 2.0)
#: Objects made before the collector looks for cycles, and how often it then looks at older ones. A batch of 512 pods
#: makes some ten thousand that live on; with Python's 700 it walked them again and again, 5 % of the enclave's time.
_COLLECTOR: Final = (20_000, 20, 20)

log = logs.get_logger("service")


class ServiceApp:
    """One service.

    Args:
        service: who it is on the bus.
        settings: its settings.

    Attributes:
        bus: usable from `on_start` on.
        metrics: registry for the service's own metrics.
        status: facts shown on /status, by any name; values that JSON can show.
        ready: set once, when all checks passed for the first time.
        http_url: base URL of the endpoints, once started.
    """

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        self.metrics = CollectorRegistry()
        publishes = [row.name for row in CATALOGUE if service in row.publishers and row.stream is not None]
        self.bus = Bus(service, settings, BusMetrics(self.metrics, publishes=publishes))
        self.status: dict[str, Any] = {}
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._stopping = False
        self._started = time.monotonic()
        self._handlers: dict[Subject, tuple[type[Any], Handler[Any], DurableOptions]] = {}
        self._subscribers: list[DurableSubscriber] = []
        self._answerers: dict[Subject, Answering] = {}
        self._tasks: dict[str, Coroutine] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._checks: dict[str, Check] = {}
        self._start_hooks: list[Coroutine] = []
        self._stop_hooks: list[Coroutine] = []
        self._endpoints = Endpoints(self.metrics, self._all_checks, self._alive, self._all_status)

    @property
    def http_url(self) -> str:
        """Base URL of the endpoints; empty before the start."""
        return self._endpoints.url

    def on(
        self,
        subject: Subject,
        body: type[M],
        *,
        in_flight: int = 64,
        ack_wait_s: float | None = None,
        max_deliver: int | None = None,
    ) -> Callable[[Handler[M]], Handler[M]]:
        """Handles a subject with a durable of this service.

        Handlers are idempotent: a message comes again when its acknowledgement is lost. What a handler raises decides:
        InvalidInput and Refused bury the message at once; everything else delivers it again, after 0.5 s doubling to
        10 s, and buries it after `max_deliver`. While a handler runs the server is told so: there is no time limit.

        Args:
            subject: what to handle; the service must be among its consumers, and only one handler per subject.
            body: what to decode it to.
            in_flight: handlers at once.
            ack_wait_s: after how many seconds a process that died over a message is considered dead; by default as
                the catalogue has it for the service.
            max_deliver: failed deliveries before the message goes to the dead-letter stream; by default likewise.

        Raises:
            InvalidInput: `not-a-consumer`.
            ConfigurationError: `second-handler`, `no-stream`.
        """
        durable_name(self.service, subject)
        if subject in self._handlers:
            raise ConfigurationError(f"{subject.name} has a handler already", reason="second-handler")
        if subject.stream is None:
            raise ConfigurationError(f"{subject.name} is a request: no stream keeps it", reason="no-stream")
        usual = durable_options(self.service)
        options = DurableOptions(
            in_flight=in_flight,
            ack_wait_s=usual.ack_wait_s if ack_wait_s is None else ack_wait_s,
            max_deliver=usual.max_deliver if max_deliver is None else max_deliver,
        )

        def register(handler: Handler[M]) -> Handler[M]:
            self._handlers[subject] = (body, handler, options)
            return handler

        return register

    def answer(
        self, subject: Subject, body: type[M], *, in_flight: int = 64
    ) -> Callable[[Callable[[Event[M]], Awaitable[Message]]], Callable[[Event[M]], Awaitable[Message]]]:
        """Answers the questions on a subject; instances of the service share them.

        What a handler returns is the answer; a DaasError that it raises becomes a refusal of the same kind, reason and
        field at whoever asked. A handler is cancelled when the asker's patience ends. Nothing is repeated.

        Args:
            subject: what to answer; the service must be among its consumers, and only one handler per subject.
            body: what to decode a question to.
            in_flight: questions in work at once; more are refused (`busy`).

        Raises:
            InvalidInput: `not-a-consumer`.
            ConfigurationError: `second-handler`, `not-a-request`.
        """
        durable_name(self.service, subject)
        if subject in self._answerers:
            raise ConfigurationError(f"{subject.name} has a handler already", reason="second-handler")
        if subject.kind is not Kind.REQUEST:
            raise ConfigurationError(f"{subject.name} is no request", reason="not-a-request")

        def register(handler: Callable[[Event[M]], Awaitable[Message]]) -> Callable[[Event[M]], Awaitable[Message]]:
            self._answerers[subject] = Answering(self.bus, subject, body, handler, in_flight)
            return handler

        return register

    def task(self, name: str) -> Callable[[H], H]:
        """Runs for the life of the service; if it ends or raises, the service stops with exit code 1.

        At a stop it is cancelled after all handlers have finished, and may finish what it holds.
        """

        def register(run: H) -> H:
            self._tasks[name] = run
            return run

        return register

    def check(self, name: str) -> Callable[[H], H]:
        """A readiness check: raises a DaasError with the reason, within 5 seconds."""

        def register(check: H) -> H:
            self._checks[name] = check
            return check

        return register

    def on_start(self, hook: H) -> H:
        """Runs after the bus is connected, before any message comes; an error stops the service with exit code 1."""
        self._start_hooks.append(hook)
        return hook

    def on_stop(self, hook: H) -> H:
        """Runs after all handlers and tasks have ended, the bus still open; the last registered first."""
        self._stop_hooks.append(hook)
        return hook

    def stop(self) -> None:
        """Asks the service to stop, as SIGTERM does."""
        self._stop.set()

    def run(self) -> int:
        """Runs until SIGTERM or SIGINT. Returns the exit code: 0, 1 for a failure, 2 for settings that can't work."""
        logs.configure(self.service.value, self.settings.log_level)
        if self.settings.trace_otlp_url is not None:
            try:
                tracing.configure(
                    self.service, self.settings.cluster, self.settings.trace_otlp_url, self.settings.trace_ratio
                )
            except ConfigurationError as error:
                log.error("refuses to start", error=error)  # noqa: TRY400 - the sentence says it all
                return 2
        return asyncio.run(self._run_with_signals())

    async def _run_with_signals(self) -> int:
        gc.freeze()  # what is loaded by now stays
        gc.set_threshold(*_COLLECTOR)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        return await self.serve()

    async def serve(self) -> int:
        """`run` without logs and signals, inside a loop that runs already; `stop` ends it."""
        code = 0
        living = asyncio.create_task(self._live())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({living, stop}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()
        except ConfigurationError as error:
            log.error("refuses to start", error=error)  # noqa: TRY400 - the sentence says it all
            code = 2
        except DaasError as error:
            log.error("stops", error=error)  # noqa: TRY400 - the sentence says it all
            code = 1
        except Exception:
            self.bus.metrics.unexpected.labels("service").inc()
            log.exception("stops")
            code = 1
        finally:
            await _end(living, stop)
            await self._shut_down()
        return code

    async def _live(self) -> None:
        """Starts everything, and ends only by an error."""
        await self._endpoints.start(self.settings.http_host, self.settings.http_port)
        await self._start()
        announcing = asyncio.create_task(self._announce())
        closed = asyncio.create_task(self.bus.closed_for_good.wait())
        watched: set[asyncio.Task[Any]] = {announcing, closed, *self._running.values()}
        try:
            while True:
                done, watched = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                    if task is not announcing:
                        name = "connection to NATS" if task is closed else f"task {task.get_name()}"
                        raise Unavailable(f"the {name} has ended", reason="task-ended")
        finally:
            await _end(announcing, closed)

    async def _start(self) -> None:
        await self.bus.open()
        await self._patiently(self._declare)
        for hook in self._start_hooks:
            await hook()
        await self._patiently(self._subscribe)
        for name, run in self._tasks.items():
            self._running[name] = asyncio.create_task(_as_coroutine(run), name=name)

    async def _patiently(self, step: Coroutine) -> None:
        """Tries a step that needs JetStream for `nats_start_timeout_s`: a server just started may not be up to it yet.

        What is not declared here is waited for without end: `daas bus apply` may come later.
        """
        deadline = time.monotonic() + self.settings.nats_start_timeout_s
        delay, longest = _START_BACKOFF_S
        while True:
            try:
                await step()
            except DaasError as error:
                missing = error.reason in {"stream-missing", "consumer-missing"}
                if not missing and (not isinstance(error, Unavailable) or time.monotonic() > deadline):
                    raise
                log.info("waits for the bus", error=error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, longest)
            else:
                return

    async def _declare(self) -> None:
        for stream in self._streams():
            await self.bus.ensure_stream(stream)

    def _streams(self) -> list[Stream]:
        used = {s.stream for s in self.bus.catalogue if self.service in s.publishers | s.consumers}
        kept = {stream for stream in used if stream is not None}
        return sorted(kept | {Stream.DLQ, Stream.ADVISORY})

    async def _subscribe(self) -> None:
        for answering in self._answerers.values():
            if not answering.running:
                await answering.start()
        if not self._handlers:
            return
        if not self._subscribers:
            self._subscribers = [
                subscribe(self.bus, subject, body, handler, options)
                for subject, (body, handler, options) in self._handlers.items()
            ]
            self._subscribers.append(watch_advisories(self.bus, list(self._handlers)))
        for subscriber in self._subscribers:
            if not subscriber.running:
                await subscriber.start()

    async def _announce(self) -> None:
        delay, longest = _READY_POLL_S
        while True:
            results = await run_checks(self._all_checks())
            if all(result.ok for result in results.values()):
                break
            await asyncio.sleep(delay)
            delay = min(2 * delay, longest)
        line = json.dumps({"ready": True, "service": self.service.value, "http": self.http_url})
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if self.settings.ready_file is not None:
            self.settings.ready_file.write_text(f"{line}\n", encoding="utf-8")
        self.ready.set()
        log.info("ready", http=self.http_url)

    def _all_checks(self) -> dict[str, Check]:
        checks: dict[str, Check] = {"service": self._check_service, "nats": self.bus.check}
        for subscriber in self._subscribers:
            checks[f"consumer:{subscriber.label}"] = subscriber.check
        return checks | self._checks

    async def _check_service(self) -> None:
        if self._stopping:
            raise Unavailable("the service is stopping", reason="stopping")
        if len(self._running) < len(self._tasks) or len(self._subscribers) < len(self._handlers):
            raise Unavailable("the service is starting", reason="starting")

    def _alive(self) -> bool:
        return not self.bus.closed_for_good.is_set() and not any(task.done() for task in self._running.values())

    async def _all_status(self) -> dict[str, Any]:
        consumers = await asyncio.gather(*(subscriber.facts() for subscriber in self._subscribers))
        return {
            "service": self.service.value,
            "cluster": self.settings.cluster,
            "uptime_s": round(time.monotonic() - self._started, 1),
            "ready": self.ready.is_set() and not self._stopping,
            "consumers": {s.label: facts for s, facts in zip(self._subscribers, consumers, strict=True)},
            **self.status,
        }

    async def _shut_down(self) -> None:
        self._stopping = True
        log.info("stopping")
        subscribers: list[DurableSubscriber | Answering] = [*self._subscribers, *self._answerers.values()]
        results = await asyncio.gather(*(s.stop() for s in subscribers), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                log.warning("a subscriber did not stop in order", error=result)
        for task in self._running.values():
            task.cancel()
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=self.settings.stop_timeout_s)
            for task in late:
                log.error("a task does not end", task=task.get_name())
        for hook in reversed(self._stop_hooks):
            try:
                async with asyncio.timeout(_HOOK_S):
                    await hook()
            except Exception as error:  # noqa: BLE001 - the other hooks and the bus still have to be closed
                log.warning("a stop hook failed", error=error)
        await self.bus.close()
        await asyncio.to_thread(tracing.shut_down)
        await self._endpoints.stop()
        if self.settings.ready_file is not None:
            self.settings.ready_file.unlink(missing_ok=True)
        log.info("stopped")


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _as_coroutine(run: Coroutine) -> None:
    await run()
