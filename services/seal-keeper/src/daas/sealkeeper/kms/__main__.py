"""Run the KMS plugin: `python -m daas.sealkeeper.kms`; `--help` lists the settings."""

from daas.common.settings import main
from daas.sealkeeper.kms.app import build
from daas.sealkeeper.kms.settings import KmsSettings

if __name__ == "__main__":
    raise SystemExit(main(KmsSettings, build))
