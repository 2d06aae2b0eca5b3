"""`python -m daas.storage`: the storage service."""

from daas.common.settings import main
from daas.storage.app import build
from daas.storage.settings import StorageSettings

if __name__ == "__main__":
    raise SystemExit(main(StorageSettings, build))
