"""Proposals on the ledger: what stakers put to the vote, how they vote, and carrying it out."""

from typing import TYPE_CHECKING, Final

from daas.ledger import calls
from daas.ledger.address import normal_address
from daas.ledger.cluster import Parameters, Proposal
from daas.ledger.cluster_events import ProposalCreated
from daas.ledger.models import Effects, Limits

if TYPE_CHECKING:
    from daas.ledger.client import Ledger

#: Proposals that are listed in one go.
MAX_LISTED: Final = 200


class Governance:
    """Reached as `ledger.governance`. Each call is executed or raises what `Ledger.submit` raises."""

    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def proposal(self, address: str) -> Proposal:
        """A proposal and the votes so far.

        Raises:
            NoSuchObject: there is none, or it is something else.
        """
        return await self._ledger.read(Proposal, address, "governance", "Proposal")

    async def all(self, registry: str, limit: int = MAX_LISTED) -> tuple[Proposal, ...]:
        """The proposals of a cluster as they are now, newest first, among the newest `limit` of the package.

        They are found by their events: nothing on the ledger lists them.
        """
        registry = normal_address(registry)
        created = await self._ledger.newest_events(ProposalCreated, "governance", limit)
        return tuple([await self.proposal(event.proposal) for event in created if event.registry == registry])

    async def propose_parameters(self, registry: str, parameters: Parameters) -> Proposal:
        """Proposes other stake parameters."""
        return await self._propose(registry, calls.governance.change_parameters(self._package, parameters))

    async def propose_limits(self, registry: str, limits: Limits) -> Proposal:
        """Proposes other time limits."""
        return await self._propose(registry, calls.governance.change_limits(self._package, limits))

    async def propose_measurement(self, registry: str, pcrs: calls.Pcrs) -> Proposal:
        """Proposes to allow one more enclave image."""
        return await self._propose(registry, calls.governance.allow_measurement(self._package, pcrs))

    async def propose_retirement(self, registry: str, version: int) -> Proposal:
        """Proposes to allow an enclave image no more."""
        return await self._propose(registry, calls.governance.retire_measurement(self._package, version))

    async def propose_policy(self, registry: str, policy: bytes) -> Proposal:
        """Proposes another policy for enclaves to attest, 32 bytes."""
        return await self._propose(registry, calls.governance.change_policy(self._package, policy))

    async def propose_spending(self, registry: str, amount_mist: int, recipient: str) -> Proposal:
        """Proposes to pay somebody out of the treasury."""
        return await self._propose(registry, calls.governance.spend_treasury(self._package, amount_mist, recipient))

    async def vote(self, proposal: Proposal, *, approve: bool) -> Effects:
        """Votes with all the signer's stake that counts; final."""
        pool, _ = await self._ledger.places(proposal.registry)
        return await self._ledger.run(calls.governance.vote(self._package, proposal.address, pool, approve=approve))

    async def execute(self, proposal: Proposal) -> Effects:
        """Carries an accepted proposal out, after its waiting time."""
        pool, _ = await self._ledger.places(proposal.registry)
        return await self._ledger.run(
            calls.governance.execute(self._package, proposal.address, proposal.registry, pool)
        )

    async def _propose(self, registry: str, action: calls.governance.ActionCalls) -> Proposal:
        pool, _ = await self._ledger.places(registry)
        commands = calls.governance.propose(self._package, normal_address(registry), pool, action)
        effects = await self._ledger.run(*commands)
        return await self.proposal(effects.only(ProposalCreated).proposal)

    @property
    def _package(self) -> str:
        return self._ledger.required_package()
