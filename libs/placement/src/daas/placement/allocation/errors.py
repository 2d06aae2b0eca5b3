"""What optimality and load balancing refuse: inputs out of bounds, certificates that don't hold, plans out of date."""

from daas.common.errors import ConfigurationError, Conflict, InvalidInput, Refused


class ClusterError(InvalidInput):
    """A cluster, an objective or a policy that is out of bounds or names something twice."""


class CertificateFormatError(InvalidInput):
    """Bytes that are no certificate, or a certificate whose shape is not that of the model it speaks of."""


class CertificateError(Refused):
    """A certificate that claims what its evidence does not show."""


class StaleMoveError(Conflict):
    """A move of a plan that the cluster as it is now no longer allows, or that no longer gains enough."""


class SolverError(ConfigurationError):
    """The solver is not installed, or refuses to work; planning needs it, verifying never does."""
