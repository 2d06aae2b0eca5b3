"""Authentication against a real etcd: tokens are got, forgotten by the server, and got again; others are refused."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from daas.common.errors import DaasError, Refused
from daas.devstack.etcd import EtcdServer, etcd_binary
from daas.etcd import Compare, Credentials, EtcdClient, Put

pytestmark = pytest.mark.connected
WORD = "root-word"
ROOT, WRITER = Credentials("root", WORD), Credentials("writer", "writer-word")


async def etcdctl(server: EtcdServer, *arguments: str, user: str | None = None) -> None:
    argv = [str(etcd_binary().with_name("etcdctl")), "--endpoints", server.endpoint]
    argv += ["--user", user] if user else []
    process = await asyncio.create_subprocess_exec(*argv, *arguments, stdout=asyncio.subprocess.DEVNULL)
    assert await process.wait() == 0, arguments


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    """An etcd with two users: one that may do everything, and one that may only touch `a/`."""
    async with EtcdServer(tmp_path / "etcd") as server:
        await etcdctl(server, "user", "add", f"root:{WORD}")
        await etcdctl(server, "user", "grant-role", "root", "root")
        await etcdctl(server, "user", "add", "writer:writer-word")
        await etcdctl(server, "role", "add", "writing")
        await etcdctl(server, "role", "grant-permission", "writing", "--prefix=true", "readwrite", "a/")
        await etcdctl(server, "user", "grant-role", "writer", "writing")
        await etcdctl(server, "auth", "enable")
        yield server


async def test_a_user_may_do_what_its_role_says_and_strangers_nothing(guarded: EtcdServer) -> None:
    async with EtcdClient([guarded.endpoint], user=WRITER, timeout_ms=10_000) as writer:
        await writer.put("a/1", b"v")
        assert (await writer.txn([Compare.absent("a/2")], [Put("a/2", b"")])).succeeded
        with pytest.raises(Refused, match="etcd-not-allowed"):
            await writer.put("b/1", b"v")
    strangers = (None, Credentials("writer", "other-word"), Credentials("nobody", "x"))
    for user in strangers:
        async with EtcdClient([guarded.endpoint], user=user, timeout_ms=10_000) as stranger:
            with pytest.raises(DaasError, match=r"etcd-(not-allowed|invalid-request)"):
                await stranger.get("a/1")
    assert "word" not in repr(WRITER)


async def test_a_token_that_the_server_forgot_is_got_anew_for_calls_leases_and_watches(guarded: EtcdServer) -> None:
    async with EtcdClient([guarded.endpoint], user=ROOT, timeout_ms=20_000) as root:
        lease = await root.grant(600)
        await root.put("a/0", b"", lease=lease)
        events = root.watch("a/", start_revision=1)
        assert (await anext(events)).kv.key == "a/0"
        for number in (1, 2):
            await guarded.kill()
            await guarded.restart()
            # Not repeatable: it was refused at the door, so it is sent again all the same.
            assert await root.keep_alive(lease) > 0
            await root.put(f"a/{number}", b"")
            async with asyncio.timeout(100):
                assert (await anext(events)).kv.key == f"a/{number}"
        await root.revoke(lease)
        async with asyncio.timeout(100):
            assert (await anext(events)).kv.key == "a/0"


async def test_tokens_from_before_a_change_of_roles_are_replaced(guarded: EtcdServer) -> None:
    async with EtcdClient([guarded.endpoint], user=WRITER, timeout_ms=10_000) as writer:
        await writer.put("a/1", b"v")
        grant = ("role", "grant-permission", "writing", "--prefix=true", "readwrite", "b/")
        await etcdctl(guarded, *grant, user=f"root:{WORD}")
        await writer.put("b/1", b"v")
        kv = await writer.get("b/1")
        assert kv is not None
        assert kv.value == b"v"
