"""The official TypeScript client as a process, and the chain data it is given."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, Self

from daas.common import bcs
from daas.seal import KeyServer, format_address

FOLDER = Path(__file__).resolve().parents[4] / "tests" / "interop" / "seal"
#: An answer holds up to some hundred objects of a KiB in hexadecimal.
LINE_BYTES_MAX = 16 * 1024 * 1024


def missing() -> str | None:
    """Why the official client can't be run here; None where it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (FOLDER / "node_modules" / "@mysten" / "seal").exists():
        return "the official client is not installed: run `npm ci` in tests/interop/seal"
    return None


class OfficialClient:
    """One node process; use as `async with`."""

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "node",
            "official.mjs",
            cwd=FOLDER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """One operation; `{"error": class name, "message": ...}` where it threw."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **request}).encode() + b"\n")
        await self._process.stdin.drain()
        return json.loads(await self._process.stdout.readline())  # type: ignore[no-any-return]  # the script's objects


def on_chain(server: KeyServer, version: int = 2) -> dict[str, Any]:
    """A key server as the official client is told of it: the BCS of its object and of its data."""
    head = bcs.string(server.name)
    key = bcs.u8(0) + bcs.bytes_(server.public_key)
    if version == 1:
        data = head + bcs.string(server.url) + key
    elif server.committee:
        # The client reads no more of a committee than that it is one; members are checked elsewhere.
        data = head + key + bcs.uleb128(1) + bcs.u32(0) + bcs.u16(2) + bcs.uleb128(0)
    else:
        data = head + key + bcs.uleb128(0) + bcs.string(server.url)
    return {
        "objectId": format_address(server.object_id),
        "object": (server.object_id + bcs.u64(1) + bcs.u64(version)).hex(),
        "data": data.hex(),
        "weight": server.weight,
        **({"aggregatorUrl": server.url} if server.committee else {}),
    }
