"""The software NSM: a stand-in for /dev/nsm under its own root, whose certificates say so in every name."""

from daas.devstack.nsm.authority import DevelopmentAuthority, create_root, load_or_create_root
from daas.devstack.nsm.module import SoftwareNsm
from daas.devstack.nsm.pcrs import PcrBank, development_measurement
from daas.devstack.nsm.server import NsmServer

__all__ = [
    "DevelopmentAuthority",
    "NsmServer",
    "PcrBank",
    "SoftwareNsm",
    "create_root",
    "development_measurement",
    "load_or_create_root",
]
