"""Seal policies on the ledger: rules, generations, tickets, and what a key server would answer."""

from typing import TYPE_CHECKING

from daas.ledger import calls
from daas.ledger.address import normal_address
from daas.ledger.cluster import Policy, Rules, Ticket
from daas.ledger.cluster_events import SealPolicyCreated, TicketBought
from daas.ledger.models import Effects

if TYPE_CHECKING:
    from daas.ledger.client import Ledger

#: Tickets live for an hour at most: an address that has more than this many hoards them.
_MAX_TICKETS = 256


class Policies:
    """Reached as `ledger.policies`. Each call is executed or raises what `Ledger.submit` raises."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def policy(self, address: str) -> Policy:
        """A policy as it is now.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return await self._ledger.read(Policy, address, "policy", "Policy")

    async def ticket(self, address: str) -> Ticket:
        """A ticket as it is now."""
        return await self._ledger.read(Ticket, address, "policy", "Ticket")

    async def tickets(self, holder: str | None = None) -> tuple[Ticket, ...]:
        """The tickets that an address holds, expired ones included; by default the signer's."""
        return await self._ledger.owned(Ticket, holder or self._ledger.address, "policy", "Ticket", _MAX_TICKETS)

    async def create(self, registry: str, rules: Rules) -> Policy:
        """Makes a policy that the signer owns."""
        effects = await self._ledger.run(*calls.policy.create(self._package, normal_address(registry), rules))
        return await self.policy(effects.only(SealPolicyCreated).policy)

    async def set_rules(self, policy: str, rules: Rules) -> Effects:
        """Changes the rules; what has been released stays released."""
        return await self._ledger.run(*calls.policy.set_rules(self._package, normal_address(policy), rules))

    async def transfer_ownership(self, policy: str, to: str) -> Effects:
        """Gives the policy to another owner."""
        return await self._ledger.run(calls.policy.transfer_ownership(self._package, normal_address(policy), to))

    async def rotate(self, policy: str) -> Effects:
        """Begins a new generation, with tickets of its own."""
        return await self._ledger.run(calls.policy.rotate(self._package, normal_address(policy)))

    async def retire_generations(self, policy: str) -> Effects:
        """Closes all generations but the current one."""
        return await self._ledger.run(calls.policy.retire_generations(self._package, normal_address(policy)))

    async def buy_ticket(self, policy: Policy, sealed_id: bytes, session: bytes, node: str | None = None) -> Ticket:
        """Buys the signer the right to one release of one key, at the price that the policy names.

        Args:
            policy: as it was read: its price is what is paid.
            sealed_id: what is to be opened, without the package's prefix.
            session: public key of the Seal session, 32 bytes.
            node: object id of the node that the signer is, where it reads as a node.

        Raises:
            MoveAbortError: `ELimitReached`, for example.
        """
        pool, _ = await self._ledger.places(policy.registry)
        commands = calls.policy.buy_ticket(
            self._package,
            policy.address,
            pool,
            sealed_id=sealed_id,
            session=session,
            price_mist=policy.rules.ticket_price_mist,
            node=node,
        )
        effects = await self._ledger.run(*commands)
        return await self.ticket(effects.only(TicketBought).ticket)

    async def discard(self, ticket: str) -> Effects:
        """Throws a ticket away; what its storage cost comes back."""
        return await self._ledger.run(calls.policy.discard(self._package, normal_address(ticket)))

    async def check(
        self,
        policy: Policy,
        requester: str,
        sealed_id: bytes,
        *,
        node: str | None = None,
        ticket: Ticket | None = None,
    ) -> None:
        """Whether a Seal key server would release this key to the requester: with a ticket, as a node, or by stake.

        Raises:
            MoveAbortError: it would not, and why.
        """
        pool, _ = await self._ledger.places(policy.registry)
        if ticket is not None:
            call = calls.policy.approve_ticket(
                self._package, sealed_id, policy.address, pool, session=ticket.session, ticket=ticket.address
            )
        elif node is not None:
            call = calls.policy.approve_node(self._package, sealed_id, policy.address, pool, node)
        else:
            call = calls.policy.approve(self._package, sealed_id, policy.address, pool)
        await self._ledger.view(call, requester)

    async def check_rotation(self, policy: Policy, requester: str, sealed_id: bytes) -> None:
        """Whether a Seal key server would release this key to the owner who rotates it out.

        Raises:
            MoveAbortError: it would not, and why.
        """
        await self._ledger.view(calls.policy.approve_rotation(self._package, sealed_id, policy.address), requester)

    @property
    def _package(self) -> str:
        return self._ledger.required_package()
