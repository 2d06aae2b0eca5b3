"""`python -m daas.cli`: the daas command."""

from daas.cli.main import main

if __name__ == "__main__":
    main()
