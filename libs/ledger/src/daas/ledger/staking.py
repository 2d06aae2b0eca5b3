"""Stake on the ledger: what an address has at risk, deposits and withdrawals, the parameters of a cluster."""

from typing import TYPE_CHECKING

from daas.common.errors import InvalidInput
from daas.ledger import calls, fields
from daas.ledger.address import normal_address, parse_address
from daas.ledger.cluster import Account, Parameters, StakePool
from daas.ledger.layout import read_struct
from daas.ledger.models import Effects

if TYPE_CHECKING:
    from daas.ledger.client import Ledger


class Staking:
    """Reached as `ledger.staking`. Amounts are MIST; each call is executed or raises what `Ledger.submit` raises."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def pool(self, registry: str) -> StakePool:
        """The stake pool of a cluster as it is now."""
        pool, _ = await self._ledger.places(registry)
        return await self._ledger.read(StakePool, pool, "stake", "StakePool")

    async def account(self, registry: str, owner: str) -> Account:
        """What an address has at stake now; an empty account where it has none."""
        table = (await self.pool(registry)).accounts.address
        contents = await self._ledger.contents(fields.address_entry(table, owner))
        if contents is None:
            return Account()
        reader = fields.value_of(contents, parse_address(owner))
        account = read_struct(Account, reader)
        reader.end()
        return account

    async def deposit(self, registry: str, amount_mist: int) -> Effects:
        """Binds part of the signer's money as its stake."""
        pool, _ = await self._ledger.places(registry)
        return await self._ledger.run(*calls.stake.deposit(self._package, pool, _positive(amount_mist)))

    async def request_withdraw(self, registry: str, amount_mist: int) -> Effects:
        """Starts the unbonding of some of the signer's stake."""
        pool, _ = await self._ledger.places(registry)
        return await self._ledger.run(calls.stake.request_withdraw(self._package, pool, _positive(amount_mist)))

    async def withdraw(self, registry: str, recipient: str | None = None) -> Effects:
        """Takes out what has waited for its unbonding time; by default to the signer itself."""
        pool, _ = await self._ledger.places(registry)
        to = normal_address(recipient or self._ledger.address)
        return await self._ledger.run(*calls.stake.withdraw(self._package, pool, to))

    async def fund_treasury(self, registry: str, amount_mist: int) -> Effects:
        """Gives part of the signer's money to the treasury."""
        pool, _ = await self._ledger.places(registry)
        return await self._ledger.run(*calls.stake.fund_treasury(self._package, pool, _positive(amount_mist)))

    async def set_parameters(self, registry: str, parameters: Parameters) -> Effects:
        """Changes what the cluster asks of stake; needs the AdminCap, and a cluster that has not been handed over."""
        pool, _ = await self._ledger.places(registry)
        cap = await self._ledger.capability("AdminCap")
        commands = calls.stake.set_parameters(self._package, cap, normal_address(registry), pool, parameters)
        return await self._ledger.run(*commands)

    @property
    def _package(self) -> str:
        return self._ledger.required_package()


def _positive(amount_mist: int) -> int:
    if amount_mist <= 0:
        raise InvalidInput(f"an amount of MIST is positive, not {amount_mist}", reason="amount", field="amount_mist")
    return amount_mist
