"""The past is read and the present followed through `sui.rpc.v2`: filters, cursors, pages, masks, JSON."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from pysui.sui.sui_grpc.pgrpc_filters import Literal, build_event_filter, build_transaction_filter
from pysui.sui.sui_grpc.suimsgs.google.protobuf import FieldMask

from daas.ledger import Ledger, Signer

if TYPE_CHECKING:
    from libs.devstack.tests.ledger.conftest import LedgerProcess

pytestmark = pytest.mark.connected

PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
CHANGES = 6


class World:
    """A ledger with a registry whose policy has been changed a few times."""

    def __init__(self, channel: Channel, ledger: Ledger, registry: str, signer: Signer) -> None:
        self.ledger = ledger
        self.registry = registry
        self.signer = signer
        self.reads = proto.LedgerServiceStub(channel)
        self.state = proto.StateServiceStub(channel)
        self.packages = proto.MovePackageServiceStub(channel)
        self.subscriptions = proto.SubscriptionServiceStub(channel)
        self.signatures = proto.SignatureVerificationServiceStub(channel)

    async def change(self, number: int) -> Any:
        return await self.ledger.set_policy(self.registry, bytes([number]) * 32)

    async def events(self, filter_: Any = None, **options: Any) -> list[Any]:
        options.setdefault("limit", 1_000)
        request = proto.ListEventsRequest(
            read_mask=FieldMask(["*"]), filter=filter_, options=proto.QueryOptions(**options)
        )
        return [frame async for frame in self.reads.list_events(request)]


class Chain(NamedTuple):
    """A running ledger with a registry on it, which the tests of this file share."""

    url: str
    seed: bytes
    package: str
    registry: str


@pytest.fixture(scope="module")
def chain(start_ledger: "Callable[[Path], LedgerProcess]", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    process = start_ledger(tmp_path_factory.mktemp("ledger"))
    seed = os.urandom(32)
    signer = Signer(seed)
    process.fund(signer.address)

    async def prepare() -> tuple[str, str]:
        async with await Ledger.connect(process.ready["url"], signer) as ledger:
            publication = await ledger.publish()
            registry = await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)
            for number in range(CHANGES):
                await ledger.set_policy(registry.address, bytes([number]) * 32)
            return publication.package, registry.address

    yield Chain(process.ready["url"], seed, *asyncio.run(prepare()))
    process.stop()


@pytest.fixture
async def world(chain: Chain) -> AsyncIterator[World]:
    signer = Signer(chain.seed)
    host, port = chain.url.removeprefix("http://").split(":")
    channel = Channel(host, int(port))
    async with await Ledger.connect(chain.url, signer, package=chain.package) as ledger:
        yield World(channel, ledger, chain.registry, signer)
    channel.close()


def policy_changes(world: World) -> Any:
    return build_event_filter(terms=[[Literal("event_type", f"{world.ledger.package}::registry::PolicyChanged")]])


async def test_events_are_found_by_type_in_order_and_resumed_from_any_cursor(world: World) -> None:
    frames = await world.events(policy_changes(world))
    found = [frame for frame in frames if frame.event is not None]
    assert len(found) >= CHANGES
    assert frames[-1].end.reason == proto.QueryEndReason.LEDGER_TIP
    assert [frame.event.checkpoint for frame in found] == sorted({frame.event.checkpoint for frame in found})
    for place, frame in enumerate(found):
        rest = await world.events(policy_changes(world), after=frame.watermark.cursor)
        assert [f.event for f in rest if f.event is not None] == [f.event for f in found[place + 1 :]]
    backwards = await world.events(policy_changes(world), ordering=proto.Ordering.DESCENDING)
    assert [f.event for f in backwards if f.event is not None] == [f.event for f in reversed(found)]
    assert backwards[-1].end.reason == proto.QueryEndReason.CHECKPOINT_BOUND


async def test_pages_of_events_neither_lose_nor_double_one(world: World) -> None:
    whole = [frame.event for frame in await world.events() if frame.event is not None]
    paged: list[Any] = []
    cursor = None
    for _ in range(len(whole) + 1):
        page = await world.events(limit=2, after=cursor)
        paged += [frame.event for frame in page if frame.event is not None]
        cursor = page[-1].watermark.cursor
        if page[-1].end.reason != proto.QueryEndReason.ITEM_LIMIT:
            break
    assert paged == whole
    assert len(whole) > CHANGES


async def test_an_event_is_shown_as_json(world: World) -> None:
    frame = (await world.events(policy_changes(world)))[0]
    shown = frame.event.json.to_dict()
    assert shown["registry"] == world.registry
    assert base64.b64decode(shown["policy"]) == bytes(32)
    stored = await world.reads.get_object(
        proto.GetObjectRequest(object_id=world.registry, read_mask=FieldMask(["json", "version"]))
    )
    assert stored.object.json.to_dict()["simulated"] is True
    assert stored.object.contents is None


async def test_transactions_are_found_by_sender_call_object_and_what_is_excluded(world: World) -> None:
    async def count(*literals: Literal) -> int:
        everything = proto.QueryOptions(limit=1_000)
        wanted = build_transaction_filter(terms=[list(literals)])
        request = proto.ListTransactionsRequest(filter=wanted, options=everything)
        frames = [frame async for frame in world.reads.list_transactions(request)]
        return sum(frame.transaction is not None for frame in frames)

    package = world.ledger.package
    call = Literal("move_call", f"{package}::registry::set_policy")
    changes = await count(call)
    assert changes >= CHANGES
    assert await count(Literal("move_call", f"{package}::registry")) == changes
    assert await count(Literal("sender", world.signer.address)) == changes + 2
    assert await count(Literal("sender", world.signer.address), call._replace(negated=True)) == 2
    assert await count(Literal("affected_object", world.registry)) == changes + 1
    assert await count(Literal("affected_address", world.signer.address)) == changes + 3
    assert await count(Literal("emit_module", f"{package}::registry"), call) == changes
    assert await count(Literal("package_write")) == 1
    assert await count(Literal("event_stream_head", "0x1")) == 0


async def test_checkpoints_are_listed_within_bounds(world: World) -> None:
    request = proto.ListCheckpointsRequest(
        start_checkpoint=1, end_checkpoint=4, read_mask=FieldMask(["sequence_number", "summary.timestamp"])
    )
    frames = [frame async for frame in world.reads.list_checkpoints(request)]
    assert [frame.checkpoint.sequence_number for frame in frames if frame.checkpoint] == [1, 2, 3]
    assert frames[-1].end.reason == proto.QueryEndReason.CHECKPOINT_BOUND
    assert frames[-1].watermark.checkpoint == 3


async def test_subscriptions_deliver_what_matches_and_their_cursors_resume_by_query(world: World) -> None:
    request = proto.SubscribeEventsRequest(read_mask=FieldMask(["*"]), filter=policy_changes(world))
    stream = world.subscriptions.subscribe_events(request)
    first = asyncio.ensure_future(anext(aiter(stream)))
    async with asyncio.timeout(60):
        number = 100
        while not first.done():  # the subscription begins at some point while transactions go on
            number += 1
            await world.change(number % 256)
    frame = first.result()
    assert frame.event is not None
    later = await world.change(200)
    rest = [f.event for f in await world.events(policy_changes(world), after=frame.watermark.cursor) if f.event]
    assert rest[-1].checkpoint == later.checkpoint
    before = [f.event for f in await world.events(policy_changes(world), before=frame.watermark.cursor) if f.event]
    whole = [f.event for f in await world.events(policy_changes(world)) if f.event]
    assert [*before, frame.event, *rest] == whole


async def test_a_transaction_subscription_says_how_far_it_has_come_when_nothing_matches(world: World) -> None:
    nothing = build_transaction_filter(terms=[[Literal("sender", "0x7")]])
    stream = world.subscriptions.subscribe_transactions(proto.SubscribeTransactionsRequest(filter=nothing))
    first = asyncio.ensure_future(anext(aiter(stream)))
    async with asyncio.timeout(60):
        number = 0
        while not first.done():
            number += 1
            await world.change(number % 256)
    assert first.result().transaction is None
    assert first.result().watermark.checkpoint is not None


@pytest.mark.parametrize(
    "filter_",
    [
        proto.EventFilter(terms=[]),
        proto.EventFilter(terms=[proto.EventTerm(literals=[])]),
        proto.EventFilter(terms=[proto.EventTerm(literals=[proto.EventLiteral()])]),
        build_event_filter(terms=[[Literal("sender", "nobody")]]),
        build_event_filter(terms=[[Literal("event_type", "0x1::a::b::c")]]),
    ],
)
async def test_filters_without_sense_are_refused(world: World, filter_: Any) -> None:
    with pytest.raises(GRPCError) as refused:
        await world.events(filter_)
    assert refused.value.status is Status.INVALID_ARGUMENT


async def test_a_cursor_or_mask_that_nobody_gave_out_is_refused(world: World) -> None:
    with pytest.raises(GRPCError, match="cursor"):
        await world.events(after=b"\x01")
    with pytest.raises(GRPCError, match="no field nonsense"):
        await world.reads.get_object(
            proto.GetObjectRequest(object_id=world.registry, read_mask=FieldMask(["owner.nonsense"]))
        )


async def test_past_versions_of_an_object_can_be_read(world: World) -> None:
    async def at(version: int | None) -> Any:
        mask = FieldMask(["version", "contents"])
        request = proto.GetObjectRequest(object_id=world.registry, version=version, read_mask=mask)
        return (await world.reads.get_object(request)).object

    now = await at(None)
    await world.change(77)
    assert (await at(now.version)).contents == now.contents
    assert (await at(None)).contents != now.contents
    with pytest.raises(GRPCError) as missing:
        await at(now.version + 1_000)
    assert missing.value.status is Status.NOT_FOUND


async def test_packages_show_their_structs_functions_and_versions(world: World) -> None:
    package = (await world.packages.get_package(proto.GetPackageRequest(package_id=world.ledger.package))).package
    modules = {module.name: module for module in package.modules}
    assert "anchor" in {function.name for function in modules["placement"].functions}
    assert all(module.contents for module in package.modules)
    registry = next(d for d in modules["registry"].datatypes if d.name == "Registry")
    assert {ability.name for ability in registry.abilities} == {"KEY"}
    assert registry.fields[0].name == "id"
    one = await world.packages.get_datatype(
        proto.GetDatatypeRequest(package_id=world.ledger.package, module_name="registry", name="Registry")
    )
    assert one.datatype == registry
    coin = await world.packages.get_datatype(
        proto.GetDatatypeRequest(package_id="0x2", module_name="coin", name="Coin")
    )
    assert coin.datatype.type_parameters[0].is_phantom
    versions = await world.packages.list_package_versions(
        proto.ListPackageVersionsRequest(package_id=world.ledger.package)
    )
    assert [(v.package_id, v.version) for v in versions.versions] == [(world.ledger.package, 1)]


async def test_balances_and_the_coin_are_shown(world: World) -> None:
    listed = await world.state.list_balances(proto.ListBalancesRequest(owner=world.signer.address))
    (balance,) = listed.balances
    one = await world.state.get_balance(proto.GetBalanceRequest(owner=world.signer.address))
    assert one.balance == balance
    assert balance.balance == balance.coin_balance > 0
    info = await world.state.get_coin_info(proto.GetCoinInfoRequest(coin_type="0x2::sui::SUI"))
    assert (info.metadata.symbol, info.metadata.decimals) == ("SUI", 9)
    with pytest.raises(GRPCError) as missing:
        await world.state.get_coin_info(proto.GetCoinInfoRequest(coin_type="0x2::coin::NONE"))
    assert missing.value.status is Status.NOT_FOUND


async def test_a_signature_is_verified_on_request(world: World) -> None:
    built = await world.ledger.build_register_simulated(
        world.registry, public_key=bytes(32), pcrs=PCRS, nonce=bytes(32), document_digest=bytes(32)
    )

    async def verify(data: bytes, address: str) -> Any:
        return await world.signatures.verify_signature(
            proto.VerifySignatureRequest(
                message=proto.Bcs(name="TransactionData", value=data),
                signature=proto.UserSignature(bcs=proto.Bcs(value=built.signatures[0])),
                address=address,
            )
        )

    assert (await verify(built.data, world.signer.address)).is_valid
    wrong = await verify(built.data, "0x1")
    assert not wrong.is_valid
    assert "not by 0x1" in wrong.reason
    assert not (await verify(built.data + b"\x00", world.signer.address)).is_valid


async def test_a_transaction_shows_what_it_asked_for(world: World) -> None:
    effects = await world.change(9)
    got = await world.reads.get_transaction(
        proto.GetTransactionRequest(digest=effects.digest, read_mask=FieldMask(["transaction", "transaction_index"]))
    )
    kind = got.transaction.transaction.kind.programmable_transaction
    assert [command.move_call.function for command in kind.commands] == ["set_policy"]
    assert got.transaction.effects is None
