"""What verification says: one result per check, and a verdict that nothing can talk its way around."""

from enum import StrEnum

import msgspec

Figure = str | int | bool | None


class Outcome(StrEnum):
    """How a check ended. What could not be made has failed; `unchecked` exists only for callers that asked for it."""

    PASSED = "passed"
    FAILED = "failed"
    UNCHECKED = "unchecked"


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check.

    Attributes:
        name: stable, for programs and for people.
        outcome: passed, failed, or unchecked.
        compared: one sentence: what was compared with what, or why it could not be.
        figures: the values, for those who want to compare themselves.
    """

    name: str
    outcome: Outcome
    compared: str
    figures: dict[str, Figure] = {}

    @property
    def passed(self) -> bool:
        """Whether the check was made and held."""
        return self.outcome is Outcome.PASSED


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of one subject.

    Attributes:
        subject: `batch 7` or `pod default/web-0`.
        sequence: the batch; None where no evidence was found.
        simulated: the enclave is a development stand-in, so that the attestation proves nothing about hardware.
        offline: the caller gave up the ledger's checks explicitly.
        checks: every check, in the order in which they were made.
    """

    subject: str
    sequence: int | None
    simulated: bool | None
    offline: bool
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed; unchecked ones count as failed unless offline was asked for."""
        accepted = {Outcome.PASSED, Outcome.UNCHECKED} if self.offline else {Outcome.PASSED}
        return bool(self.checks) and all(check.outcome in accepted for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that keep the report from being ok."""
        accepted = {Outcome.PASSED, Outcome.UNCHECKED} if self.offline else {Outcome.PASSED}
        return tuple(check.name for check in self.checks if check.outcome not in accepted)


def passed(name: str, compared: str, **figures: Figure) -> Check:
    """A check that was made and held."""
    return Check(name=name, outcome=Outcome.PASSED, compared=compared, figures=figures)


def failed(name: str, compared: str, **figures: Figure) -> Check:
    """A check that did not hold, or could not be made."""
    return Check(name=name, outcome=Outcome.FAILED, compared=compared, figures=figures)


def unchecked(name: str, compared: str) -> Check:
    """A check that was not made because there was nothing to make it with."""
    return Check(name=name, outcome=Outcome.UNCHECKED, compared=compared)
