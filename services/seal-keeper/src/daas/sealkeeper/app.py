"""The seal-keeper service: what it answers, what it tells, and its tasks."""

import asyncio
from contextlib import AsyncExitStack

import msgspec

from daas.attestation import NsmClient
from daas.common import subjects
from daas.common.bus import Event
from daas.common.errors import ConfigurationError, Refused, Unavailable
from daas.common.logs import get_logger
from daas.common.messages import ChainPolicyChanged
from daas.common.service import ServiceApp
from daas.common.subjects import Service
from daas.kube.client import KubeClient
from daas.ledger import Ledger
from daas.seal import SealClient
from daas.sealkeeper.attestation import attest, make_key
from daas.sealkeeper.desk import Desk
from daas.sealkeeper.policies import PolicyBook
from daas.sealkeeper.settings import SealKeeperSettings
from daas.sealkeeper.survey import Survey
from daas.secrets import KeyServers, SecretReply, SecretRequest

#: Requests in work at once: each holds a Secret of up to 1 MiB in memory.
_IN_FLIGHT = 64

log = get_logger("sealkeeper")


def read_key_servers(settings: SealKeeperSettings) -> KeyServers:
    """The pinned key servers.

    Raises:
        ConfigurationError: `key-servers`.
    """
    path = settings.seal_keeper_key_servers
    if path is None:
        raise ConfigurationError("DAAS_SEAL_KEEPER_KEY_SERVERS is not set", reason="key-servers")
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeyServers)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"key servers {path}: {error}", reason="key-servers") from None


class SealKeeper:
    """The service's handlers and tasks, registered on a ServiceApp.

    Args:
        app: the shell.
        settings: the settings.

    Raises:
        ConfigurationError: `key-servers`. NsmError: the NSM does not answer.
    """

    def __init__(self, app: ServiceApp, settings: SealKeeperSettings) -> None:
        self._app, self._settings = app, settings
        self._key_servers = read_key_servers(settings)
        self._nsm = NsmClient.open(settings.seal_keeper_nsm)
        self._key = make_key(self._nsm)
        self._stack = AsyncExitStack()
        self._ledger: Ledger | None = None
        self._chain = b""
        self._desk: Desk | None = None
        self._survey: Survey | None = None
        app.on_start(self.start)
        app.on_stop(self.stop)
        app.check("ledger")(self.check_ledger)
        app.task("attestation")(self.attest)
        app.task("survey")(self.survey)
        app.on(subjects.CHAIN_POLICY_CHANGED, ChainPolicyChanged)(self.policy_changed)
        app.answer(subjects.SECRET_SEAL, SecretRequest, in_flight=_IN_FLIGHT)(self.seal)
        app.answer(subjects.SECRET_OPEN, SecretRequest, in_flight=_IN_FLIGHT)(self.open)

    async def start(self) -> None:
        """Connects to the ledger, the key servers and the API server.

        Raises:
            Refused: `other-simulation`: a software security module in a cluster that is not a simulated one.
            DaasError: the ledger is away, or has no such package or registry.
        """
        settings, stack = self._settings, self._stack
        ledger = await stack.enter_async_context(
            await Ledger.connect(settings.seal_keeper_ledger_url, package=settings.seal_keeper_package)
        )
        registry = await ledger.registry(settings.seal_keeper_registry)
        if self._nsm.simulated and not registry.simulated:
            raise Refused("a software NSM vouches for nothing in a real cluster", reason="other-simulation")
        client = None
        if settings.seal_keeper_kubeconfig is not None:
            client = await stack.enter_async_context(await KubeClient.connect(settings.seal_keeper_kubeconfig))
        policies = PolicyBook(
            ledger,
            cluster=settings.cluster,
            registry=registry.address,
            pinned=settings.seal_keeper_policies,
            key_servers=self._key_servers,
            client=client,
        )
        self._desk = Desk(
            self._app.bus,
            self._key,
            policies=policies,
            client=await stack.enter_async_context(SealClient(self._key_servers.known())),
            ledger=ledger,
            package=ledger.required_package(),
            simulated=registry.simulated,
            metrics=self._app.metrics,
        )
        if client is not None:
            self._survey = Survey(settings.cluster, client, policies, self._app.metrics)
        self._ledger, self._chain = ledger, registry.chain
        self._app.status.update(
            public_key=self._key.public_key.hex(),
            key_servers=len(self._key_servers.servers),
            simulated=registry.simulated,
        )

    async def stop(self) -> None:
        """Closes the connections."""
        await self._stack.aclose()
        self._nsm.close()

    async def check_ledger(self) -> None:
        """Ready while the ledger answers."""
        if self._ledger is None:
            raise Unavailable("not connected to the ledger yet", reason="starting")
        await self._ledger.latest_checkpoint()
        if self._survey is not None:
            self._app.status["secrets"] = dict(self._survey.totals)

    async def attest(self) -> None:
        """Vouches for the key, again and again."""
        settings = self._settings
        await attest(
            self._app.bus,
            self._nsm,
            self._key,
            chain=self._chain,
            registry=settings.seal_keeper_registry,
            every_s=settings.seal_keeper_attest_s,
        )

    async def survey(self) -> None:
        """Counts what is sealed; without an API server there is nothing to count."""
        if self._survey is None:
            await asyncio.Event().wait()
        else:
            await self._survey.run(self._settings.seal_keeper_survey_s)

    async def policy_changed(self, event: Event[ChainPolicyChanged]) -> None:
        """A policy has other rules or another generation: what is sealed is counted anew."""
        log.info("policy changed", policy=event.body.policy)
        if self._survey is not None:
            self._survey.due.set()

    async def seal(self, event: Event[SecretRequest]) -> SecretReply:
        """Answers `secret.seal`."""
        return await self._required_desk.seal(event)

    async def open(self, event: Event[SecretRequest]) -> SecretReply:
        """Answers `secret.open`."""
        return await self._required_desk.open(event)

    @property
    def _required_desk(self) -> Desk:
        if self._desk is None:
            raise Unavailable("the keeper is starting", reason="starting")
        return self._desk


def build(settings: SealKeeperSettings) -> ServiceApp:
    """The service, ready to run.

    Raises:
        ConfigurationError: `key-servers`. NsmError: the NSM does not answer.
    """
    app = ServiceApp(Service.SEAL_KEEPER, settings)
    SealKeeper(app, settings)
    return app
