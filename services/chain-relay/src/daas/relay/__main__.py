"""`python -m daas.relay`: the chain-relay."""

from daas.common.settings import main
from daas.relay.app import build
from daas.relay.settings import RelaySettings

if __name__ == "__main__":
    raise SystemExit(main(RelaySettings, build))
