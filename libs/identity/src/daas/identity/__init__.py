"""Who asks: login tokens signed by Sui keys, and the Kubernetes user that a token and a stake make."""

from daas.identity.keys import load_signer
from daas.identity.tokens import Claims, Expected, InvalidToken, issue, verify
from daas.identity.users import Tier, Tiers, User, user_of, username

__all__ = [
    "Claims",
    "Expected",
    "InvalidToken",
    "Tier",
    "Tiers",
    "User",
    "issue",
    "load_signer",
    "user_of",
    "username",
    "verify",
]
