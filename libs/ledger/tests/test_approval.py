"""What key servers are told about the package: verdicts of a real ledger, and refusals that fail closed."""

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from daas.common import bcs
from daas.common.errors import InvalidInput, NotFound, Unavailable
from daas.ledger import Ledger, Node, NoSuchObject, Signer
from daas.ledger.address import parse_address
from daas.ledger.aliases import aliases_id, derived_object_id, struct_tag
from daas.ledger.approval import MAX_CALLS, MoveApprovals

if TYPE_CHECKING:
    from daas.ledger.connection import Connection
    from libs.ledger.tests.conftest import Server

pytestmark = pytest.mark.connected

PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)


@dataclass(frozen=True)
class Yes:
    checkpoint_ms: int


@dataclass(frozen=True)
class No:
    reason: str
    checkpoint_ms: int


@dataclass(frozen=True)
class Value:
    value: bytes


@dataclass(frozen=True)
class Thing:
    object_id: bytes


@dataclass(frozen=True)
class Call:
    arguments: tuple[object, ...]
    module: str = "nodes"
    function: str = "seal_approve_join"
    type_arguments: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Calls:
    package_id: bytes
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Asked:
    transaction: Calls
    sender: bytes


@dataclass
class Joining:
    """A registered node, and how its key asks for the join token."""

    ledger: Ledger
    node: Node
    inner_id: bytes
    pool: str
    roster: str
    approvals: MoveApprovals[Yes, No] = field(init=False)

    def __post_init__(self) -> None:
        self.approvals = MoveApprovals(self.ledger, Yes, No)

    def arguments(self, node: str | None = None) -> tuple[object, ...]:
        things = (self.roster, self.pool, node or self.node.address)
        return (Value(bcs.bytes_(self.inner_id)), *(Thing(parse_address(each)) for each in things))

    def asked(self, *calls: Call, sender: str | None = None, package: bytes | None = None) -> Asked:
        own = parse_address(self.ledger.required_package())
        transaction = Calls(package or own, calls or (Call(self.arguments()),))
        return Asked(transaction, parse_address(sender or self.node.identity))


@pytest.fixture
async def joining(ledger: Ledger) -> Joining:
    registry = (await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)).address
    node = await ledger.nodes.register(registry, "edge-1")
    pool, roster = await ledger.places(registry)
    return Joining(ledger, node, (await ledger.nodes.roster(registry)).join_token_id, pool, roster)


async def test_the_node_in_service_is_approved_by_a_state_that_has_a_time(joining: Joining) -> None:
    newest = await joining.ledger.checkpoint(await joining.ledger.latest_checkpoint())
    assert newest is not None
    assert await joining.approvals.evaluate(joining.asked()) == Yes(newest.timestamp_ms)


async def test_a_simulated_ledger_says_what_is_so_at_the_moment(joining: Joining) -> None:
    before_ms = time.time_ns() // 1_000_000
    verdict = await MoveApprovals(joining.ledger, Yes, No, single_operator=True).evaluate(joining.asked())
    assert isinstance(verdict, Yes)
    assert verdict.checkpoint_ms >= before_ms


async def test_the_aborts_name_is_the_reason_of_a_denial(joining: Joining) -> None:
    stranger = await joining.approvals.evaluate(joining.asked(sender="0x7"))
    assert isinstance(stranger, No)
    assert stranger.reason == "ENotThisNode"
    await joining.ledger.nodes.drain(joining.node)
    draining = await joining.approvals.evaluate(joining.asked())
    assert isinstance(draining, No)
    assert draining.reason == "EDraining"


async def test_one_call_that_aborts_denies_them_all(joining: Joining) -> None:
    good = Call(joining.arguments())
    wrong = Call((Value(bcs.bytes_(b"another id")), *joining.arguments()[1:]))
    verdict = await joining.approvals.evaluate(joining.asked(good, wrong))
    assert isinstance(verdict, No)
    assert verdict.reason == "EWrongId"


async def test_calls_that_can_not_be_made_are_refused_and_approve_nothing(joining: Joining) -> None:
    arguments = joining.arguments()
    refused = [
        joining.asked(Call(arguments, function="seal_approve_nothing")),
        joining.asked(Call(arguments[:2])),
        joining.asked(Call(arguments, type_arguments=(b"\x01",))),
        joining.asked(Call((*arguments[:3], object()))),
        joining.asked(*[Call(arguments)] * (MAX_CALLS + 1)),
        joining.asked(package=b"\x02" * 32),
    ]
    for question in refused:
        with pytest.raises(InvalidInput):
            await joining.approvals.evaluate(question)


async def test_an_object_that_is_not_there_may_come_later(joining: Joining) -> None:
    with pytest.raises(NoSuchObject):
        await joining.approvals.evaluate(joining.asked(Call(joining.arguments(node="0x" + "77" * 32))))


async def test_one_package_is_served_and_only_names_that_were_given(joining: Joining) -> None:
    own = parse_address(joining.ledger.required_package())
    assert await joining.approvals.first_package_id(own) == own
    with pytest.raises(NotFound):
        await joining.approvals.first_package_id(b"\x02" * 32)
    with pytest.raises(NotFound):
        await joining.approvals.package_of_name("@daas/policy")
    named = MoveApprovals(joining.ledger, Yes, No, names={"@daas/policy": own})
    assert await named.package_of_name("@daas/policy") == own


@pytest.mark.parametrize(
    ("key_type", "key", "derived"),
    [  # the framework's own snapshots (derived_object_tests.move), for parent 0x2
        (b"\x06\x01", b"\x03foo", "0xa2b411aa9588c398d8e3bc97dddbdd430b5ded7f81545d05e33916c3ca0f30c3"),
        (
            struct_tag("0x2", "derived_object_tests", "DemoStruct"),
            (1).to_bytes(8, "little"),
            "0x20c58d8790a5d2214c159c23f18a5fdc347211e511186353e785ad543abcea6b",
        ),
        (
            struct_tag("0x2", "derived_object_tests", "GenericStruct", b"\x02"),
            (1).to_bytes(8, "little"),
            "0xb497b8dcf1e297ae5fa69c040e4a08ef8240d5373bbc9d6b686ffbd7dfe04cbe",
        ),
    ],
    ids=["vector", "struct", "generic"],
)
def test_derived_objects_have_the_ids_that_the_framework_gives_them(key_type: bytes, key: bytes, derived: str) -> None:
    assert derived_object_id("0x2", key_type, key) == derived


async def test_an_account_for_which_other_keys_may_sign_is_known_by_its_object_on_the_ledger(joining: Joining) -> None:
    assert not await joining.approvals.has_aliases(b"\x07" * 32)

    class WithAliases:
        """The ledger, as it would be if one account had aliases: the embedded one has no such system object."""

        async def contents(self, address: str) -> bytes | None:
            found = address == aliases_id(b"\x07" * 32)
            return b"\x00" if found else await joining.ledger.contents(address)

        def __getattr__(self, name: str) -> Any:
            return getattr(joining.ledger, name)

    asking = MoveApprovals(cast("Connection", WithAliases()), Yes, No)
    assert await asking.has_aliases(b"\x07" * 32)
    assert not await asking.has_aliases(b"\x08" * 32)


async def test_a_ledger_that_is_away_decides_nothing(own_server: "Server") -> None:
    own_server.start()
    signer = Signer(os.urandom(32))
    own_server.fund(signer.address)
    async with await Ledger.connect(own_server.url, signer) as ledger:
        await ledger.publish()
        registry = (await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)).address
        node = await ledger.nodes.register(registry, "edge-1")
        pool, roster = await ledger.places(registry)
        asking = Joining(ledger, node, (await ledger.nodes.roster(registry)).join_token_id, pool, roster)
        assert isinstance(await asking.approvals.evaluate(asking.asked()), Yes)
        own_server.kill()
        with pytest.raises(Unavailable):
            await asking.approvals.evaluate(asking.asked())
