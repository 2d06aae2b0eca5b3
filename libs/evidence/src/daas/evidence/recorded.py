"""The ledger's answers as a file has them: held to the rest of the file, and never taken for the ledger's own."""

import msgspec

from daas.common.errors import DaasError, NotFound
from daas.evidence.anchors import AnchorSource, LedgerTransaction
from daas.evidence.bundle import Case, Record
from daas.placement import Policy


class RecordedLedger:
    """A file's record in the place of a ledger.

    Args:
        record: what the file has.
    """

    def __init__(self, record: Record) -> None:
        self._record = record

    async def chain(self) -> str:
        """The chain that was asked."""
        return self._record.chain

    async def transaction(self, digest: str) -> LedgerTransaction:
        """A transaction that was asked for.

        Raises:
            NotFound: `not-recorded`.
        """
        for transaction in self._record.transactions:
            if transaction.digest == digest:
                return transaction
        raise NotFound(f"transaction {digest} is not in the file's record", reason="not-recorded")


async def record_of(case: Case, source: AnchorSource, policy: Policy) -> Record:
    """What the ledger says about a case now.

    Raises:
        NotFound: it has no such transaction. Unavailable: it does not answer.
    """
    bundle = case.bundle
    digests = dict.fromkeys((bundle.registered.tx_digest, bundle.anchored.tx_digest))
    return Record(
        chain=await source.chain(),
        policy=msgspec.to_builtins(policy),
        transactions=tuple([await source.transaction(digest) for digest in digests]),
    )


def record_defects(case: Case) -> tuple[str, ...]:
    """What is wrong with the rules in a file: they must be those that the batch committed to."""
    if case.record is None:
        return ()
    try:
        said, signed = msgspec.convert(case.record.policy, Policy).digest().hex(), case.bundle.decision().header.policy
    except (msgspec.ValidationError, DaasError, ValueError) as error:
        return (f"the file's policy is none: {error}",)
    return () if said == signed else (f"the file's policy hashes to {said}, the batch commits to {signed}",)
