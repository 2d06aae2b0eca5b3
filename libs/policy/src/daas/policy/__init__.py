"""Access policies in Cedar: loading, evaluation, memory, and the decision that is signed.

Load:      `policies = PolicySet.load(1, {"base.cedar": text})`  (refused with line and column)
Evaluate:  `Evaluator(policies).answer(AccessRequest(principal=Address(...), verb="get", target=ResourceClass(...)))`
Sign:      `AccessDecision(...).signed_bytes(timestamp_ms)`
"""

from daas.policy.decision import AccessDecision
from daas.policy.errors import Location, PolicyError, RequestError
from daas.policy.evaluator import Answer, Evaluator, Outcome
from daas.policy.folder import BUILTIN, load_folder
from daas.policy.policies import PolicySet
from daas.policy.request import AccessRequest, Address, Node, ResourceClass, UrlPath
from daas.policy.schema import LANGUAGE, SCHEMA, VERBS
from daas.policy.tiers import DEFAULT_TIERS, Tier, sui_from_mist

__all__ = [
    "BUILTIN",
    "DEFAULT_TIERS",
    "LANGUAGE",
    "SCHEMA",
    "VERBS",
    "AccessDecision",
    "AccessRequest",
    "Address",
    "Answer",
    "Evaluator",
    "Location",
    "Node",
    "Outcome",
    "PolicyError",
    "PolicySet",
    "RequestError",
    "ResourceClass",
    "Tier",
    "UrlPath",
    "load_folder",
    "sui_from_mist",
]
