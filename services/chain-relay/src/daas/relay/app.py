"""Wires the chain-relay together: ledger, outbox, follower, registrar, anchorer, service shell."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from daas.common import logs, subjects
from daas.common.errors import ConfigurationError, Conflict, DaasError, DecodeError, NotFound, Unavailable
from daas.common.messages import ChainBalanceLow, EnclaveAttested, PlacementDecided
from daas.common.service import Event, ServiceApp
from daas.common.subjects import Service
from daas.ledger import Ledger, RpcError, Signer
from daas.ledger.client import CALL_BUDGET_MIST
from daas.relay.anchorer import Anchorer
from daas.relay.chainevents import ChainEvents
from daas.relay.clusterlog import ClusterLog
from daas.relay.facts import Facts
from daas.relay.follower import Follower
from daas.relay.metrics import RelayMetrics
from daas.relay.outbox import Outbox
from daas.relay.registrar import Registrar
from daas.relay.retirement import Retirement
from daas.relay.settings import RelaySettings
from daas.relay.transactions import Transactions

log = logs.get_logger(__name__)

#: One call of the node; at a hundred transactions a second half a SUI is spent meanwhile.
BALANCE_EVERY_S: Final = 5.0
#: Handlers at once: two transactions' worth, so that the next one is full when the last one is final.
IN_FLIGHT: Final = 64
#: A full node that was restarted answers within a minute; after that whoever runs the relay should hear of it.
START_S: Final = 60.0
_START_BACKOFF_S: Final = (0.1, 2.0)

T = TypeVar("T")


class Relay:
    """What the handlers share once the ledger answers."""

    def __init__(self, app: ServiceApp, settings: RelaySettings, metrics: RelayMetrics, ledger: Ledger) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self.ledger = ledger
        self.outbox = Outbox(settings.state_dir / "outbox.sqlite")
        transactions = Transactions(ledger, self.outbox, settings.relay_submit_attempts, metrics)
        facts = Facts(app.bus)
        events = ChainEvents(
            settings.relay_registry, self.outbox, facts, ClusterLog(app.bus), metrics=metrics, rotated=self._rotated
        )
        self.retirement = Retirement(
            ledger, self.outbox, transactions, metrics, grace_ms=settings.relay_retire_replaced_ms
        )
        self.registrar = Registrar(
            app.bus,
            ledger,
            self.outbox,
            transactions,
            settings=settings,
            is_past=events.is_past,
            retirement=self.retirement,
        )
        self.anchorer = Anchorer(app.bus, ledger, self.outbox, transactions, settings=settings, metrics=metrics)
        self.follower = Follower(ledger, self.outbox, events, facts, metrics, first=settings.relay_first_checkpoint)
        self.follower.on_progress(self._progress)
        self._started = False
        self.balance_mist = 0
        self._said_low = False

    async def start(self) -> None:
        """Catches up with the ledger, finishes what an earlier process began, gives out the challenge.

        What fails may be tried again from the start.
        """
        await self.anchorer.refresh()
        await self._check_version()
        await self.follower.start()
        await self.anchorer.recover()
        self._started = True
        registry = await self.registrar.start()
        await self.look_at_balance()
        self._app.status.update(
            registry=registry.address,
            simulated=registry.simulated,
            account=self.ledger.address,
            head=self.anchorer.sequence,
        )

    async def _check_version(self) -> None:
        """An older or newer package would abort every transaction, each of which is paid for.

        Raises:
            ConfigurationError: `package-version`.
        """
        registry = await self.ledger.registry(self._settings.relay_registry)
        version = await self.ledger.package_version()
        if registry.version != version:
            raise ConfigurationError(
                f"package {self._settings.relay_package} is for objects of version {version}, the registry has version "
                f"{registry.version}: name the package's version that the registry was migrated to",
                reason="package-version",
                field="relay_package",
            )

    async def _rotated(self) -> None:
        """A nonce of the past is nobody's challenge: while the relay catches up none is given out."""
        if self._started:
            await self.registrar.challenge()

    def _progress(self) -> None:
        self.anchorer.progress()
        self._app.status.update(head=self.anchorer.sequence, checkpoint=self.follower.next_checkpoint - 1)

    async def look_at_balance(self) -> None:
        """Reads what is left to pay with, and says so when it has become low."""
        self.balance_mist = await self.ledger.gas_balance()
        low = self.balance_mist < self._settings.relay_low_balance_mist
        self._metrics.balance_mist.set(self.balance_mist)
        self._metrics.low_balance.set(low)
        self._app.status.update(balance_mist=self.balance_mist, low_balance=low)
        if low and not self._said_low:
            await self._say_low()
        self._said_low = low

    async def _say_low(self) -> None:
        log.warning("low balance", balance_mist=self.balance_mist, account=self.ledger.address)
        fact = ChainBalanceLow(
            registry=self._settings.relay_registry,
            account=self.ledger.address,
            source=self._settings.relay_gas,
            balance_mist=self.balance_mist,
            threshold_mist=self._settings.relay_low_balance_mist,
            timestamp_ms=time.time_ns() // 1_000_000,
            simulated=self.anchorer.simulated,
        )
        # A relay that is started again while nothing was paid says the same thing again.
        message_id = f"balance-low:{self.ledger.address}:{self.balance_mist}"
        await self._app.bus.publish(subjects.CHAIN_BALANCE_LOW, fact, message_id=message_id)

    async def watch_balance(self) -> None:
        """Looks at the balance for ever."""
        while True:
            try:
                await self.look_at_balance()
            except DaasError as error:
                self._metrics.node_trouble.labels(error.reason).inc()
            await asyncio.sleep(BALANCE_EVERY_S)

    async def close(self) -> None:
        """Closes connections and the outbox."""
        await self.ledger.close()
        self.outbox.close()


async def _connect(settings: RelaySettings) -> Ledger:
    signer = Signer.from_file(settings.relay_keystore)
    url, package = settings.relay_ledger_url, settings.relay_package
    return await Ledger.connect(url, signer, package=package, gas=settings.relay_gas)


async def _patiently(step: Callable[[], Awaitable[T]]) -> T:
    """Repeats a step of the start: a node may be restarting, or may not have caught up yet.

    Raises:
        DaasError: what it failed with last, after `START_S`.
    """
    deadline_s = time.monotonic() + START_S
    delay_s, longest_s = _START_BACKOFF_S
    while True:
        try:
            return await step()
        except (Unavailable, Conflict, NotFound, RpcError, DecodeError) as error:
            if time.monotonic() > deadline_s:
                raise
            log.warning("the start waits for the ledger", error=error)
        await asyncio.sleep(delay_s * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        delay_s = min(2 * delay_s, longest_s)


def build(settings: RelaySettings) -> ServiceApp:
    """The service, ready to run."""
    app = ServiceApp(Service.RELAY, settings)
    metrics = RelayMetrics(app.metrics)
    relays: list[Relay] = []

    def relay() -> Relay:
        if not relays:
            raise Unavailable("the ledger has not answered yet", reason="ledger-not-ready")
        return relays[0]

    @app.on_start
    async def start() -> None:
        started = Relay(app, settings, metrics, await _patiently(lambda: _connect(settings)))
        relays.append(started)
        await _patiently(started.start)

    @app.on(subjects.PLACEMENT_DECIDED, PlacementDecided, in_flight=IN_FLIGHT)
    async def decided(event: Event[PlacementDecided]) -> None:
        await relay().anchorer.decided(event)
        app.status["head"] = relay().anchorer.sequence

    @app.on(subjects.ENCLAVE_ATTESTED, EnclaveAttested, in_flight=1)
    async def attested(event: Event[EnclaveAttested]) -> None:
        await relay().registrar.attested(event)

    @app.task("anchorer")
    async def anchorer() -> None:
        await relay().anchorer.run()

    @app.task("follower")
    async def follower() -> None:
        await relay().follower.run()

    @app.task("retirement")
    async def retirement() -> None:
        await relay().retirement.run()

    @app.task("balance")
    async def balance() -> None:
        await relay().watch_balance()

    @app.check("ledger")
    async def ledger_answers() -> None:
        try:
            await relay().ledger.registry(settings.relay_registry)
        except DaasError as error:
            raise Unavailable(f"the ledger does not answer: {error.message}", reason="ledger-away") from None

    @app.check("gas")
    async def gas_is_there() -> None:
        if relay().balance_mist < CALL_BUDGET_MIST:
            await relay().look_at_balance()
        if relay().balance_mist < CALL_BUDGET_MIST:
            raise Unavailable(
                f"{relay().ledger.address} has {relay().balance_mist} MIST as {settings.relay_gas}, a transaction "
                f"needs {CALL_BUDGET_MIST}",
                reason="no-gas",
            )

    @app.on_stop
    async def close() -> None:
        for started in relays:
            await started.close()

    return app
