"""`TransactionExecutionService`, `SignatureVerificationService` and the empty `NameService`."""

from __future__ import annotations

from typing import Any

import pysui.sui.sui_grpc.suimsgs.sui.rpc.v2 as proto
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from daas.devstack.ledger.errors import TransactionRefusedError
from daas.devstack.ledger.gas import GAS_PRICE
from daas.devstack.ledger.ledger import Ledger
from daas.devstack.ledger.rpc.base import Unary, mask_for
from daas.devstack.ledger.rpc.requests import transaction_of
from daas.devstack.ledger.signatures import PERSONAL_MESSAGE_INTENT, TRANSACTION_INTENT, signer_of
from daas.devstack.ledger.type_tags import format_address, parse_address
from daas.devstack.ledger.wire import build, prune

_INTENTS = {"PersonalMessage": PERSONAL_MESSAGE_INTENT, "TransactionData": TRANSACTION_INTENT}


class ExecutionService:
    """Executes and simulates transactions, and verifies signatures."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def methods(self) -> dict[str, Unary]:
        """Methods by path."""
        return {
            "TransactionExecutionService/SimulateTransaction": self._simulate_transaction,
            "TransactionExecutionService/ExecuteTransaction": self._execute_transaction,
            "SignatureVerificationService/VerifySignature": self._verify_signature,
            "NameService/LookupName": self._no_names,
            "NameService/ReverseLookupName": self._no_names,
        }

    def _execute_transaction(self, request: Any) -> bytes:
        mask = mask_for(proto.ExecutedTransaction, request, ("effects.status", "checkpoint"))
        if request.transaction is None or request.transaction.bcs is None or not request.transaction.bcs.value:
            raise TransactionRefusedError("expected the transaction's BCS", field="transaction.bcs")
        signatures = [s.bcs.value for s in request.signatures if s.bcs is not None and s.bcs.value]
        if len(signatures) != len(request.signatures):
            raise TransactionRefusedError("expected each signature's bytes in its bcs", field="signatures")
        executed = self.ledger.execute(request.transaction.bcs.value, signatures)
        return build(proto.ExecuteTransactionResponse, transaction=prune(proto.ExecutedTransaction, executed, mask))

    def _simulate_transaction(self, request: Any) -> bytes:
        mask = mask_for(proto.SimulateTransactionResponse, request, ("*",))
        transaction = transaction_of(request.transaction, self.ledger.object)
        simulation = self.ledger.simulate(transaction, checked=int(request.checks or 0) == 0)
        response = build(
            proto.SimulateTransactionResponse,
            transaction=simulation.executed,
            command_outputs=[
                build(
                    proto.CommandResult,
                    return_values=[
                        build(proto.CommandOutput, value=build(proto.Bcs, name=name, value=value))
                        for name, value in results
                    ],
                )
                for results in simulation.outputs
            ],
            suggested_gas_price=GAS_PRICE,
        )
        return prune(proto.SimulateTransactionResponse, response, mask)

    def _verify_signature(self, request: Any) -> bytes:
        message = request.message
        intent = _INTENTS.get((message.name or "") if message is not None else "")
        if intent is None:
            raise TransactionRefusedError("expected a PersonalMessage or TransactionData", field="message.name")
        signature = request.signature.bcs.value if request.signature is not None and request.signature.bcs else None
        if not signature:
            raise TransactionRefusedError("expected the signature's bytes in its bcs", field="signature")
        try:
            signer = signer_of(signature, intent + (message.value or b""))
        except TransactionRefusedError as error:
            return build(proto.VerifySignatureResponse, is_valid=False, reason=error.message)
        if request.address and parse_address(request.address) != signer:
            reason = f"signed by {format_address(signer)}, not by {request.address}"
            return build(proto.VerifySignatureResponse, is_valid=False, reason=reason)
        return build(proto.VerifySignatureResponse, is_valid=True)

    def _no_names(self, _request: Any) -> bytes:
        raise GRPCError(Status.NOT_FOUND, "the simulated ledger has no name service")
