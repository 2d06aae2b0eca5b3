"""`daas --help` names every subcommand and imports none of them; each is imported when it is asked for."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from daas.cli.main import SUBCOMMANDS, app

#: What the subcommands need and the list of them does not.
HEAVY = {"grpclib", "pysui", "betterproto2", "numpy", "nats", "faststream", "aiohttp", "cryptography", "daas.placement"}


def test_the_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys\n"
        "from daas.cli.main import main\n"
        "sys.argv = ['daas', '--help']\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        "print('IMPORTED', *sorted(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, _, imported = done.stdout.partition("IMPORTED")
    assert all(name in shown for name in SUBCOMMANDS)
    assert not HEAVY & set(imported.split())
    assert [name for name in imported.split() if name.startswith("daas.cli.")] == ["daas.cli.lazy", "daas.cli.main"]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_command_is_what_the_list_says(name: str) -> None:
    command = SUBCOMMANDS[name].load(name)
    paragraph = " ".join((command.help or "").split("\n\n", 1)[0].split())
    assert paragraph == SUBCOMMANDS[name].help
    found = CliRunner().invoke(app, [name, "--help"])
    assert found.exit_code == 0
    assert f"daas {name}" in " ".join(found.output.split())


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    found = CliRunner().invoke(app, ["chian"])
    assert found.exit_code == 2
    assert "chain" in found.output
