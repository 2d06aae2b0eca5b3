"""`python -m daas.sealkeeper.keyserver`: Seal key servers for the project's policies on one ledger."""

from daas.sealkeeper.keyserver.process import main

if __name__ == "__main__":
    raise SystemExit(main())
