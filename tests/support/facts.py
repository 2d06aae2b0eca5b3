"""What stands on the bus and on the ledger, read from outside, for assertions about a whole run."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from daas.common import messages, subjects
from daas.common.bus import Bus, BusSettings, StoredMessage
from daas.common.errors import InvalidInput, Refused
from daas.common.facts import fact_of
from daas.common.messages import (
    DeadLetter,
    Message,
    PlacementAnchored,
    PlacementBindFailed,
    PlacementBound,
    PlacementDecided,
    PlacementRefused,
)
from daas.common.subjects import Service, Stream, Subject
from daas.devstack.stack import Stack
from daas.kube.client import KubeClient
from daas.ledger import Ledger
from daas.placement import Policy

M = TypeVar("M", bound=Message)
BOUND_TIMEOUT_S = 120.0


@asynccontextmanager
async def running(state: Path, *, enclaves: int = 1, **environment: str) -> AsyncIterator[Stack]:
    """A whole development stack."""
    async with Stack(state, policy=Policy().digest(), enclaves=enclaves, environment=environment) as stack:
        yield stack


@asynccontextmanager
async def bus_of(stack: Stack, service: Service = Service.MONITOR) -> AsyncIterator[Bus]:
    """A connection to the stack's bus."""
    settings = BusSettings(nats_url=stack.nats.url, cluster=stack.cluster)
    async with await Bus.connect(service, settings) as bus:
        yield bus


@asynccontextmanager
async def kube_of(stack: Stack) -> AsyncIterator[KubeClient]:
    """A client of the stack's API server."""
    async with await KubeClient.connect(Path(stack.context()["kubeconfig"])) as client:
        yield client


async def stored(bus: Bus, stream: Stream) -> list[StoredMessage]:
    """Everything that a stream holds now."""
    first, last = await bus.stream_bounds(stream)
    found: list[StoredMessage] = []
    if last < first or last == 0:
        return found
    async for message in bus.read(stream, start=first):
        found.append(message)
        if message.sequence >= last:
            break
    return found


class Facts:
    """The placement facts of a run, decoded."""

    def __init__(self, cluster: str, found: list[StoredMessage]) -> None:
        self._cluster = cluster
        self._found = found
        self.decided = self._of(subjects.PLACEMENT_DECIDED, PlacementDecided)
        self.anchored = self._of(subjects.PLACEMENT_ANCHORED, PlacementAnchored)
        self.refused = self._of(subjects.PLACEMENT_REFUSED, PlacementRefused)
        self.bound = [pod for fact in self._of(subjects.PLACEMENT_BOUND, PlacementBound) for pod in fact.each()]
        self.bind_failed = self._of(subjects.PLACEMENT_BIND_FAILED, PlacementBindFailed)

    def _of(self, subject: Subject, body: type[M]) -> list[M]:
        """The good facts on a subject; bad ones are for the dead letters."""
        facts = []
        for message in self._found:
            if message.subject == subject.full(self._cluster):
                with contextlib.suppress(InvalidInput, Refused):
                    facts.append(fact_of(message, subject, body))
        return facts


async def placement_facts(stack: Stack, *, bound: int = 0) -> Facts:
    """Every fact of the PLACEMENT stream, once so many bindings were told of: that comes after the API server knows."""
    async with bus_of(stack) as bus, asyncio.timeout(BOUND_TIMEOUT_S):
        while True:
            facts = Facts(stack.cluster, await stored(bus, Stream.PLACEMENT))
            if len(facts.bound) >= bound:
                return facts
            await asyncio.sleep(0.1)


async def dead_letters(stack: Stack) -> list[DeadLetter]:
    """Every dead letter."""
    async with bus_of(stack, Service.OPERATOR) as bus:
        return [messages.decode(message.data, DeadLetter) for message in await stored(bus, Stream.DLQ)]


async def assert_chain_is_whole(stack: Stack, facts: Facts) -> None:
    """Anchors are numbered without gap or repetition, each follows its predecessor, and the ledger's head agrees."""
    sequences = [anchor.sequence for anchor in facts.anchored]
    assert sorted(set(sequences)) == list(range(1, max(sequences) + 1)), "a gap in the chain"
    assert not [n for n, count in Counter(sequences).items() if count > 1], "a number was anchored twice"
    headers = {(d.header.sequence, d.payload_digest): d.header for d in facts.decided}
    previous = "0" * 64
    for anchor in sorted(facts.anchored, key=lambda a: a.sequence):
        assert headers[anchor.sequence, anchor.payload_digest].previous == previous
        previous = anchor.payload_digest
    context = stack.context()
    async with await Ledger.connect(context["ledger_url"], package=context["package"]) as ledger:
        registry = await ledger.registry(context["registry"])
    assert (registry.sequence, registry.head.hex()) == (max(sequences), previous)


def assert_every_bind_was_anchored_first(facts: Facts) -> None:
    """Each bound pod was bound once, to the node that an anchored decision names."""
    anchored = {anchor.payload_digest for anchor in facts.anchored}
    decided = {d.payload_digest: d for d in facts.decided}
    for bound in facts.bound:
        assert bound.payload_digest in anchored
        leaf = decided[bound.payload_digest].leaves[bound.index]
        assert (leaf.pod_uid, leaf.node) == (bound.pod_uid, bound.node)
    uids = [bound.pod_uid for bound in facts.bound]
    assert len(uids) == len(set(uids)), "a pod was bound twice"
