"""Runs the gateway: `python -m daas.gateway`, configured by environment; `--help` lists every setting."""

from daas.common.settings import main
from daas.gateway.app import build
from daas.gateway.settings import GatewaySettings

if __name__ == "__main__":
    raise SystemExit(main(GatewaySettings, build))
