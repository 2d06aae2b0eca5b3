"""`daas policy check`: what an enclave would say of a folder of policies, with the place of a mistake."""

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from daas.cli.policy import policy_app
from daas.placement import Policy
from daas.policy import PolicyError

runner = CliRunner()


def test_the_set_that_comes_along_is_sound_and_its_digest_is_in_the_registrys() -> None:
    result = runner.invoke(policy_app, ["check", "-o", "json"])
    assert result.exit_code == 0, result.output
    fields = json.loads(result.output)
    assert fields["digest"] == Policy().access
    assert fields["registry_policy"] == Policy().digest().hex()
    assert "members-work" in fields["policies"]


def test_a_mistake_is_named_with_source_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text('{"version": 2}')
    (tmp_path / "own.cedar").write_text(
        '@id("x")\npermit (principal, action, resource)\nwhen { principal.height == 1 };'
    )
    result = runner.invoke(policy_app, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert isinstance(result.exception, PolicyError)
    assert re.search(r"own\.cedar:3:\d+", str(result.exception))
