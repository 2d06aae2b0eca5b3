"""HTTP beside the RPC services: the faucet, in the form of Sui's own, and what tests set: the clock, congestion."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from daas.common.errors import DaasError
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.base import SERVER
from daas.devstack.ledger.type_tags import format_address, parse_address

FAUCET_MIST: Final = 100_000_000_000
FAUCET_MIST_MAX: Final = 1_000_000_000_000_000
BODY_BYTES_MAX: Final = 4_096
CONGESTED_MAX: Final = 1_000
TIME_MS_MAX: Final = 253_402_300_799_000  # the end of the year 9999


class Control:
    """Endpoints: `POST /v2/gas`, `GET /clock`, `PUT /clock`, `DELETE /clock`, `PUT /congestion`, `GET /`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/", self.about)
        app.router.add_post("/v2/gas", self.gas)
        app.router.add_get("/clock", self.get_clock)
        app.router.add_put("/clock", self.put_clock)
        app.router.add_delete("/clock", self.delete_clock)
        app.router.add_put("/congestion", self.put_congestion)
        return app

    async def about(self, _request: web.Request) -> web.Response:
        """Who this is."""
        return web.json_response({"server": SERVER, "simulated": True, "chain": self.ledger.chain.hex()})

    async def gas(self, request: web.Request) -> web.Response:
        """Mint a coin: `{"FixedAmountRequest": {"recipient": "0x...", "amount": MIST (optional)}}`."""
        try:
            body = (await _body(request)).get("FixedAmountRequest")
            if not isinstance(body, dict) or not isinstance(body.get("recipient"), str):
                return _refused("expected FixedAmountRequest.recipient")
            amount = body.get("amount", FAUCET_MIST)
            if not isinstance(amount, int) or not 0 < amount <= FAUCET_MIST_MAX:
                return _refused(f"expected an amount of 1 to {FAUCET_MIST_MAX} MIST")
            coin_id = self.ledger.mint(parse_address(body["recipient"]), amount)
        except DaasError as error:
            return _refused(error.message)
        sent = {
            "amount": amount,
            "id": format_address(coin_id),
            "transferTxDigest": self.ledger.latest.transaction_digest.hex(),
        }
        return web.json_response({"status": "Success", "coins_sent": [sent]}, status=201)

    async def get_clock(self, _request: web.Request) -> web.Response:
        """The ledger's time."""
        return web.json_response({"timestamp_ms": self.ledger.clock.now_ms()})

    async def put_clock(self, request: web.Request) -> web.Response:
        """Set the time: `{"timestamp_ms": N, "frozen": false}`. It may lie in the past: this is for tests."""
        body = await _body(request)
        now_ms = body.get("timestamp_ms")
        if not isinstance(now_ms, int) or not 0 <= now_ms <= TIME_MS_MAX:
            return _refused(f"expected timestamp_ms of 0 to {TIME_MS_MAX}")
        self.ledger.clock.set(now_ms, frozen=bool(body.get("frozen", False)))
        return await self.get_clock(request)

    async def delete_clock(self, request: web.Request) -> web.Response:
        """Follow wall time again."""
        self.ledger.clock.follow_wall_time()
        return await self.get_clock(request)

    async def put_congestion(self, request: web.Request) -> web.Response:
        """Cancel the next transactions that change shared objects: `{"transactions": N}`."""
        count = (await _body(request)).get("transactions")
        if not isinstance(count, int) or not 0 <= count <= CONGESTED_MAX:
            return _refused(f"expected transactions of 0 to {CONGESTED_MAX}")
        self.ledger.congested = count
        return web.json_response({"transactions": count})


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _refused(message: str) -> web.Response:
    return web.json_response({"status": {"Failure": {"internal": message}}}, status=400)
