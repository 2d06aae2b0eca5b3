"""What is asked of the stores after a run: everything is there, once, and nothing is that should not be."""

import base64
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from daas.common.errors import Unavailable
from daas.etcd import EtcdClient
from daas.evidence import Keys


async def files_in_walrus(url: str, blobs: Path) -> Counter[str]:
    """How often each file is in the Walrus stand-in, by its identifier."""
    found: Counter[str] = Counter()
    async with aiohttp.ClientSession(url) as session:
        for path in sorted(blobs.glob("*.json")):  # noqa: ASYNC240 - a handful of names
            async with session.get(f"/v1/quilts/{path.stem}/patches") as answer:
                found.update(row["identifier"] for row in await answer.json())
    return found


async def assert_stored_once(etcd: EtcdClient, keys: Keys, *, namespace: str, newest: int, pods: int) -> None:
    """Evidence of every batch and the binding of every pod are in etcd, and were written once."""
    manifests = [kv async for kv in etcd.prefix(f"{keys.root}evidence/")]
    assert [int(kv.key.rpartition("/")[2]) for kv in manifests] == list(range(1, newest + 1))
    assert all(kv.version == 1 for kv in manifests), "evidence was written more than once"
    bound = [kv async for kv in etcd.prefix(f"{keys.root}bound/{namespace}/")]
    assert len(bound) == pods, f"{len(bound)} of {pods} bindings are stored"
    assert all(kv.version == 1 for kv in bound), "a binding was written more than once"


def places(directory: Path, more: Mapping[str, bytes]) -> dict[str, bytes]:
    """Every file below a directory, and more, by name.

    Raises:
        Unavailable: `no-stores`: there are so few files that the directory must be the wrong one.
    """
    found = {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    if len(found) < 50:
        raise Unavailable(f"only {len(found)} files below {directory}", reason="no-stores")
    return found | dict(more)


def holders(value: bytes, found: Mapping[str, bytes]) -> list[str]:
    """Where a value stands: as it is, in hexadecimal, or in base64 wherever it begins in what is encoded."""
    # The first and last groups of base64 depend on the neighbours.
    forms = [value, value.hex().encode(), *(base64.b64encode(b"\0" * n + value)[4:-4] for n in range(3))]
    return sorted(place for place, content in found.items() if any(form in content for form in forms))
