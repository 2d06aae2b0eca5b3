"""Signers read their key from guarded places and never show it."""

import base64
import pickle
from hashlib import blake2b
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common.errors import ConfigurationError
from daas.ledger.signer import Signer

SEED = bytes(range(32))


def keystore(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_address_is_the_hash_of_flag_and_public_key() -> None:
    signer = Signer(SEED)
    assert signer.address == "0x" + blake2b(b"\x00" + signer.public_key, digest_size=32).hexdigest()


def test_a_signature_is_over_the_intent_and_the_same_each_time() -> None:
    signer = Signer(SEED)
    signature = signer.sign_transaction(b"transaction")
    assert signature == Signer(SEED).sign_transaction(b"transaction")
    assert (len(signature), signature[0], signature[65:]) == (97, 0, signer.public_key)
    message = blake2b(bytes(3) + b"transaction", digest_size=32).digest()
    Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signature[1:65], message)


@pytest.mark.parametrize("content", [SEED, b"\x00" + SEED], ids=["seed", "flag and seed"])
def test_a_keystore_of_mode_0600_is_read(tmp_path: Path, content: bytes) -> None:
    path = keystore(tmp_path / "key", base64.b64encode(content) + b"\n")
    assert Signer.from_file(path).address == Signer(SEED).address


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o700 | 0o010])
def test_a_keystore_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = keystore(tmp_path / "key", base64.b64encode(SEED), mode)
    with pytest.raises(ConfigurationError) as refused:
        Signer.from_file(path)
    assert refused.value.reason == "keystore-mode"


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    keystore(tmp_path / "key", base64.b64encode(SEED))
    (tmp_path / "link").symlink_to(tmp_path / "key")
    with pytest.raises(ConfigurationError) as refused:
        Signer.from_file(tmp_path / "link")
    assert refused.value.reason == "keystore-missing"


@pytest.mark.parametrize(
    "content", [b"", b"not base64!", base64.b64encode(b"short"), base64.b64encode(b"\x01" + SEED), SEED]
)
def test_a_malformed_keystore_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = keystore(tmp_path / "key", content)
    with pytest.raises(ConfigurationError) as refused:
        Signer.from_file(path)
    assert refused.value.reason == "keystore-format"
    assert not content or repr(content)[2:-1] not in str(refused.value)


def test_the_environment_serves_as_a_keystore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LEDGER_SEED", base64.b64encode(SEED).decode())
    assert Signer.from_environment("TEST_LEDGER_SEED").address == Signer(SEED).address
    monkeypatch.delenv("TEST_LEDGER_SEED")
    with pytest.raises(ConfigurationError) as refused:
        Signer.from_environment("TEST_LEDGER_SEED")
    assert refused.value.reason == "signer-missing"


def test_a_new_key_is_written_for_its_owner_only_and_never_over_another(tmp_path: Path) -> None:
    path = tmp_path / "key"
    signer = Signer.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.from_file(path).address == signer.address
    with pytest.raises(ConfigurationError) as refused:
        Signer.generate(path)
    assert refused.value.reason == "keystore-exists"


def test_a_signer_shows_its_address_and_nothing_else() -> None:
    signer = Signer(SEED)
    assert repr(signer) == f"Signer({signer.address})"
    with pytest.raises(TypeError):
        pickle.dumps(signer)
