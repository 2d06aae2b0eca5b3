"""The enclave's keys: one signs, and while a registration is being renewed the next one waits beside it.

Each registration has a key of its own, so that a key lives no longer than the document that vouches for it. The old
key signs until the ledger has accepted the new one: the chain of decisions knows no gap. All are in memory only.
"""

from dataclasses import dataclass
from typing import Final

from daas.attestation import NsmClient
from daas.common.messages import EnclaveRegistered
from daas.enclave.identity import Identity

#: Keys of the past whose anchors are still recognised as this instance's: more than can be in flight at once.
_PAST_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Registered:
    """A key with the registration that lets it sign, and the end of the certificate that vouched for it."""

    identity: Identity
    fact: EnclaveRegistered
    leaf_not_after_ms: int


class Keys:
    """What may sign now, and what may sign next.

    Attributes:
        active: the key that signs; None before the first registration and after a revocation.
        candidate: attested, or about to be, and not registered yet.
    """

    def __init__(self, nsm: NsmClient) -> None:
        self._nsm = nsm
        self._own: dict[str, None] = {}
        self.active: Registered | None = None
        self.candidate: Identity | None = None

    def make(self) -> Identity:
        """A fresh candidate in place of any other."""
        self.candidate = Identity(self._nsm)
        self._own[self.candidate.public_key] = None
        while len(self._own) > _PAST_MAX:
            del self._own[next(iter(self._own))]
        return self.candidate

    def is_own(self, public_key: str) -> bool:
        """Whether a key was made by this instance."""
        return public_key in self._own

    def registered(self, fact: EnclaveRegistered, leaf_not_after_ms: int) -> bool:
        """Lets the candidate sign from now on; False where the fact is about another key."""
        if self.candidate is None or self.candidate.public_key != fact.public_key:
            return False
        self.active = Registered(self.candidate, fact, leaf_not_after_ms)
        self.candidate = None
        return True
