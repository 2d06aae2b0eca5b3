"""Wires the scheduler-enclave together: NSM, policy register, keys, registration, core, service shell."""

import asyncio

from daas.attestation import NsmClient, commit_policy
from daas.common.access import Question, Verdict
from daas.common.bus import Event
from daas.common.errors import Unavailable
from daas.common.plans import AllocationPlan, Planned, RebalancePlan
from daas.common.service import ServiceApp
from daas.common.subjects import ALLOCATION_PLAN, POLICY_EVALUATE, REBALANCE_PLAN, Service
from daas.enclave.access import AccessDesk, load_policies
from daas.enclave.clock import HypervisorClock
from daas.enclave.core import Core
from daas.enclave.keys import Keys
from daas.enclave.planning import PlanDesk, State
from daas.enclave.registration import Registration
from daas.enclave.settings import EnclaveSettings
from daas.enclave.signing import Signing
from daas.placement import Genesis, Policy

#: How often /status is brought up to date.
STATUS_S = 0.2


def build(settings: EnclaveSettings) -> ServiceApp:
    """The service, ready to run.

    Raises:
        ConfigurationError: `policy-register`, or an access policy that is not sound.
        NsmError: the NSM does not answer.
    """
    app = ServiceApp(Service.ENCLAVE, settings)
    evaluator = load_policies(settings.enclave_policies)
    nsm = NsmClient.open(settings.enclave_nsm)
    policy = Policy() if evaluator is None else Policy(access=evaluator.policies.digest.hex())
    app.status["policy_register"] = commit_policy(nsm, policy.digest()).hex()
    keys = Keys(nsm)
    clock = HypervisorClock(nsm, settings.enclave_clock_bound_ms)
    registration = Registration(app.bus, nsm, keys, policy.digest(), clock)
    signing = Signing(keys, registration, clock, app.metrics, clock_every_ms=settings.enclave_clock_every_ms)
    desk = AccessDesk(evaluator, signing.require)
    cores: list[Core] = []

    def core_now() -> Core:
        if not cores or not cores[0].caught_up:
            raise Unavailable("the log is still being folded", reason="catching-up")
        return cores[0]

    def state() -> State:
        return core_now().state()

    plans = PlanDesk(app.bus, signing.require, state, budget_s=settings.enclave_plan_ms / 1000)

    @app.task("enclave")
    async def run() -> None:
        challenge, challenge_sequence = await registration.first_challenge()
        genesis = Genesis(
            chain=bytes.fromhex(challenge.chain), registry=bytes.fromhex(challenge.registry[2:]), policy=policy
        )
        core = Core(app.bus, keys, signing, genesis, settings)
        cores.append(core)
        follow_from = await core.start(challenge)
        app.status.update(registry=challenge.registry, simulated=challenge.simulated)
        async with asyncio.TaskGroup() as group:
            group.create_task(registration.follow(challenge_sequence))
            group.create_task(core.fold())
            group.create_task(core.publish())
            group.create_task(core.acknowledge())
            group.create_task(core.follow(follow_from))

    @app.task("clock")
    async def watch_clock() -> None:
        await signing.watch_clock()

    @app.answer(POLICY_EVALUATE, Question, in_flight=256)
    async def evaluate(event: Event[Question]) -> Verdict:
        return desk.answer(event.body, core_now().standing)

    @app.answer(ALLOCATION_PLAN, AllocationPlan, in_flight=4)
    async def plan_allocation(event: Event[AllocationPlan]) -> Planned:
        return await plans.allocation(event.body)

    @app.answer(REBALANCE_PLAN, RebalancePlan, in_flight=4)
    async def plan_rebalance(event: Event[RebalancePlan]) -> Planned:
        return await plans.rebalance(event.body)

    @app.task("access")
    async def record() -> None:
        await desk.publish(app.bus)

    @app.check("signing")
    async def may_sign() -> None:
        signing.require()

    @app.check("log")
    async def caught_up() -> None:
        core_now()

    @app.task("status")
    async def show() -> None:
        while True:
            app.status.update(signing.status())
            if cores:
                app.status.update(cores[0].status(), access=desk.status())
            await asyncio.sleep(STATUS_S)

    @app.on_stop
    async def close() -> None:
        await desk.drain(app.bus)
        nsm.close()

    return app
