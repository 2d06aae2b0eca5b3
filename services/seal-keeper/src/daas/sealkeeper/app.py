"""The seal-keeper service: what it answers, what it tells, and its tasks."""

from daas.common.service import ServiceApp
from daas.common.subjects import Service
from daas.sealkeeper.settings import SealKeeperSettings


def build(settings: SealKeeperSettings) -> ServiceApp:
    """The service, ready to run."""
    return ServiceApp(Service.SEAL_KEEPER, settings)
