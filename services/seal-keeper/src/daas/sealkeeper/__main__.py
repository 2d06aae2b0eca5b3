"""`python -m daas.sealkeeper`: the seal-keeper service."""

from daas.common.settings import main
from daas.sealkeeper.app import build
from daas.sealkeeper.settings import SealKeeperSettings

if __name__ == "__main__":
    raise SystemExit(main(SealKeeperSettings, build))
