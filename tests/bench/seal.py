"""Speed of daas.seal beside the official TypeScript client, in one run; all figures are CPU time.

Run: `python tests/bench/seal.py`. Each operation is measured in interleaved rounds and the median is shown, with the
sum of the primitive operations it can't do without (its floor) measured in the same rounds. Exit code 1 where a goal
is missed.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "libs" / "seal" / "tests" / "support"))

import aiohttp  # noqa: E402 - after the path of the helpers
import msgspec  # noqa: E402
import psutil  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey  # noqa: E402
from seal_official import OfficialClient, missing, on_chain  # noqa: E402
from seal_world import UNLIMITED, World, serve  # noqa: E402

from daas.common.errors import NotFound  # noqa: E402
from daas.seal import (  # noqa: E402
    ApproveCall,
    Ed25519Signer,
    EncryptedObject,
    Encryptor,
    MasterKey,
    SessionKey,
    build_ptb,
    decrypt,
    elgamal,
    format_address,
    verify_user_secret_key,
    wire,
)
from daas.seal.backend import BACKEND  # noqa: E402
from daas.seal.elgamal import DecryptionKey  # noqa: E402
from daas.seal.server import Approval, KeyServerApp, OpenKeys, PolicyRequest  # noqa: E402

PLAINTEXT = os.urandom(1024)
#: The goals: times as fast as the official client, or operations a second and core.
ENCRYPT_RATIO, DECRYPT_RATIO, CACHED_A_SECOND, FETCHES_A_SECOND = 25, 20, 800, 600
ROUNDS = 7


def cpu_ms(work: Callable[[], object], count: int) -> float:
    """Milliseconds of CPU for one call."""
    before = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - before) * 1000 / count


def primitives(count: int) -> dict[str, float]:
    """Milliseconds of CPU for each operation of the libraries underneath."""
    point, other = BACKEND.hash_to_g1(b"a"), BACKEND.multiply_g2(12345)
    scalar = 2**254 - 987_654_321
    key = Ed25519PrivateKey.generate()
    signature, public = key.sign(b"m"), key.public_key().public_bytes_raw()
    encoded = BACKEND.encode(point)
    works: dict[str, Callable[[], object]] = {
        "hash": lambda: BACKEND.hash_to_g1(b"a"),
        "g1": lambda: BACKEND.multiply(point, scalar),
        "g2": partial(BACKEND.multiply_g2, scalar),
        "decode1": lambda: BACKEND.g1_decode(encoded),
        "equal": lambda: BACKEND.equal_pairings([(point, BACKEND.g2)], [(point, other)]),
        "pairing": lambda: BACKEND.pairing(point, other),
        "power": partial(POWER, scalar),
        "ed25519": lambda: Ed25519PublicKey.from_public_bytes(public).verify(signature, b"m"),
    }
    return {name: cpu_ms(work, count) for name, work in works.items()}


POWER = BACKEND.pairing_power(BACKEND.g1, BACKEND.g2)


class ApprovesAll:
    """The key server's cost without that of the policy: *simulated*, for measuring alone."""

    async def first_package_id(self, package_id: bytes) -> bytes:
        return package_id

    async def package_of_name(self, name: str) -> bytes:
        raise NotFound(f"no name {name}", reason="name-missing")

    async def has_aliases(self, address: bytes) -> bool:
        return False

    async def evaluate(self, request: PolicyRequest) -> Approval:
        return Approval(time.time_ns() // 1_000_000)


def encrypt_and_encode(encryptor: Encryptor, package_id: bytes, inner_id: bytes) -> bytes:
    """One whole encryption."""
    return encryptor.encrypt(package_id, inner_id, PLAINTEXT).object.encode()


class Bench:
    """One world, and what is measured in it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.inner = world.inner_id(b"bench")
        keys = [server.known.key for server in world.servers]
        self.fresh = Encryptor(keys, 2, cached_identities=0)
        self.cached = Encryptor(keys, 2)
        for _ in range(5):
            self.cached.encrypt(world.package, self.inner, b"")
        sealed = self.fresh.encrypt(world.package, self.inner, PLAINTEXT).object
        self.raw = sealed.encode()
        self.public = {server.known.object_id: server.known.public_key for server in world.servers}
        self.secret = {
            server.known.object_id: server.master_key.extract(sealed.full_id) for server in world.servers[:2]
        }

    def python(self, count: int) -> dict[str, float]:
        """Milliseconds of CPU for each operation of the library."""
        package, inner = self.world.package, self.inner
        server = self.world.servers[0]
        identity = package + inner
        usk = next(iter(self.secret.values()))
        point = BACKEND.g1_decode(DecryptionKey().public_key)
        works: dict[str, Callable[[], object]] = {
            "encrypt": partial(encrypt_and_encode, self.fresh, package, inner),
            "encrypt, cached identity": partial(encrypt_and_encode, self.cached, package, inner),
            "decrypt": lambda: decrypt(EncryptedObject.decode(self.raw), self.secret),
            "decrypt, all shares checked": lambda: decrypt(EncryptedObject.decode(self.raw), self.secret, self.public),
            "verify a user secret key": lambda: verify_user_secret_key(usk, identity, server.known.public_key),
            "extract and encrypt a key": lambda: elgamal.encrypt(server.master_key.extract_point(identity), point),
        }
        return {name: cpu_ms(work, count) for name, work in works.items()}

    def official_request(self, rounds: int) -> dict[str, Any]:
        """The same work for the official client."""
        world = self.world
        return {
            "servers": [on_chain(server.known) for server in world.servers],
            "packageId": format_address(world.package),
            "access": {"objectId": format_address(world.access.object_id), "version": world.access.initial_version},
            "seed": world.member.seed.hex(),
            "threshold": 2,
            "ids": [self.inner.hex()],
            "data": PLAINTEXT.hex(),
            "object": self.raw.hex(),
            "rounds": rounds,
        }


class ServerProcess:
    """A key server in a process of its own, whose CPU time can be read; use as `async with`."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--serve", stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        self._url = json.loads(await self._process.stdout.readline())["url"]
        self._cpu = psutil.Process(self._process.pid)
        self._http = aiohttp.ClientSession()
        package = os.urandom(32)
        session = await SessionKey.create(Ed25519Signer(os.urandom(32)), package)
        key = DecryptionKey()
        ptb = build_ptb(package, [ApproveCall(module="bench", function="seal_approve", inner_id=os.urandom(32))])
        fields = (ptb, key.public_key, key.verification_key)
        self._body = msgspec.json.encode(
            wire.FetchKeyRequest(
                ptb=wire.to_base64(ptb),
                enc_key=wire.to_base64(key.public_key),
                enc_verification_key=wire.to_base64(key.verification_key),
                request_signature=wire.to_base64(session.sign_request(*fields)),
                certificate=session.certificate,
            )
        )
        await self.fetch_key(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def fetch_key(self, count: int) -> float:
        """Milliseconds of the server's CPU for one request, over four kept connections."""
        headers = {"Client-Sdk-Version": "1.4.12", "Client-Sdk-Type": "typescript"}

        async def ask(times: int) -> None:
            for _ in range(times):
                async with self._http.post(self._url + wire.FETCH_KEY, data=self._body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()

        before = self._cpu.cpu_times()
        await asyncio.gather(*(ask(count // 4) for _ in range(4)))
        after = self._cpu.cpu_times()
        return (after.user + after.system - before.user - before.system) * 1000 / (count // 4 * 4)


async def serve_until_stdin_ends() -> None:
    """The child: an open key server."""
    app = KeyServerApp(OpenKeys(bytes(32), MasterKey.generate()), ApprovesAll(), settings=UNLIMITED)
    async with serve(app.application()) as url:
        print(json.dumps({"url": url}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


#: The primitive operations of each operation: nothing can be faster than their sum with these libraries.
FLOORS: dict[str, dict[str, int]] = {
    "encrypt": {"hash": 1, "g1": 1, "g2": 1, "pairing": 3},
    "encrypt, cached identity": {"g2": 1, "power": 3},
    "decrypt": {"hash": 1, "decode1": 2, "g2": 1, "pairing": 2},
    "decrypt, all shares checked": {"hash": 1, "decode1": 2, "g1": 1, "g2": 1, "pairing": 3},
    "verify a user secret key": {"hash": 1, "decode1": 1, "equal": 1},
    "extract and encrypt a key": {"hash": 1, "g1": 3},
    "fetch_key": {"hash": 1, "g1": 3, "decode1": 1, "ed25519": 2},
}


def line(name: str, ms: float, floor: float | None = None, official: float | None = None, goal: str = "") -> None:
    """One row of the table."""
    columns = [f"{name:<30}", f"{ms:8.3f}", f"{1000 / ms:8.0f}/s"]
    columns.append(f"{floor:8.3f}" if floor is not None else " " * 8)
    columns.append(f"{official:9.1f} {official / ms:6.1f}x" if official is not None else " " * 17)
    print("  ".join([*columns, goal]).rstrip())


async def measure(rounds: int, count: int) -> int:
    """Measures, prints, and says whether the goals are met."""
    python: dict[str, list[float]] = {}
    floors: dict[str, list[float]] = {}
    official: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder) / "ledger")
        for _ in range(3):
            await world.add()
        bench = Bench(world)
        async with AsyncExitStack() as stack:
            process = await stack.enter_async_context(ServerProcess())
            node = None if missing() else await stack.enter_async_context(OfficialClient())
            for _ in range(rounds):
                found = {**bench.python(count), "fetch_key": await process.fetch_key(10 * count)}
                for name, ms in found.items():
                    python.setdefault(name, []).append(ms)
                for name, ms in primitives(count).items():
                    floors.setdefault(name, []).append(ms)
                if node is not None:
                    answer = await node.ask("bench", **bench.official_request(max(4, count // 4)))
                    for name, ms in answer.items():
                        official.setdefault(name, []).append(ms)
        await world.close()
    middle = {name: statistics.median(values) for name, values in python.items()}
    least = {name: statistics.median(values) for name, values in floors.items()}
    theirs = {name: statistics.median(values) for name, values in official.items()}
    print(f"CPU of one operation, {BACKEND.name}: 1 KiB, 2 of 3 servers; median of {rounds} interleaved rounds")
    print(f"{'':<30}  {'ms':>8}  {'a core':>10}  {'floor':>8}  {'official client':>17}  goal")
    goals = {
        "encrypt": (theirs.get("encrypt", 0) / middle["encrypt"], ENCRYPT_RATIO, "x the official client"),
        "decrypt": (theirs.get("decrypt", 0) / middle["decrypt"], DECRYPT_RATIO, "x the official client"),
        "encrypt, cached identity": (1000 / middle["encrypt, cached identity"], CACHED_A_SECOND, "/s"),
        "fetch_key": (1000 / middle["fetch_key"], FETCHES_A_SECOND, "/s"),
    }
    missed = 0
    for name, ms in middle.items():
        floor = sum(times * least[operation] for operation, times in FLOORS[name].items())
        text = ""
        if name in goals and (theirs or not goals[name][2].startswith("x")):
            reached, wanted, unit = goals[name]
            missed += reached < wanted
            text = f"{'met' if reached >= wanted else 'MISSED'}: at least {wanted}{unit}"
        line(name, ms, floor, theirs.get(name), text)
    if not theirs:
        print(f"without the official client: {missing()}")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--serve", action="store_true", help="be the key server that is measured")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--count", type=int, default=40, help="operations a round")
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve_until_stdin_ends())
        return 0
    return asyncio.run(measure(arguments.rounds, arguments.count))


if __name__ == "__main__":
    sys.exit(main())
