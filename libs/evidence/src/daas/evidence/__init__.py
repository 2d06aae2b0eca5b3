"""Evidence bundles and the checks that a stranger makes on them.

This face is light: what verifies (cryptography, the scheduler) stands in `daas.evidence.verify` and `.trust`.
"""

from daas.evidence.anchors import AnchoredEvent, AnchorSource, LedgerTransaction, RegisteredEvent
from daas.evidence.bundle import (
    Case,
    DecodedFile,
    EvidenceBundle,
    RawEntry,
    Segment,
    Snapshot,
    case_of,
    decode_bundle,
    decode_file,
    encode_bundle,
    encode_file,
)
from daas.evidence.layout import Keys, Manifest, PodDecision
from daas.evidence.report import Check, Outcome, Report
from daas.evidence.store import EvidenceStore

__all__ = [
    "AnchorSource",
    "AnchoredEvent",
    "Case",
    "Check",
    "DecodedFile",
    "EvidenceBundle",
    "EvidenceStore",
    "Keys",
    "LedgerTransaction",
    "Manifest",
    "Outcome",
    "PodDecision",
    "RawEntry",
    "RegisteredEvent",
    "Report",
    "Segment",
    "Snapshot",
    "case_of",
    "decode_bundle",
    "decode_file",
    "encode_bundle",
    "encode_file",
]
