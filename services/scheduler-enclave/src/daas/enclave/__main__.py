"""`python -m daas.enclave`: the scheduler-enclave."""

from daas.common.settings import main
from daas.enclave.app import build
from daas.enclave.settings import EnclaveSettings

if __name__ == "__main__":
    raise SystemExit(main(EnclaveSettings, build))
