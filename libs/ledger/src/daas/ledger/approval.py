"""Who may have a key, by the Move policies on the ledger: what Seal key servers ask before they hand one out.

`MoveApprovals` has the shape of `daas.seal.server.PolicyEvaluator` and knows nothing of that library: the two verdicts
are classes that the caller gives. Nothing here decides about access: the calls of the request are simulated on a full
node, as the user, with the current versions of all objects, and what the package says counts.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from daas.common.errors import DecodeError, InvalidInput, NotFound, Unavailable
from daas.ledger.address import format_address, parse_address
from daas.ledger.aliases import aliases_id
from daas.ledger.connection import Connection
from daas.ledger.errors import ExecutionError, MoveAbortError, RpcRefused, StaleObject
from daas.ledger.transaction import Argument, MoveCall, Object, Pure

Approved = TypeVar("Approved")
Denied = TypeVar("Denied")

#: As many calls as Seal allows in one request.
MAX_CALLS: Final = 100


class ApproveCall(Protocol):
    """One call of a request: the first argument is the inner id. Inputs have `value`, or `object_id`."""

    @property
    def module(self) -> str:
        """Its module."""
        ...

    @property
    def function(self) -> str:
        """Its function."""
        ...

    @property
    def type_arguments(self) -> Sequence[bytes]:
        """BCS of each."""
        ...

    @property
    def arguments(self) -> Sequence[object]:
        """All of them."""
        ...


class ApproveTransaction(Protocol):
    """The calls of a request, all into one package (32 bytes)."""

    @property
    def package_id(self) -> bytes:
        """Its id."""
        ...

    @property
    def calls(self) -> Sequence[ApproveCall]:
        """In order."""
        ...


class Question(Protocol):
    """What a key server asks; `sender` is the user's address, 32 bytes."""

    @property
    def transaction(self) -> ApproveTransaction:
        """The calls."""
        ...

    @property
    def sender(self) -> bytes:
        """As whom they are simulated."""
        ...


class MoveApprovals(Generic[Approved, Denied]):
    """Answers for one package, ours, at one version.

    Args:
        ledger: a connection that knows the package; it needs no signer.
        approved: makes the verdict of a time: ms since the epoch of the ledger's state that says so.
        denied: makes the verdict of a reason (the abort's name) and such a time.
        names: package ids behind names of the Move registry; by default none is known.
        single_operator: the ledger is a simulated one, which makes checkpoints only for transactions: whenever it
            answers its state is that of the moment. Never so for a network.
    """

    def __init__(
        self,
        ledger: Connection,
        approved: Callable[[int], Approved],
        denied: Callable[[str, int], Denied],
        *,
        names: dict[str, bytes] | None = None,
        single_operator: bool = False,
    ) -> None:
        self._ledger = ledger
        self._approved = approved
        self._denied = denied
        self._names = dict(names or {})
        self._single_operator = single_operator

    async def first_package_id(self, package_id: bytes) -> bytes:
        """The package's first version, after which what is sealed under it is named: no other package is served.

        Raises:
            NotFound: `package-missing`.
        """
        versions = {self._ledger.required_package(), self._ledger.original_package()}
        if format_address(package_id) not in versions:
            raise NotFound("keys are given out for one package only, which is another one", reason="package-missing")
        return parse_address(self._ledger.original_package())

    async def package_of_name(self, name: str) -> bytes:
        """Id of the package behind a name.

        Raises:
            NotFound: `name-missing`.
        """
        if name not in self._names:
            raise NotFound("no package of that name is known here", reason="name-missing")
        return self._names[name]

    async def has_aliases(self, address: bytes) -> bool:
        """Whether the ledger says that other keys than its own may sign for an account (32 bytes).

        Raises:
            Unavailable: no full node answers, and so nobody gets a key.
        """
        return await self._ledger.contents(aliases_id(address)) is not None

    async def evaluate(self, request: Question) -> Approved | Denied:
        """Simulates the calls; the first that aborts is the reason of a denial.

        Raises:
            InvalidInput: `simulation-refused`: there is no such function, or its arguments are others.
            NotFound: an object does not exist (perhaps not yet).
            Unavailable: no full node answers, or one answers nonsense.
        """
        package = format_address(request.transaction.package_id)
        if package != self._ledger.required_package():
            raise InvalidInput("the calls go into another package", reason="simulation-refused")
        calls = [_move_call(package, call) for call in request.transaction.calls[: MAX_CALLS + 1]]
        if not 0 < len(calls) <= MAX_CALLS:
            raise InvalidInput(f"a request has 1 to {MAX_CALLS} calls", reason="simulation-refused")
        try:
            state_ms, failure = await self._ledger.simulate(calls, format_address(request.sender))
        except (RpcRefused, StaleObject) as error:
            raise InvalidInput(
                f"the full node takes no such calls: {error.status}", reason="simulation-refused"
            ) from None
        except DecodeError as error:
            raise Unavailable(f"the full node's answer can't be read: {error.message}", reason="node-answer") from None
        if self._single_operator:
            state_ms = time.time_ns() // 1_000_000
        if isinstance(failure, MoveAbortError):
            return self._denied(failure.name or failure.reason, state_ms)
        if isinstance(failure, ExecutionError):
            raise InvalidInput(f"the calls can't be made: {failure.reason}", reason="simulation-refused")
        return self._approved(state_ms)


def _move_call(package: str, call: ApproveCall) -> MoveCall:
    if call.type_arguments:
        raise InvalidInput("no approving function of this package takes types", reason="simulation-refused")
    return MoveCall(package, call.module, call.function, tuple(_argument(each) for each in call.arguments))


def _argument(value: object) -> Argument:
    """Objects are named by id alone: the versions in the request are the client's."""
    pure, object_id = getattr(value, "value", None), getattr(value, "object_id", None)
    if isinstance(pure, bytes) and object_id is None:
        return Pure(pure)
    if isinstance(object_id, bytes) and pure is None:
        return Object(format_address(object_id))
    raise InvalidInput("an argument is neither a value nor an object", reason="simulation-refused")
