"""`daas evidence` with all its commands: each stands beside the check of what it exports."""

from daas.cli import plans, policy
from daas.cli.verify import evidence_app

#: Whose commands `evidence_app` has, beside those of `daas.cli.verify`.
EXPORTERS = (plans, policy)

__all__ = ["EXPORTERS", "evidence_app"]
