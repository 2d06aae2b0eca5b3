"""What pays for transactions: coins, each transaction taking the coin as the last one left it, or the address balance.

The address balance (Sui's SIP-58) is money of an address that is in no coin. A transaction that it pays for names no
payment, but the two epochs in which it may run and a nonce, and so leaves no version behind for the next one to follow.
"""

import asyncio
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from daas.ledger.errors import NoGas
from daas.ledger.models import Effects, Epoch, LedgerObject
from daas.ledger.transaction import Command, GasPayment, Window, spends_gas_coin, spent_mist

if TYPE_CHECKING:
    from daas.ledger.full_nodes import FullNodes

#: Protocol limit on coins that pay for one transaction.
_MAX_GAS_COINS: Final = 256
#: Epoch and reference gas price change once a day; a stale one is noticed by a refusal.
_EPOCH_TTL_S: Final = 60
_COIN_TYPE: Final = "0x2::coin::Coin<0x2::sui::SUI>"
_NONCE_BITS: Final = 32


class GasSource(StrEnum):
    """Where the money for gas is taken from."""

    COINS = "coins"
    ADDRESS_BALANCE = "address-balance"


class Gas:
    """The money of one account as its transactions leave it.

    Args:
        node: the full nodes.
        source: what pays. Calls that hand on money themselves (deposits, tickets) take it out of a coin always.
    """

    def __init__(self, node: "FullNodes", source: GasSource) -> None:
        self._node = node
        self.source = source
        self._epoch: tuple[float, Epoch] | None = None
        self._coins: list[LedgerObject] = []
        self._funds_mist: int | None = None
        self._spent_mist = 0

    async def price(self) -> int:
        """Reference gas price, MIST per unit, at most a minute old."""
        return (await self._current()).gas_price

    async def payment(self, owner: str, budget_mist: int, commands: Sequence[Command]) -> GasPayment:
        """What pays for these commands.

        Raises:
            NoGas: `no-gas`.
        """
        if self.source is GasSource.ADDRESS_BALANCE and not spends_gas_coin(commands):
            return await self._from_funds(owner, budget_mist)
        self._spent_mist = spent_mist(commands)
        if sum(coin.balance for coin in self._coins) < budget_mist + self._spent_mist:
            self._coins = await self._select_coins(owner, budget_mist + self._spent_mist)
        return GasPayment(tuple(coin.reference for coin in self._coins), await self.price(), budget_mist)

    async def balance(self, owner: str) -> int:
        """What an address has that can pay for gas, MIST."""
        found = await self._node.balance(owner)
        if self.source is GasSource.ADDRESS_BALANCE:
            return found.without_coins
        return found.total - found.without_coins

    def follow(self, effects: Effects) -> None:
        """Takes over what a transaction left, failed or not."""
        if self._funds_mist is not None:
            self._funds_mist -= max(0, effects.gas_mist)
        if not self._coins:
            return
        paid = self._coins[0].reference
        left = next((change for change in effects.changes if change.object_id == paid.object_id), None)
        if left is None or left.reference is None or left.reference.version <= paid.version:
            # Paid by others, or an old transaction sent again: what the coins are now is for the node to say.
            self._coins = []
            return
        balance = sum(coin.balance for coin in self._coins) - effects.gas_mist
        if effects.succeeded:
            balance -= self._spent_mist
        self._coins = [msgspec.structs.replace(self._coins[0], reference=left.reference, balance=balance)]

    def forget(self) -> None:
        """After a failure only the node knows coins, balance and price."""
        self._coins = []
        self._funds_mist = None
        self._epoch = None

    async def _current(self) -> Epoch:
        now = asyncio.get_running_loop().time()
        if self._epoch is None or self._epoch[0] < now:
            self._epoch = (now + _EPOCH_TTL_S, await self._node.epoch())
        return self._epoch[1]

    async def _from_funds(self, owner: str, budget_mist: int) -> GasPayment:
        if self._funds_mist is None or self._funds_mist < budget_mist:
            self._funds_mist = (await self._node.balance(owner)).without_coins
        if self._funds_mist < budget_mist:
            raise NoGas(
                f"{owner} has an address balance of {self._funds_mist} MIST, it takes {budget_mist}", reason="no-gas"
            )
        epoch = await self._current()
        window = Window(epoch.number, self._node.chain, secrets.randbits(_NONCE_BITS))
        return GasPayment((), epoch.gas_price, budget_mist, window)

    async def _select_coins(self, owner: str, budget_mist: int) -> list[LedgerObject]:
        """As few coins as cover the budget, largest first; the first one is what remains afterwards."""
        coins = await self._node.owned(owner, _COIN_TYPE, _MAX_GAS_COINS)
        coins.sort(key=lambda coin: coin.balance, reverse=True)
        total = 0
        for used, coin in enumerate(coins, start=1):
            total += coin.balance
            if total >= budget_mist:
                return coins[:used]
        raise NoGas(f"{owner} has {total} MIST in {len(coins)} coins, it takes {budget_mist}", reason="no-gas")
