"""Installation files are complete, private where they hold keys, verifiable during a rotation, and checked."""

import base64
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from daas.common.errors import ConfigurationError
from daas.kube.install import Authority, Installation, check_files, install, issue_leaves, rotate
from daas.kube.install.files import FILES
from daas.kube.install.pki import LEAF_DAYS

WANTED = Installation("https://gateway.example:8443", gateway_names=("10.0.0.5",))


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    install(tmp_path / "daas", WANTED)
    return tmp_path / "daas"


def certificate(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates((directory / f"pki/{name}.crt").read_bytes())[0]


def handshake(server: Path, client: Path) -> None:
    """A TLS handshake between the leaves of one directory and the trust of another, in memory."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(server / "pki/gateway.crt", server / "pki/gateway.key")
    serving.load_verify_locations(server / "pki/ca.crt")
    serving.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(client / "pki/ca.crt"))
    asking.load_cert_chain(client / "pki/apiserver.crt", client / "pki/apiserver.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        asking.wrap_bio(to_client, to_server, server_hostname="gateway.example"),
        serving.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting


def test_everything_is_written_keys_are_private_and_nothing_is_wrong(installed: Path) -> None:
    for name, secret in FILES.items():
        mode = stat.S_IMODE((installed / name).stat().st_mode)
        assert mode == (0o600 if secret else 0o644), name
    assert check_files(installed) == []
    names = certificate(installed, "gateway").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.5"]
    handshake(installed, installed)


def test_installing_again_keeps_keys_and_certificates(installed: Path) -> None:
    before = {name: (installed / name).read_bytes() for name in FILES}
    install(installed, WANTED)
    assert {name: (installed / name).read_bytes() for name in FILES} == before


def test_a_rotation_never_locks_anybody_out(installed: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("ca.crt", "gateway.crt", "gateway.key", "apiserver.crt", "apiserver.key"):
        (old / "pki").mkdir(exist_ok=True)
        (old / "pki" / name).write_bytes((installed / "pki" / name).read_bytes())
    rotate(installed / "pki")
    install(installed, WANTED)
    assert len(x509.load_pem_x509_certificates((installed / "pki/ca.crt").read_bytes())) == 2
    assert check_files(installed) == []
    for one, other in ((installed, old), (old, installed), (installed, installed)):
        handshake(one, other)  # step one: files of before and after go together
    second = tmp_path / "second"
    install(second, WANTED)
    for name in FILES:
        (second / name).write_bytes((installed / name).read_bytes())
    issue_leaves(second, WANTED)
    install(second, WANTED)
    assert check_files(second) == []
    for one, other in ((second, installed), (installed, second)):
        handshake(one, other)  # step two likewise
    bundle = (second / "pki/ca.crt").read_bytes()
    manifests = list(yaml.safe_load_all((second / "manifests/daas-admission.yaml").read_text()))
    assert base64.b64decode(manifests[0]["webhooks"][0]["clientConfig"]["caBundle"]) == bundle


def _edit(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        path = directory / name
        path.write_text(change(path.read_text()))

    return edit


def narrowed(text: str) -> str:
    """Asked about nothing any more: one condition that never holds."""
    found = yaml.safe_load(text)
    found["authorizers"][0]["webhook"]["matchConditions"].append({"expression": "request.user in ['nobody']"})
    return yaml.safe_dump(found, sort_keys=False)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda d: (d / "authz.yaml").unlink(), "is missing"),
        (lambda d: (d / "pki/gateway.key").chmod(0o644), "not 0600"),
        (
            _edit("config.yaml", lambda t: t.replace("webhook-version=v1", "webhook-version=v1beta1")),
            "is 'v1beta1', not v1",
        ),
        (
            _edit("config.yaml", lambda t: t.replace("authorization-config=", "x=")),
            "--authorization-config=/etc/rancher/k3s/daas/authz.yaml is missing",
        ),
        (_edit("authz.yaml", lambda t: t.replace("failurePolicy: Deny", "failurePolicy: NoOpinion")), "not Deny"),
        (_edit("authz.yaml", lambda t: t.replace("system:nodes", "others")), "exempts system:nodes"),
        (_edit("authz.yaml", lambda t: t.replace("type: Webhook", "type: RBAC", 1)), "not first"),
        (_edit("authz.yaml", lambda _: "a: [b"), "not YAML"),
        (
            _edit("authz.yaml", lambda t: f"{t}# ours\n".replace("timeout: 3s", "timeout: 30s")),
            "webhook.timeout is '30s'",
        ),
        (_edit("authz.yaml", narrowed), "matchConditions has 7 entries instead of 6"),
        (_edit("config.yaml", lambda t: t.replace("- admission-control", "- x")), "admission-control-config-file"),
        (_edit("admission.kubeconfig", lambda t: t.replace(":8443", ":8444")), "is not what would be written now"),
        (_edit("installation.yaml", lambda t: t.replace("gateway_url", "url")), "write the files again"),
        (
            _edit("manifests/daas-rbac.yaml", lambda t: t.replace("- pods/eviction", "- pods/exec")),
            "'pods/exec' instead",
        ),
        (
            _edit("manifests/daas-admission.yaml", lambda t: t.replace("failurePolicy: Fail", "failurePolicy: Ignore")),
            "webhooks[0].failurePolicy is 'Ignore' instead of 'Fail'",
        ),
        (_edit("audit-policy.yaml", lambda t: t.replace("level: Metadata", "level: RequestResponse", 1)), "secrets"),
        (lambda d: Authority.create().write(d / "pki"), "issued by no authority"),
    ],
)
def test_what_is_wrong_is_said(installed: Path, damage: Callable[[Path], object], word: str) -> None:
    damage(installed)
    assert any(word in finding.text for finding in check_files(installed)), check_files(installed)


def test_certificates_that_end_are_said_before_and_after(installed: Path) -> None:
    now = datetime.now(UTC)
    soon = check_files(installed, now + timedelta(days=LEAF_DAYS - 30))
    again = f"daas k3s install {installed} --gateway https://gateway.example:8443 --renew certificates"
    assert {(one.level, again in one.text) for one in soon} == {("warning", True)}
    late = check_files(installed, now + timedelta(days=LEAF_DAYS + 1))
    assert {one.level for one in late} == {"error"}


def test_without_an_authority_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no authority"):
        rotate(tmp_path)
