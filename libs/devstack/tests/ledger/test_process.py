"""The ledger's process under unchanged clients: pysui end to end, kill -9, the clock, restarts."""

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pysui.sui.sui_common.sui_commands as sui_commands
import pysui.sui.sui_grpc.pgrpc_requests as requests
import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpclib.client import Channel
from pysui import PysuiConfiguration, client_factory
from pysui.sui.sui_common.config.confgroup import GroupProtocol

from daas.ledger import Ledger, RpcError, Signer, calls

if TYPE_CHECKING:
    from libs.devstack.tests.ledger.conftest import LedgerProcess

pytestmark = pytest.mark.connected

PCRS = (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48)
RESIDENT_KB_MAX = 150 * 1024


def pysui_client(process: "LedgerProcess", folder: Path, seed: bytes) -> tuple[Any, str]:
    folder.mkdir()
    configuration = PysuiConfiguration.initialize_config(
        in_folder=folder, init_groups=[{"name": "simulated", "make_active": True}]
    )
    (address,) = configuration.new_group(
        group_name="ledger",
        profile_block=[{
            "profile_name": "local", "url": process.ready["url"], "network_type": None, "faucet_url": None,
            "faucet_status_url": None, "make_active": True,
        }],
        key_block=[{"key_string": base64.b64encode(b"\0" + seed).decode(), "alias": "relay"}],
        active_address_index=0, group_protocol=GroupProtocol.GRPC, make_group_active=True, persist=False,
    )  # fmt: skip
    client = client_factory(configuration, group_name="ledger", protocol=GroupProtocol.GRPC)
    client._channel.close()  # pysui speaks TLS only: the one thing that is changed is its channel
    host, port = process.ready["url"].removeprefix("http://").split(":")
    client._channel = Channel(host, int(port))
    return client, address


async def test_pysui_splits_sends_reads_and_watches(
    ledger_process: "LedgerProcess", tmp_path: Path, seed: bytes
) -> None:
    client, address = pysui_client(ledger_process, tmp_path / "pysui", seed)
    await asyncio.to_thread(ledger_process.fund, address)
    async with client:
        answer = await client.execute_grpc_request(request=requests.SubscribeCheckpoints(field_mask=["*"]))
        checkpoints = aiter(answer.result_data)
        first = asyncio.create_task(anext(checkpoints))
        async with asyncio.timeout(100):
            while not first.done():  # pysui subscribes when the iteration starts, and does not say when that was
                await asyncio.to_thread(ledger_process.fund, "0x" + "09" * 32)
        transaction = await client.transaction()
        coin = await transaction.split_coin(coin=transaction.gas, amounts=[5_000, 7_000])
        await transaction.transfer_objects(transfers=coin, recipient="0x" + "07" * 32)
        built = await transaction.build_and_sign()
        result = await client.execute(command=sui_commands.ExecuteTransaction(**built))
        assert result.is_ok(), result.result_string
        executed = result.result_data
        assert executed.effects.status.success, executed.effects.status.error
        again = await client.execute(command=sui_commands.ExecuteTransaction(**built))
        assert again.result_data == executed
        async with asyncio.timeout(100):
            seen = first.result()
            while seen.cursor < executed.checkpoint:
                following = await anext(checkpoints)
                assert following.checkpoint.summary.previous_digest == seen.checkpoint.digest
                seen = following
        assert (seen.cursor, seen.checkpoint.transactions[0].digest) == (executed.checkpoint, executed.digest)
        coins = await client.execute(command=sui_commands.GetGas(owner="0x" + "07" * 32))
        assert sorted(c.balance for c in coins.result_data.objects) == [5_000, 7_000]
        chain = await client.execute(command=sui_commands.GetChainIdentifier())
        assert chain.is_ok()


async def test_pysui_pays_from_the_address_balance(
    ledger_process: "LedgerProcess", tmp_path: Path, seed: bytes
) -> None:
    client, address = pysui_client(ledger_process, tmp_path / "pysui", seed)
    await asyncio.to_thread(ledger_process.fund, address)
    async with client:

        async def run(transaction: Any, **options: Any) -> Any:
            built = await transaction.build_and_sign(**options)
            result = await client.execute(command=sui_commands.ExecuteTransaction(**built))
            assert result.is_ok(), result.result_string
            assert result.result_data.effects.status.success, result.result_data.effects.status.error
            return result.result_data

        async def balance() -> Any:
            answer = await client.execute(command=sui_commands.GetAddressCoinBalance(owner=address))
            return answer.result_data.balance

        funding = await client.transaction()
        coin = await funding.split_coin(coin=funding.gas, amounts=[5_000_000_000])
        await funding.move_call(
            target="0x2::coin::send_funds", arguments=[coin, address], type_arguments=["0x2::sui::SUI"]
        )
        # With nothing else in it pysui takes this for a gasless transfer, and fails on the answer about those.
        await funding.move_call(target="0x2::address::length", arguments=[])
        await run(funding)
        before = await balance()
        assert before.address_balance == 5_000_000_000
        plain = await client.transaction()
        await plain.move_call(target="0x2::address::length", arguments=[])
        executed = await run(plain, use_account_for_gas=True)
        assert executed.transaction.gas_payment.objects == []
        after = await balance()
        assert after.address_balance == before.address_balance - executed.effects.gas_used.computation_cost
        assert after.coin_balance == before.coin_balance
        withdrawn = await client.transaction()
        taken = await withdrawn.coin_from_address_accumulator(amount=1_234)
        await withdrawn.transfer_objects(transfers=[taken], recipient="0x" + "07" * 32)
        await run(withdrawn, use_account_for_gas=True)
        hybrid = await client.transaction()
        part = await hybrid.split_coin(coin=hybrid.gas, amounts=[4_321])
        await hybrid.transfer_objects(transfers=[part], recipient="0x" + "07" * 32)
        await run(hybrid, use_account_for_gas=True)
        coins = await client.execute(command=sui_commands.GetGas(owner="0x" + "07" * 32))
        assert sorted(c.balance for c in coins.result_data.objects) == [1_234, 4_321]
        assert (await balance()).coin_balance == before.coin_balance


async def test_pysui_calls_our_package_and_is_told_where_it_aborts(
    ledger_process: "LedgerProcess", tmp_path: Path, seed: bytes
) -> None:
    client, address = pysui_client(ledger_process, tmp_path / "pysui", seed)
    await asyncio.to_thread(ledger_process.fund, address)
    async with await Ledger.connect(ledger_process.ready["url"], Signer(seed)) as ledger:
        publication = await ledger.publish()
        registry = await ledger.create_registry(simulated=True, policy=b"\x0b" * 32, pcrs=PCRS)
    key = Ed25519PrivateKey.generate()
    async with client:

        async def call(path: str, *arguments: Any) -> Any:
            transaction = await client.transaction()
            await transaction.move_call(target=f"{publication.package}::{path}", arguments=list(arguments))
            built = await transaction.build_and_sign()
            result = await client.execute(command=sui_commands.ExecuteTransaction(**built))
            assert result.is_ok(), result.result_string
            return result.result_data

        registered = await call(
            "enclaves::register_simulated", publication.admin_cap, registry.address, registry.pool,
            list(key.public_key().public_bytes_raw()), *(list(pcr) for pcr in PCRS), list(registry.nonce), [5] * 32,
            "0x6",
        )  # fmt: skip
        assert registered.effects.status.success, registered.effects.status.error
        (event,) = [e for e in registered.events.events if e.event_type.endswith("::EnclaveRegistered")]
        assert key.public_key().public_bytes_raw() in event.contents.value
        enclave = next(c.object_id for c in registered.effects.changed_objects if c.object_type.endswith("::Enclave"))
        now_ms = int(registered.timestamp.timestamp() * 1000)
        chain, roots = list(bytes.fromhex(ledger_process.ready["chain"])), [7] * 32
        anchor = (
            registry.address, enclave, chain, registry.address, 1, [0] * 32, 9, roots, [11] * 32, roots, roots, 3,
            now_ms + 10_000, now_ms,
        )  # fmt: skip
        header = b"".join((
            b"\x20", bytes(chain), bytes.fromhex(registry.address[2:]), (1).to_bytes(8, "little"), b"\x20", bytes(32),
            (9).to_bytes(8, "little"), *(b"\x20" + bytes([n]) * 32 for n in (7, 11, 7, 7)),
            (3).to_bytes(4, "little"), (now_ms + 10_000).to_bytes(8, "little"),
        ))  # fmt: skip
        signature = bytearray(key.sign(b"\x01" + now_ms.to_bytes(8, "little") + header))
        anchored = await call("placement::anchor", *anchor, list(signature), "0x6")
        assert anchored.effects.status.success, anchored.effects.status.error
        signature[0] ^= 1
        second = (*anchor[:4], 2, list(hashlib.blake2b(header, digest_size=32).digest()), 10, *anchor[7:])
        refused = await call("placement::anchor", *second, list(signature), "0x6")
        error = refused.effects.status.error
        assert (error.kind.name, error.command, error.abort.abort_code) == ("MOVE_ABORT", 0, 16)
        location = error.abort.location
        assert (location.package, location.module, location.function_name) == (
            publication.package, "enclaves", "assert_signed",
        )  # fmt: skip


async def publish_and_create(ledger: Ledger, policy: bytes = b"\x0b" * 32) -> str:
    await ledger.publish()
    registry = await ledger.create_registry(simulated=True, policy=policy, pcrs=PCRS)
    return registry.address


async def test_the_registry_outlives_a_restart(ledger_process: "LedgerProcess", seed: bytes) -> None:
    signer = Signer(seed)
    await asyncio.to_thread(ledger_process.fund, signer.address)
    async with await Ledger.connect(ledger_process.ready["url"], signer) as ledger:
        address = await publish_and_create(ledger)
        before = await ledger.registry(address)
        chain = await ledger.chain_digest()
    assert await asyncio.to_thread(ledger_process.stop) == 0
    await asyncio.to_thread(ledger_process.start)
    assert ledger_process.ready["chain"] == chain.hex()
    async with await Ledger.connect(ledger_process.ready["url"], signer) as ledger:
        assert await ledger.registry(address) == before
        status = await asyncio.to_thread(Path(f"/proc/{ledger_process.process.pid}/status").read_text)
        resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident < RESIDENT_KB_MAX


async def test_kill_9_in_the_middle_leaves_a_whole_number_of_transactions(
    ledger_process: "LedgerProcess", seed: bytes
) -> None:
    signer = Signer(seed)
    await asyncio.to_thread(ledger_process.fund, signer.address)
    sent: list[Any] = []
    effects: dict[str, Any] = {}

    enough = asyncio.Event()

    async def spend(ledger: Ledger, address: str) -> None:
        for number in range(1, 1_000):
            digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=32).digest()
            command = calls.set_policy(ledger.package or "", await ledger.capability("AdminCap"), address, digest)
            transaction = await ledger.build(command)
            sent.append(transaction)
            effects[transaction.digest] = await ledger.submit(transaction)
            if len(effects) >= 25:
                enough.set()

    async with await Ledger.connect(ledger_process.ready["url"], signer) as ledger:
        address = await publish_and_create(ledger)
        task = asyncio.create_task(spend(ledger, address))
        async with asyncio.timeout(60):
            await enough.wait()
        ledger_process.process.kill()
        with pytest.raises(RpcError):
            await task
        package = ledger.package
    await asyncio.to_thread(ledger_process.kill)
    await asyncio.to_thread(ledger_process.start)
    async with await Ledger.connect(ledger_process.ready["url"], signer, package=package) as ledger:
        for transaction in sent[:-1]:
            assert await ledger.transaction(transaction.digest) == effects[transaction.digest]
            assert await ledger.submit(transaction) == effects[transaction.digest]
        last = await ledger.transaction(sent[-1].digest)
        repeated = await ledger.submit(sent[-1])
        assert last in {None, repeated}
        registry = await ledger.registry(address)
        number = len(sent)
        assert registry.policy == hashlib.blake2b(number.to_bytes(8, "little"), digest_size=32).digest()


async def test_the_clock_is_set_frozen_and_released(ledger_process: "LedgerProcess") -> None:
    url = ledger_process.ready["clock"]
    frozen = await asyncio.to_thread(
        ledger_process.http, "PUT", url, {"timestamp_ms": 1_700_000_000_000, "frozen": True}
    )
    assert frozen == {"timestamp_ms": 1_700_000_000_000}
    assert await asyncio.to_thread(ledger_process.http, "PUT", url, {"timestamp_ms": 5, "frozen": True}) == {
        "timestamp_ms": 5
    }
    released = await asyncio.to_thread(ledger_process.http, "DELETE", url, {})
    assert released["timestamp_ms"] > 1_700_000_000_000


async def test_the_server_says_that_it_is_simulated(ledger_process: "LedgerProcess") -> None:
    host, port = ledger_process.ready["url"].removeprefix("http://").split(":")
    channel = Channel(host, int(port))
    try:
        info = await proto.LedgerServiceStub(channel).get_service_info(proto.GetServiceInfoRequest())
    finally:
        channel.close()
    assert "simulated" in (info.server or "")
    assert "without consensus" in (info.server or "")
    assert info.chain == "simulated"
