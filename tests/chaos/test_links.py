"""The tools of the day: a link that is cut carries nothing, plans come from their seed, a leak would be found."""

import asyncio
import base64
import random
import sys

import pytest
from support.faults import HOWS, plan
from support.links import LOCAL, Links, Namespaces, NotPermitted, Proxies, closing
from support.stored_once import holders

pytestmark = [pytest.mark.timeout(300)]

#: Connects, and sends back each line it gets.
PARROT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as server:
    file = server.makefile("rwb", buffering=0)
    for line in file:
        file.write(line)
"""
PATIENCE_S = 60.0


@pytest.mark.connected
@pytest.mark.parametrize("kind", ["namespaces", "proxies"])
async def test_a_link_that_is_cut_carries_nothing_and_what_was_under_way_arrives_when_it_is_whole(kind: str) -> None:
    links: Links = Namespaces(["parrot", "other"]) if kind == "namespaces" else Proxies()
    connected: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def arrived(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.put_nowait((reader, writer))

    server = await asyncio.start_server(arrived, LOCAL, 0)
    try:
        async with server, links, asyncio.timeout(PATIENCE_S):
            url = await links.nats_url("parrot", f"nats://{LOCAL}:{server.sockets[0].getsockname()[1]}")
            argv = links.command("parrot", ["python", "-c", PARROT, url.rpartition(":")[2]])
            command = [sys.executable if part == "python" else part for part in argv]
            parrot = await asyncio.create_subprocess_exec(*command)
            try:
                reader, writer = await connected.get()
                async with closing(writer):
                    writer.write(b"one\n")
                    assert await reader.readline() == b"one\n"
                    await links.cut("parrot")
                    writer.write(b"two\n")
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(said := asyncio.ensure_future(reader.readline())), 1)
                    await links.join("parrot")
                    assert await said == b"two\n"
            finally:
                parrot.kill()
                await parrot.wait()
    except NotPermitted as reason:
        pytest.skip(f"no network namespaces here: {reason}")


def test_a_plan_comes_from_its_seed_and_holds_every_kind_of_fault() -> None:
    assert plan(random.Random(7), waves=10, faults=3) == plan(random.Random(7), waves=10, faults=3)
    assert plan(random.Random(7), waves=10, faults=3) != plan(random.Random(8), waves=10, faults=3)
    for wave in (planned := plan(random.Random(7), waves=10, faults=3)):
        assert len({fault.target for fault in wave}) == len(wave)
    kinds = [fault.how for wave in planned for fault in wave]
    assert {kinds.count(how) for how in HOWS} == {10}


@pytest.mark.parametrize("before", range(4))
def test_a_value_is_found_as_it_is_and_encoded_whatever_stands_around_it(before: int) -> None:
    value = random.Random(before).randbytes(24)
    around = b"x" * before + value + b"tail"
    found = {"raw": around, "base64": base64.b64encode(around), "hex": around.hex().encode(), "none": b"y" * 400}
    assert holders(value, found) == ["base64", "hex", "raw"]


def test_the_names_of_namespaces_fit_and_are_nobody_elses() -> None:
    mine, others = Namespaces(["a", "b"]), Namespaces(["a", "b"])
    names = [name for links in (mine, others) for service in ("a", "b") for name in links.names(service)]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 15
