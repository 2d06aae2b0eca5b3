"""Wires the scheduler-enclave together: NSM, key, registration, core, service shell."""

import asyncio

from daas.attestation import NsmClient
from daas.common.errors import Unavailable
from daas.common.service import ServiceApp
from daas.common.subjects import Service
from daas.enclave.core import Core
from daas.enclave.identity import Identity
from daas.enclave.registration import Registration, wall_clock
from daas.enclave.settings import EnclaveSettings
from daas.placement import Genesis, Policy

#: How often /status is brought up to date.
STATUS_S = 0.2


def build(settings: EnclaveSettings) -> ServiceApp:
    """The service, ready to run."""
    app = ServiceApp(Service.ENCLAVE, settings)
    nsm = NsmClient.open(settings.enclave_nsm)
    identity = Identity(nsm)
    policy = Policy()
    registrations: list[Registration] = []
    cores: list[Core] = []

    @app.task("enclave")
    async def run() -> None:
        registration = Registration(app.bus, nsm, identity, policy.digest(), wall_clock)
        challenge, challenge_sequence = await registration.first_challenge()
        genesis = Genesis(
            chain=bytes.fromhex(challenge.chain), registry=bytes.fromhex(challenge.registry[2:]), policy=policy
        )
        core = Core(app.bus, identity, registration, genesis, settings)
        registrations.append(registration)
        cores.append(core)
        follow_from = await core.start(challenge)
        app.status.update(public_key=identity.public_key, registry=challenge.registry, simulated=challenge.simulated)
        async with asyncio.TaskGroup() as group:
            group.create_task(registration.follow(challenge_sequence))
            group.create_task(core.fold())
            group.create_task(core.publish())
            group.create_task(core.follow(follow_from))

    @app.check("registration")
    async def registered() -> None:
        if not registrations or registrations[0].current is None:
            raise Unavailable("the registry has not accepted this enclave's key yet", reason="not-registered")

    @app.check("log")
    async def caught_up() -> None:
        if not cores or not cores[0].caught_up:
            raise Unavailable("the log is still being folded", reason="catching-up")

    @app.task("status")
    async def show() -> None:
        while True:
            if cores:
                app.status.update(cores[0].status())
            await asyncio.sleep(STATUS_S)

    @app.on_stop
    async def close() -> None:
        nsm.close()

    return app
