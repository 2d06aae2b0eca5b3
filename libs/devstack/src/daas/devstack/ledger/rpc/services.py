"""The `sui.rpc.v2` services over one ledger, as grpclib takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from daas.common.errors import DaasError
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.base import SERVER, EncodedCodec, Streaming, Unary
from daas.devstack.ledger.rpc.execution_service import ExecutionService
from daas.devstack.ledger.rpc.history import History
from daas.devstack.ledger.rpc.ledger_service import LedgerService
from daas.devstack.ledger.rpc.package_service import PackageService
from daas.devstack.ledger.rpc.state_service import StateService
from daas.devstack.ledger.rpc.subscriptions import Subscriptions

_PREFIX = "/sui.rpc.v2."


class Services:
    """All services of one ledger; `failures` counts requests that ended in an error of the ledger's own."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.failures = 0

    def __mapping__(self) -> dict[str, Handler]:
        """Handlers by method path."""
        ledger_service = LedgerService(self.ledger)
        groups = (ledger_service, StateService(self.ledger), PackageService(self.ledger), ExecutionService(self.ledger))
        handlers = {}
        for group in groups:
            for path, method in group.methods().items():
                handlers[_PREFIX + path] = _handler(path, self._unary(method), Cardinality.UNARY_UNARY)
        for streams in (History(self.ledger, ledger_service), Subscriptions(self.ledger, ledger_service)):
            for path, stream in streams.methods().items():
                handlers[_PREFIX + path] = _handler(path, self._streaming(stream), Cardinality.UNARY_STREAM)
        return handlers

    def _unary(self, method: Unary) -> Callable[[Any], Awaitable[None]]:
        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            try:
                answer = method(request)
            except DaasError as error:
                raise GRPCError(Status.INVALID_ARGUMENT, error.message) from error
            except GRPCError:
                raise
            except Exception as error:
                self.failures += 1
                raise GRPCError(Status.INTERNAL, f"{type(error).__name__} in {method.__name__}") from error
            await stream.send_message(answer)

        return handle

    def _streaming(self, method: Streaming) -> Callable[[Any], Awaitable[None]]:
        async def handle(stream: Any) -> None:
            try:
                await method(stream)
            except DaasError as error:
                raise GRPCError(Status.INVALID_ARGUMENT, error.message) from error

        return handle


def _handler(path: str, handle: Callable[[Any], Awaitable[None]], cardinality: Cardinality) -> Handler:
    name = path.partition("/")[2]
    return Handler(handle, cardinality, getattr(proto, name + "Request"), getattr(proto, name + "Response"))


__all__ = ["SERVER", "EncodedCodec", "Services"]
