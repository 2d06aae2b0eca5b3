"""`daas login`, `daas kubeconfig` and `daas k3s` as people run them."""

import base64
import json
import time
from pathlib import Path

import typer
import yaml
from typer.testing import CliRunner

from daas.cli.k3s import k3s_app
from daas.cli.login import kubeconfig, login
from daas.identity import Expected, verify

app = typer.Typer()
app.command()(login)
app.command()(kubeconfig)
app.add_typer(k3s_app, name="k3s")
run = CliRunner()


def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "sui.keystore"
    path.write_text(json.dumps([base64.b64encode(b"\0" + b"\x05" * 32).decode()]))
    path.chmod(0o600)
    return path


def test_login_prints_a_token_that_holds_and_for_kubectl_when_to_come_back(tmp_path: Path) -> None:
    arguments = ["login", "--cluster", "dev", "--audience", "k3s", "--keystore", str(keystore(tmp_path))]
    token = run.invoke(app, arguments).stdout.strip()
    now_ms = time.time_ns() // 1_000_000
    claims = verify(token, Expected(cluster="dev", audiences=("k3s",), now_ms=now_ms))
    credential = json.loads(run.invoke(app, [*arguments, "--exec"]).stdout)
    assert credential["kind"] == "ExecCredential"
    assert credential["status"]["token"] != token
    assert claims.expires_ms - claims.issued_ms == 600_000


def test_a_kubeconfig_names_the_plugin_and_holds_no_key(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_text("authority")
    path = keystore(tmp_path)
    out = tmp_path / "kubeconfig"
    done = run.invoke(
        app,
        [
            *("kubeconfig", "--cluster", "dev", "--server", "https://s:6443"),
            *("--authority", str(authority), "--keystore", str(path), "--output", str(out)),
        ],
    )
    assert done.exit_code == 0, done.output
    config = yaml.safe_load(out.read_text())
    plugin = config["users"][0]["user"]["exec"]
    assert plugin["args"][2:5] == ["login", "--exec", "--keystore"]
    assert json.loads(path.read_text())[0] not in out.read_text()


def test_k3s_install_and_check_and_what_check_says_of_damage(tmp_path: Path) -> None:
    directory = tmp_path / "daas"
    arguments = ["k3s", "install", str(directory), "--gateway", "https://gateway:8443"]
    assert run.invoke(app, arguments).exit_code == 0
    assert run.invoke(app, ["k3s", "check", str(directory)]).exit_code == 0
    for step in ("authority", "certificates"):
        assert run.invoke(app, [*arguments, "--renew", step]).exit_code == 0
        assert run.invoke(app, ["k3s", "check", str(directory)]).exit_code == 0
    (directory / "authz.yaml").unlink()
    done = run.invoke(app, ["k3s", "check", str(directory)])
    assert done.exit_code == 1
    assert "authz.yaml" in done.output
