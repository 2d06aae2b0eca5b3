"""What a key server asks of the ledger, as a protocol: who may have a key is decided there and nowhere else.

An implementation simulates the transaction on a full node (`SimulateTransaction`) with the user as sender, no gas coin,
and the current versions of all objects; nothing is executed and nothing is random. `daas.seal` has none of its own: it
does not talk to the ledger.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from daas.common.errors import InvalidInput, NotFound, Unavailable
from daas.seal.ptb import InvalidPtb, ParsedPtb
from daas.seal.server.refusal import Refusal

_CACHED_PACKAGES_MAX: Final = 1000
_CACHED_PACKAGES_MS: Final = 3_600_000


class PolicyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question.

    Attributes:
        ptb: BCS of the ProgrammableTransaction, as the client sent it.
        transaction: the same, read: it keeps the rules of `daas.seal.ptb`. Versions of objects in it are the client's:
            evaluate with the current ones.
        sender: the user's address, 32 bytes: the transaction's sender.
        session_key: Ed25519 public key of the session that asks, 32 bytes: a right can be bound to it.
        allowed_staleness_ms: how old the state may be that decides.
    """

    ptb: bytes
    transaction: ParsedPtb
    sender: bytes
    session_key: bytes
    allowed_staleness_ms: int


class Approval(msgspec.Struct, frozen=True):
    """Every call returned. `checkpoint_ms` is the time of the ledger's state that said so, ms since the epoch."""

    checkpoint_ms: int


class Denial(msgspec.Struct, frozen=True):
    """A call aborted: `reason` says why, for the user. `checkpoint_ms` as in Approval."""

    reason: str
    checkpoint_ms: int


class PolicyEvaluator(Protocol):
    """A view of the ledger. Every method may raise `Unavailable` when no full node answers."""

    async def first_package_id(self, package_id: bytes) -> bytes:
        """Id of the first version of a package.

        Raises:
            NotFound: there is no such package.
        """
        ...

    async def package_of_name(self, name: str) -> bytes:
        """Id of the first version of the package behind a name of the Move registry.

        Raises:
            NotFound: there is no such name, or this evaluator knows none.
        """
        ...

    async def has_aliases(self, address: bytes) -> bool:
        """Whether other keys than its own may sign for an address: a certificate of such a user proves nothing."""
        ...

    async def evaluate(self, request: PolicyRequest) -> Approval | Denial:
        """Simulates the calls.

        Raises:
            InvalidPtb: there is no such function, or its arguments have other types.
            InvalidInput, NotFound: an object or a parameter is not known (perhaps not yet).
        """
        ...


class Policies:
    """An evaluator behind a time limit, a bound on staleness and a cache of first package ids; its errors as refusals.

    Args:
        evaluator: the ledger.
        clock: ms since the epoch.
        timeout_ms: for one question.
        allowed_staleness_ms: how old the ledger's state may be that approves or denies.
    """

    def __init__(
        self, evaluator: PolicyEvaluator, clock: Callable[[], int], *, timeout_ms: int, allowed_staleness_ms: int
    ) -> None:
        self._evaluator = evaluator
        self._clock = clock
        self._timeout_s = timeout_ms / 1000
        self._allowed_staleness_ms = allowed_staleness_ms
        self._first_ids: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()

    async def first_package_id(self, package_id: bytes) -> bytes:
        """Id of the first version of a package, remembered for an hour.

        Raises:
            Refusal: `InvalidPackage`, `Failure`.
        """
        known = self._first_ids.get(package_id)
        if known is not None and self._clock() < known[1]:
            return known[0]
        try:
            async with asyncio.timeout(self._timeout_s):
                first = await self._evaluator.first_package_id(package_id)
        except (NotFound, InvalidInput):
            raise Refusal("InvalidPackage") from None
        except (Unavailable, TimeoutError):
            raise Refusal("Failure") from None
        self._first_ids[package_id] = (first, self._clock() + _CACHED_PACKAGES_MS)
        self._first_ids.move_to_end(package_id)
        if len(self._first_ids) > _CACHED_PACKAGES_MAX:
            self._first_ids.popitem(last=False)
        return first

    async def check_name(self, name: str, first_package_id: bytes) -> None:
        """Holds a name to the package it is said to mean.

        Raises:
            Refusal: `InvalidMVRName`, `Failure`.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                package = await self._evaluator.package_of_name(name)
        except (NotFound, InvalidInput):
            raise Refusal("InvalidMVRName") from None
        except (Unavailable, TimeoutError):
            raise Refusal("Failure") from None
        if package != first_package_id:
            raise Refusal("InvalidMVRName")

    async def check_aliases(self, address: bytes) -> None:
        """Refuses users for whom other keys may sign.

        Raises:
            Refusal: `InvalidSignature`, `Failure`.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                aliases = await self._evaluator.has_aliases(address)
        except (Unavailable, TimeoutError):
            raise Refusal("Failure") from None
        if aliases:
            raise Refusal("InvalidSignature")

    async def check_access(self, request: PolicyRequest) -> None:
        """Returns if the policy approves.

        Raises:
            Refusal: `NoAccess` with the policy's reason, `InvalidPTB`, `InvalidParameter`; `Failure` where the ledger
                is away, slow or behind.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                verdict = await self._evaluator.evaluate(request)
        except InvalidPtb:
            raise Refusal("InvalidPTB") from None
        except (NotFound, InvalidInput):
            raise Refusal("InvalidParameter") from None
        except (Unavailable, TimeoutError):
            raise Refusal("Failure") from None
        # A state that is too old decides nothing, neither for nor against.
        if self._clock() - verdict.checkpoint_ms > self._allowed_staleness_ms:
            raise Refusal("Failure")
        if isinstance(verdict, Denial):
            raise Refusal("NoAccess", verdict.reason)
