"""Wires the chain-relay together: ledger, outbox, registrar, anchorer, service shell."""

import contextlib

from daas.common import subjects
from daas.common.errors import DaasError, InvalidInput, Refused, Unavailable
from daas.common.facts import fact_of
from daas.common.messages import EnclaveAttested, EnclaveRegistered, PlacementDecided
from daas.common.service import Event, ServiceApp
from daas.common.subjects import Service
from daas.ledger import Ledger, Signer
from daas.relay.anchorer import Anchorer
from daas.relay.outbox import Outbox
from daas.relay.registrar import Registrar
from daas.relay.settings import RelaySettings
from daas.relay.transactions import Transactions


class Relay:
    """What the handlers share once the ledger answers."""

    def __init__(self, app: ServiceApp, settings: RelaySettings, ledger: Ledger, outbox: Outbox) -> None:
        self.app = app
        self.ledger = ledger
        self.outbox = outbox
        transactions = Transactions(ledger, outbox, settings.relay_submit_attempts)
        self.registrar = Registrar(app.bus, ledger, outbox, transactions, settings)
        self.anchorer = Anchorer(app.bus, ledger, outbox, transactions, settings)

    async def start(self) -> None:
        """Reads the registry, learns the registered keys, gives out the challenge."""
        registry = await self.registrar.start()
        await self.anchorer.refresh()
        await self._learn_enclaves()
        self.app.status.update(registry=registry.address, simulated=registry.simulated, head=self.anchorer.sequence)

    async def _learn_enclaves(self) -> None:
        """Registrations stand on the bus: a relay that lost its file learns them there."""
        last = await self.app.bus.last(subjects.ENCLAVE_REGISTERED)
        if last is None:
            return
        async for stored in self.app.bus.read(subjects.Stream.ENCLAVE, subjects=[subjects.ENCLAVE_REGISTERED]):
            with contextlib.suppress(InvalidInput, Refused):
                fact = fact_of(stored, subjects.ENCLAVE_REGISTERED, EnclaveRegistered)
                if self.outbox.enclave(fact.public_key) is None:
                    self.outbox.registered("", fact.public_key, fact.enclave, fact.expires_ms)
            if stored.sequence >= last.sequence:
                return


def build(settings: RelaySettings) -> ServiceApp:
    """The service, ready to run."""
    app = ServiceApp(Service.RELAY, settings)
    relays: list[Relay] = []

    def relay() -> Relay:
        if not relays:
            raise Unavailable("the ledger has not answered yet", reason="ledger-not-ready")
        return relays[0]

    @app.on_start
    async def start() -> None:
        signer = Signer.from_file(settings.relay_keystore)
        ledger = await Ledger.connect(settings.relay_ledger_url, signer, package=settings.relay_package)
        started = Relay(app, settings, ledger, Outbox(settings.state_dir / "outbox.sqlite"))
        await started.start()
        relays.append(started)

    @app.on(subjects.PLACEMENT_DECIDED, PlacementDecided, in_flight=1)
    async def decided(event: Event[PlacementDecided]) -> None:
        await relay().anchorer.decided(event)
        app.status["head"] = relay().anchorer.sequence

    @app.on(subjects.ENCLAVE_ATTESTED, EnclaveAttested, in_flight=1)
    async def attested(event: Event[EnclaveAttested]) -> None:
        await relay().registrar.attested(event)

    @app.check("ledger")
    async def ledger_answers() -> None:
        try:
            await relay().ledger.registry(settings.relay_registry)
        except DaasError as error:
            raise Unavailable(f"the ledger does not answer: {error.message}", reason="ledger-away") from None

    @app.on_stop
    async def close() -> None:
        for started in relays:
            await started.ledger.close()
            started.outbox.close()

    return app
