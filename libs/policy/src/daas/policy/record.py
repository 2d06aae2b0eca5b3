"""Access decisions on the bus: from a question to what is decided and recorded, and the check that a stranger makes."""

from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common.access import AccessRecord, PolicyDecided, Question, ResourceRequest
from daas.common.errors import Refused
from daas.policy.decision import AccessDecision
from daas.policy.errors import RequestError
from daas.policy.evaluator import Answer, Evaluator, Outcome
from daas.policy.policies import PolicySet
from daas.policy.request import AccessRequest, Address, ResourceClass, UrlPath
from daas.policy.tiers import sui_from_mist

USER_PREFIX = "sui:"
#: A decision is acted on at once and remembered for seconds; an API server remembers it for 30 s at most.
LIFE_MS = 30_000


def request_of(question: Question) -> AccessRequest:
    """The question as policies see it; the name of the object and the groups of the user are not part of it.

    Raises:
        RequestError: `unknown-principal` for a user who is no Sui address, or as `AccessRequest.check`.
    """
    if not question.user.startswith(USER_PREFIX):
        raise RequestError(
            f"{question.user[:64]!r} is no account: {USER_PREFIX}0x...", reason="unknown-principal", field="user"
        )
    asked = question.request
    request = AccessRequest(
        principal=Address(
            address=question.user.removeprefix(USER_PREFIX), stake_sui=sui_from_mist(question.stake_mist)
        ),
        verb=asked.verb,
        target=_target(asked),
        timestamp_ms=question.time_ms,
    )
    request.check()
    return request


def _target(asked: ResourceRequest | AccessRecord) -> ResourceClass | UrlPath:
    """What it is about. Raises RequestError where it names both a path and a resource."""
    named = (asked.group, asked.resource, asked.subresource, asked.namespace)
    if not asked.path:
        group, resource, subresource, namespace = named
        return ResourceClass(group=group, resource=resource, subresource=subresource, namespace=namespace)
    if any(named):
        raise RequestError("a path is no resource", reason="request-name", field="path")
    return UrlPath(path=asked.path)


def record_of(question: Question, request: AccessRequest, decision: AccessDecision, signature: bytes) -> AccessRecord:
    """The record of a signed decision about an account and a class of resources or a path."""
    principal, target = request.principal, request.target
    assert isinstance(principal, Address), "questions come from accounts"
    path = target.path if isinstance(target, UrlPath) else ""
    resource = target if isinstance(target, ResourceClass) else ResourceClass(resource="")
    return AccessRecord(
        account=principal.address,
        stake_sui=principal.stake_sui,
        stake_version=question.stake_version,
        verb=request.verb,
        path=path,
        group=resource.group,
        resource=resource.resource,
        subresource=resource.subresource,
        namespace=resource.namespace,
        timestamp_ms=request.timestamp_ms,
        log_sequence=decision.log_sequence,
        allowed=decision.answer.allowed,
        outcome=decision.answer.outcome.value,
        policies=decision.answer.policies,
        expires_ms=decision.expires_ms,
        signature=signature.hex(),
    )


class Decided(NamedTuple):
    """A record's question and decision, as they were signed."""

    request: AccessRequest
    decision: AccessDecision


def decided(fact: PolicyDecided, record: AccessRecord) -> Decided:
    """What a record says was asked and decided.

    Raises:
        RequestError: no question is like that.
        Refused: `access-outcome`.
    """
    request = AccessRequest(
        principal=Address(address=record.account, stake_sui=record.stake_sui),
        verb=record.verb,
        target=_target(record),
        timestamp_ms=record.timestamp_ms,
    )
    request.check()
    if record.outcome not in {outcome.value for outcome in Outcome}:
        raise Refused(f"{record.outcome!r} is no outcome", reason="access-outcome", field="outcome")
    decision = AccessDecision(
        chain=bytes.fromhex(fact.chain),
        registry=bytes.fromhex(fact.registry[2:]),
        policy=bytes.fromhex(fact.policy),
        request=request.digest(),
        log_sequence=record.log_sequence,
        answer=Answer(allowed=record.allowed, outcome=Outcome(record.outcome), policies=record.policies),
        expires_ms=record.expires_ms,
    )
    return Decided(request, decision)


def verify(fact: PolicyDecided, evaluator: Evaluator) -> int:
    """Checks every decision of a fact against the policy texts: signed by its key, and what the policies say.

    Whether the key was an enclave's, and the policy set the cluster's, is for the caller to compare. Returns how many
    decisions there are.

    Raises:
        Refused: `access-policy`, `access-signature` or `access-answer`, naming the decision.
        RequestError: a question that nobody can have asked.
    """
    if fact.policy != evaluator.policies.digest.hex():
        raise Refused(
            f"decided under policy set {fact.policy}, these texts are {evaluator.policies.digest.hex()}",
            reason="access-policy",
            field="policy",
        )
    for index, record in enumerate(fact.decisions):
        request, decision = decided(fact, record)
        _check_signature(fact.public_key, record, decision, index)
        answer = evaluator.answer(request)
        if answer != decision.answer:
            raise Refused(
                f"decision {index} says {record.outcome} by {list(record.policies)}, the policies say "
                f"{answer.outcome.value} by {list(answer.policies)}",
                reason="access-answer",
                field=f"decisions[{index}]",
            )
    return len(fact.decisions)


def check_proof(question: Question, proof: PolicyDecided) -> AccessDecision:
    """The one signed decision that answers a question, as whoever asked checks it: about that question, by that key.

    Whether the key is an enclave's, and the decision still in force, is for the caller to compare.

    Raises:
        Refused: `access-signature`, or `access-question`: it is about something else, or is not one decision.
        RequestError: the question, or the one in the proof, is none that anybody can ask.
    """
    if len(proof.decisions) != 1:
        raise Refused(f"{len(proof.decisions)} decisions for one question", reason="access-question", field="decisions")
    (record,) = proof.decisions
    request, decision = decided(proof, record)
    asked = request_of(question)
    if (request, record.stake_version) != (asked, question.stake_version):
        raise Refused("the decision is about another question", reason="access-question", field="decisions[0]")
    _check_signature(proof.public_key, record, decision, 0)
    return decision


def _check_signature(public_key: str, record: AccessRecord, decision: AccessDecision, index: int) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(record.signature), decision.signed_bytes(record.timestamp_ms))
    except (InvalidSignature, ValueError):
        raise Refused(
            f"key {public_key} did not sign decision {index}", reason="access-signature", field=f"decisions[{index}]"
        ) from None


def sentence(request: AccessRequest, answer: Answer, policies: PolicySet) -> str:
    """Why something is denied, for whoever asked."""
    target = request.target
    what = target.resource if isinstance(target, ResourceClass) else target.path
    where = f" in {target.namespace}" if isinstance(target, ResourceClass) and target.namespace else ""
    asked = f"{request.verb} {what}{where} with {request.principal.stake_sui} SUI at stake"
    named = ", ".join(answer.policies)
    said = {
        Outcome.NOT_PERMITTED: "no policy permits it",
        Outcome.FORBIDDEN: f"forbidden by {named}",
        Outcome.FAILED: "a policy could not be evaluated",
        Outcome.PERMITTED: f"permitted by {named}",
    }[answer.outcome]
    return f"{asked}: {said} (policy set {policies.version})"
