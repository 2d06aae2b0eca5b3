"""Several full nodes as one: what one of them can't answer, the next one is asked.

Only absence moves on to the next node (`RpcUnavailable`), and the node that was away is asked last from then on: a
refusal is an answer. Sending a signed transaction to a second node is safe, since the same bytes have the same fate
everywhere. All nodes must be of one chain: no failover changes whom one trusts.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Self, TypeVar

from daas.common.errors import ConfigurationError, DecodeError
from daas.ledger.checkpoints import Checkpoint
from daas.ledger.errors import ExecutionError, RpcError, RpcUnavailable
from daas.ledger.event import Event
from daas.ledger.models import Balance, Effects, Epoch, LedgerObject, SignedTransaction
from daas.ledger.package import Lineage

if TYPE_CHECKING:
    from daas.ledger._pysui import FullNode

T = TypeVar("T")

#: More would only make an outage of all of them take longer to notice.
MAX_NODES: Final = 16
#: A node whose stream says nothing for this long is given up: checkpoints come several times a second on a network.
STREAM_SILENCE_S: Final = 20.0


def split_urls(urls: str | Sequence[str]) -> tuple[str, ...]:
    """The nodes of a setting: separated by commas, or one by one.

    Raises:
        ConfigurationError: `ledger-url`: none, one twice, or more than `MAX_NODES`.
    """
    found = tuple(url.strip() for url in (urls.split(",") if isinstance(urls, str) else urls) if url.strip())
    if not 0 < len(found) <= MAX_NODES or len(set(found)) != len(found):
        raise ConfigurationError(
            f"expected 1 to {MAX_NODES} different full nodes, not {len(found)} names", reason="ledger-url"
        )
    return found


class FullNodes:
    """Nodes of one chain, asked in turn from the one that has not failed since. Use `connect`."""

    def __init__(self, nodes: Sequence["FullNode"]) -> None:
        self._nodes = tuple(nodes)
        self._first = 0
        self._streams = 0
        self._of_chain: set[int] = set()
        self.chain = b""

    @classmethod
    async def connect(cls, urls: str | Sequence[str], timeout_ms: int) -> Self:
        """Asks every node for its chain; those that are away are asked again when they are needed.

        Raises:
            RpcUnavailable: none answers.
            RpcError: one is no Sui full node.
            ConfigurationError: `ledger-url`; `ledger-chain` where they are of different chains.
        """
        from daas.ledger._pysui import FullNode  # noqa: PLC0415 - 35 MB that only a connection needs

        nodes = cls([FullNode(url, timeout_ms) for url in split_urls(urls)])
        try:
            await nodes._learn_chain()
        except BaseException:
            nodes.close()
            raise
        return nodes

    async def _learn_chain(self) -> None:
        digests = await asyncio.gather(*(node.chain_digest() for node in self._nodes), return_exceptions=True)
        for index, digest in enumerate(digests):
            if isinstance(digest, bytes):
                self.chain = self.chain or digest
                self._of_chain.add(index)
                if digest != self.chain:
                    raise ConfigurationError(
                        f"{self._nodes[index].url} is of another chain than the other nodes", reason="ledger-chain"
                    )
            elif not isinstance(digest, RpcUnavailable):
                raise digest
        if not self._of_chain:
            assert isinstance(digests[0], BaseException)
            raise digests[0]
        self._first = min(self._of_chain)

    @property
    def calls(self) -> int:
        """How many calls have been made, of all nodes together."""
        return sum(node.calls for node in self._nodes)

    def close(self) -> None:
        """Closes all connections."""
        for node in self._nodes:
            node.close()

    async def epoch(self) -> Epoch:
        """The current epoch and its reference gas price."""
        return await self._ask(lambda node: node.epoch())

    async def lineage(self, package: str) -> Lineage | None:
        """A package and its versions; None where no node that answers knows of it."""
        return await self._find(lambda node: node.lineage(package))

    async def balance(self, owner: str) -> Balance:
        """What an address has."""
        return await self._ask(lambda node: node.balance(owner))

    async def object(self, object_id: str) -> LedgerObject | None:
        """The object at its current version; None where there is none."""
        return await self._ask(lambda node: node.object(object_id))

    async def owned(self, owner: str, object_type: str, limit: int) -> list[LedgerObject]:
        """At most `limit` objects of one type that an address owns."""
        return await self._ask(lambda node: node.owned(owner, object_type, limit))

    async def field_objects(self, parent: str, limit: int) -> list[LedgerObject]:
        """At most `limit` dynamic fields of an object, a table for example."""
        return await self._ask(lambda node: node.field_objects(parent, limit))

    async def newest_events(self, event_type: str, limit: int, package: Lineage | None) -> tuple[Event, ...]:
        """At most `limit` events of one type, newest first."""
        return await self._ask(lambda node: node.newest_events(event_type, limit, package))

    async def latest_checkpoint(self) -> int:
        """Sequence number of the newest checkpoint, by the first node that answers."""
        return await self._ask(lambda node: node.latest_checkpoint())

    async def checkpoint(self, sequence: int, package: Lineage | None) -> Checkpoint | None:
        """A checkpoint; None where no node that answers has it."""
        return await self._find(lambda node: node.checkpoint(sequence, package))

    async def subscribe_checkpoints(self, package: Lineage | None) -> AsyncGenerator[Checkpoint, None]:
        """Checkpoints as one node announces them; each subscription asks another node than the one before.

        Raises:
            RpcUnavailable: the node ended the stream, or was silent for `STREAM_SILENCE_S`.
        """
        index = (self._first + self._streams) % len(self._nodes)
        self._streams += 1
        node = await self._node(index)
        async with contextlib.aclosing(node.subscribe_checkpoints(package, STREAM_SILENCE_S)) as stream:
            async for checkpoint in stream:
                yield checkpoint

    async def execute(self, transaction: SignedTransaction, package: Lineage | None) -> Effects:
        """Sends the transaction and waits for its effects, which are final.

        Raises:
            RpcUnavailable: its fate is unknown, also where one node was lost on the way and another one refuses: the
                first may have taken it. The next attempt begins with the other one.
        """
        lost: list[RpcUnavailable] = []

        async def send(node: "FullNode") -> Effects:
            try:
                return await node.execute(transaction, package)
            except RpcUnavailable as error:
                lost.append(error)
                raise

        try:
            return await self._ask(send)
        except (RpcError, DecodeError):
            if lost:
                raise lost[0] from None
            raise

    async def transaction(self, digest: str, package: Lineage | None) -> Effects | None:
        """A transaction that was executed; None where no node that answers knows of it."""
        return await self._find(lambda node: node.transaction(digest, package))

    async def view(self, transaction: bytes, package: Lineage | None) -> Sequence[bytes]:
        """Runs a transaction without committing it: the BCS of what its last command returns."""
        return await self._ask(lambda node: node.view(transaction, package))

    async def simulate(self, transaction: bytes, package: Lineage | None) -> tuple[int, ExecutionError | None]:
        """Time of a state of one node (ms), and how a transaction fares in that state or a newer one of that node."""

        async def ask(node: "FullNode") -> tuple[int, ExecutionError | None]:
            state_ms = await node.state_ms()
            try:
                await node.view(transaction, package)
            except ExecutionError as error:
                return state_ms, error
            return state_ms, None

        return await self._ask(ask)

    async def _ask(self, call: Callable[["FullNode"], Awaitable[T]]) -> T:
        """The first answer.

        Raises:
            RpcUnavailable: no node answers.
        """
        return await self._until(call, lambda _answer: True)

    async def _find(self, call: Callable[["FullNode"], Awaitable[T | None]]) -> T | None:
        """The first answer that is something: a node that lags knows less than the others.

        Raises:
            RpcUnavailable: no node answers.
        """
        return await self._until(call, lambda answer: answer is not None)

    async def _until(self, call: Callable[["FullNode"], Awaitable[T]], enough: Callable[[T], bool]) -> T:
        answers: list[T] = []
        failures: list[RpcUnavailable] = []
        first = self._first
        for offset in range(len(self._nodes)):
            index = (first + offset) % len(self._nodes)
            try:
                answer = await call(await self._node(index))
            except RpcUnavailable as error:
                failures.append(error)
                if index == self._first:
                    self._first = (index + 1) % len(self._nodes)
                continue
            if enough(answer):
                return answer
            answers.append(answer)
        if answers:
            return answers[0]
        raise failures[0]

    async def _node(self, index: int) -> "FullNode":
        """The node, once it is known to be of this chain."""
        node = self._nodes[index]
        if index not in self._of_chain:
            if await node.chain_digest() != self.chain:
                raise RpcUnavailable(
                    f"{node.url} is of another chain than the other nodes", reason="node-chain", status="UNAVAILABLE"
                )
            self._of_chain.add(index)
        return node
