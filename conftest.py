"""For all tests: properties are held to behaviour, never to time; what a test reports is shown at the end."""

import os

import pytest
from hypothesis import settings

# Before anything imports gRPC; see daas.devstack.process.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

settings.register_profile("k3s-daas", deadline=None)
settings.load_profile("k3s-daas")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what tests have recorded as the property `report`, passed or failed, from whichever process."""
    for outcome in ("passed", "failed"):
        for test in terminalreporter.getreports(outcome):
            for name, text in test.user_properties if test.when == "call" else ():
                if name == "report":
                    terminalreporter.section(test.nodeid.rpartition("/")[2])
                    terminalreporter.write_line(str(text))
