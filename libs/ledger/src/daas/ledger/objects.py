"""What a client knows of the objects it uses, so that an anchor needs one call of the node and not six.

Shared objects keep the version at which they were shared. Owned objects (gas coins, capabilities) get a new version
with each transaction that names them: the effects say which, and after any failure the node is asked again.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from daas.ledger.address import CLOCK_ADDRESS
from daas.ledger.errors import NoGas, NoSuchObject
from daas.ledger.models import Effects, LedgerObject, ObjectReference, SharedReference
from daas.ledger.transaction import GasPayment, Reference

if TYPE_CHECKING:
    from daas.ledger.full_nodes import FullNodes

#: Protocol limit on coins that pay for one transaction.
_MAX_GAS_COINS = 256
#: The reference gas price changes once per epoch (a day); a stale one is noticed by a refusal.
_GAS_PRICE_TTL_S = 60
_COIN_TYPE = "0x2::coin::Coin<0x2::sui::SUI>"
#: A relay names one registry, a few enclaves and capabilities: this is for processes that live for months.
_MAX_REFERENCES = 1024


class ObjectCache:
    """References of the objects that transactions name, and the coins that pay for them."""

    def __init__(self, node: "FullNodes") -> None:
        self._node = node
        self._references: dict[str, Reference] = {}
        self._caps: dict[str, str] = {}
        self._coins: list[LedgerObject] = []
        self._price: tuple[float, int] | None = None
        self._spent_mist = 0

    def remember_shared(self, item: LedgerObject) -> None:
        """An object that was read anyway needs no second look."""
        if item.shared_version is not None:
            address = item.reference.object_id
            self._references[address] = SharedReference(address, item.shared_version)

    async def reference(self, object_id: str) -> Reference:
        """How a transaction names the object now.

        Raises:
            NoSuchObject: `object-missing`.
        """
        if object_id == CLOCK_ADDRESS:
            # Shared since genesis on every Sui chain.
            return SharedReference(CLOCK_ADDRESS, 1)
        known = self._references.get(object_id)
        if known is None:
            item = await self._node.object(object_id)
            if item is None:
                raise NoSuchObject(f"no object {object_id}", reason="object-missing")
            shared = item.shared_version
            known = item.reference if shared is None else SharedReference(object_id, shared)
            if len(self._references) >= _MAX_REFERENCES:
                self._references.clear()
            self._references[object_id] = known
        return known

    async def capability(self, owner: str, object_type: str) -> str:
        """Object id of an address's capability.

        Raises:
            NoSuchObject: `capability-missing`.
        """
        if object_type not in self._caps:
            owned = await self._node.owned(owner, object_type, 1)
            if not owned:
                raise NoSuchObject(f"{owner} has no {object_type}", reason="capability-missing")
            found = owned[0].reference
            self._caps[object_type] = found.object_id
            self._references[found.object_id] = found
        return self._caps[object_type]

    async def gas_price(self) -> int:
        """Reference gas price, MIST per unit, at most a minute old."""
        now = asyncio.get_running_loop().time()
        if self._price is None or self._price[0] < now:
            self._price = (now + _GAS_PRICE_TTL_S, await self._node.gas_price())
        return self._price[1]

    async def gas(self, owner: str, budget_mist: int, spent_mist: int = 0) -> GasPayment:
        """As few coins as cover the budget and what is spent, largest first; the first one is what remains afterwards.

        Raises:
            NoGas: `no-gas`.
        """
        self._spent_mist = spent_mist
        if sum(coin.balance for coin in self._coins) < budget_mist + spent_mist:
            self._coins = await self._select_coins(owner, budget_mist + spent_mist)
        references = tuple(coin.reference for coin in self._coins)
        return GasPayment(references, await self.gas_price(), budget_mist)

    async def _select_coins(self, owner: str, budget_mist: int) -> list[LedgerObject]:
        coins = await self._node.owned(owner, _COIN_TYPE, _MAX_GAS_COINS)
        coins.sort(key=lambda coin: coin.balance, reverse=True)
        total = 0
        for used, coin in enumerate(coins, start=1):
            total += coin.balance
            if total >= budget_mist:
                return coins[:used]
        raise NoGas(f"{owner} has {total} MIST in {len(coins)} coins, it takes {budget_mist}", reason="no-gas")

    def follow(self, effects: Effects) -> None:
        """Takes over the versions that a transaction left, failed or not."""
        changes = {change.object_id: change for change in effects.changes}
        for object_id, change in changes.items():
            known = self._references.get(object_id)
            if isinstance(known, ObjectReference):
                if change.reference is None:
                    del self._references[object_id]
                elif change.reference.version >= known.version:
                    self._references[object_id] = change.reference
        if not self._coins:
            return
        paid = self._coins[0].reference
        left = changes.get(paid.object_id)
        if left is None or left.reference is None or left.reference.version <= paid.version:
            # Paid by other coins, or an old transaction sent again: what the coins are now is for the node to say.
            self._coins = []
            return
        balance = sum(coin.balance for coin in self._coins) - effects.gas_mist
        if effects.succeeded:
            balance -= self._spent_mist
        self._coins = [msgspec.structs.replace(self._coins[0], reference=left.reference, balance=balance)]

    def forget(self) -> None:
        """After a failure only the node knows the versions of owned objects and the price."""
        self._coins = []
        self._price = None
        self._caps = {}
        self._references = {
            object_id: known for object_id, known in self._references.items() if isinstance(known, SharedReference)
        }
