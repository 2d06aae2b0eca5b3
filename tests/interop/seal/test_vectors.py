"""Every file of the vectors directory, understood by its kind: official constants and objects of the official SDK."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from seal_vectors import VECTORS, address, files, load

from daas.common.errors import DaasError
from daas.seal import (
    EncryptedObject,
    Encryptor,
    InvalidPtb,
    KeyServerData,
    KeyServerObject,
    MasterKey,
    ServerKey,
    decrypt,
    decrypt_key,
    dem,
    elgamal,
    full_id,
    gf256,
    ibe,
    parse_ptb,
    verify_possession,
    verify_user_secret_key,
    verify_user_secret_keys,
)
from daas.seal.backend import BACKEND, BACKENDS, Backend
from daas.seal.backend import load as load_backend
from daas.seal.elgamal import DecryptionKey, Encryption
from daas.seal.encrypt import Dem, Randomness
from daas.seal.gf256 import Share
from daas.seal.session import Certificate, certificate_message, request_message, session_key_of, verify_request
from daas.seal.signatures import ED25519, address_of, personal_message_digest, verify_personal_message
from daas.seal.wire import FetchKeyRequest, decode_request

un = bytes.fromhex
#: Whose keys the official client was given, by place, and whether it compared all shares.
KEY_CHOICE = re.compile(r"ts_sdk_keys_(\d+(?:_\d+)*)_(no|with)_check")
CIPHERS = {"aes": Dem.AES_256_GCM, "hmac": Dem.HMAC_256_CTR, "plain": Dem.PLAIN}


def master(text: str) -> MasterKey:
    return MasterKey.from_bytes(un(text.rjust(64, "0")))


def check_regressions(data: Any) -> None:
    known = {
        "source", "hash_to_g1", "kdf", "derive_master_key", "gf256", "combine_byte", "shares_23_bytes", "aes256gcm",
        "hmac256ctr", "encrypted_object", "signed_message", "signed_request",
    }  # fmt: skip
    assert set(data) <= known
    for backend in each_backend():
        point = backend.hash_to_g1(b"SUI-SEAL-IBE-BLS12381-00" + un(data["hash_to_g1"]["full_id"]))
        assert backend.encode(point).hex() == data["hash_to_g1"]["g1"]
        case = data["kdf"]
        element = backend.pairing(backend.multiply(backend.g1, case["r"]), backend.g2)
        nonce = backend.encode(backend.multiply(backend.g2, case["r"]))
        identity = backend.encode(backend.hash_to_g1(b"SUI-SEAL-IBE-BLS12381-00" + un(case["full_id"])))
        assert ibe.mask(element, nonce, identity, un(case["object_id"]), case["index"]).hex() == case["key"]
    case = data["derive_master_key"]
    assert MasterKey.derive(un(case["seed"]), case["index"]).public_key == master(case["master_key"]).public_key
    case = data["gf256"]
    a, b = case["a"], case["b"]
    assert (a ^ b, gf256.multiply(a, b), gf256.divide(a, b)) == (
        case["sum"],
        case["product"],
        case["quotient_a_over_b"],
    )
    case = data["combine_byte"]
    assert gf256.combine([Share(index, bytes([value])) for index, value in case["shares"]]) == bytes([case["secret"]])
    case = data["shares_23_bytes"]
    shares = [Share(each["index"], un(each["share"])) for each in case["shares"]]
    assert gf256.combine(shares[: case["threshold"]]) == gf256.combine(shares) == un(case["secret"])
    case = data["aes256gcm"]
    key, plaintext, aad = un(case["key"]), un(case["plaintext"]), un(case["aad"])
    assert dem.aes256gcm_encrypt(key, plaintext, aad).hex() == case["ciphertext"]
    assert dem.aes256gcm_decrypt(key, un(case["ciphertext"]), aad) == plaintext
    case = data["hmac256ctr"]
    key, plaintext, aad = un(case["key"]), un(case["plaintext"]), un(case["aad"])
    assert dem.hmac256ctr_encrypt(key, plaintext, aad) == (un(case["ciphertext"]), un(case["mac"]))
    case = data["encrypted_object"]
    sealed = EncryptedObject.decode(un(case["bytes"]))
    assert [(s.object_id, s.index) for s in sealed.services] == [(address(i), n) for i, n in case["services"]]
    keys = {address(i): master(k) for (i, _), k in zip(case["services"], case["master_keys"], strict=True)}
    usks = {i: key.extract(sealed.full_id) for i, key in keys.items()}
    assert decrypt(sealed, usks, {i: key.public_key for i, key in keys.items()}) == un(case["plaintext"])
    for case in data["signed_message"]:
        vk = base64.b64decode(case["session_vk_b64"])
        message = certificate_message(case["package"], case["ttl_min"], case["creation_time"], vk)
        assert message.decode() == case["message"]
    case = data["signed_request"]
    message = request_message(un(case["ptb"]), un(case["enc_key"]), un(case["enc_verification_key"]))
    assert message.hex() == case["message"]


def check_keys(data: Any) -> None:
    for case in data["cases"]:
        identity = full_id(address(case["package_id"]), un(case["inner_id"]))
        assert identity.hex() == case["full_id"]
        key = master(case["master_key"])
        assert key.public_key.hex() == case["public_key"]
        assert key.extract(identity).hex() == case["user_secret_key"]
        right, wrong, public = un(case["user_secret_key"]), un(case["wrong_usk"]), un(case["public_key"])
        assert verify_user_secret_key(right, identity, public) is case["verifies"]
        assert not verify_user_secret_key(wrong, identity, public)
        assert verify_user_secret_keys([(identity, right), (identity, wrong)], public) == [True, False]
        for backend in each_backend():
            assert (
                backend.encode(backend.hash_to_g1(b"SUI-SEAL-IBE-BLS12381-00" + identity)).hex() == case["hash_to_g1"]
            )


def check_gt_kdf(data: Any) -> None:
    for case in data["cases"]:
        for backend in each_backend():
            g1, g2 = backend.g1_decode(un(case["g1"])), backend.g2_decode(un(case["g2"]))
            element = backend.pairing(g1, g2)
            assert element.hex() == case["gt"]
            identity = backend.encode(backend.hash_to_g1(b"SUI-SEAL-IBE-BLS12381-00" + un(case["full_id"])))
            mask = ibe.mask(element, un(case["g2"]), identity, address(case["object_id"]), case["index"])
            assert mask.hex() == case["kdf"]


def check_shamir(data: Any) -> None:
    for case in data["cases"]:
        threshold, secret = case["threshold"], un(case["secret"])
        shares = gf256.split(secret, threshold, case["n"], coefficients=[un(c) for c in case["coefficients"]])
        assert shares == [Share(each["index"], un(each["share"])) for each in case["shares"]]
        assert gf256.combine(shares[:threshold]) == gf256.combine(shares[-threshold:]) == secret
        assert case["combined_last_t"] == case["secret"]


def check_object(data: Any) -> None:
    for case in data.get("cases", [data]):
        check_one_object(case)


def check_one_object(case: Any) -> None:
    raw, plaintext = un(case["encrypted_object"]), un(case["plaintext"])
    aad = None if case["aad"] is None else un(case["aad"])
    sealed = EncryptedObject.decode(raw)
    assert sealed.encode() == raw
    public_keys = {address(s["object_id"]): un(s["public_key"]) for s in case["servers"]}
    usks = {address(s["object_id"]): un(s["user_secret_key"]) for s in case["servers"]}
    if case["dem"] == "plain":
        assert decrypt_key(sealed, usks, public_keys).hex() == case["dem_key"]
    else:
        assert decrypt(sealed, usks) == decrypt(sealed, usks, public_keys) == plaintext
    servers = [ServerKey(i, public_keys[i], weight) for i, weight in sealed.weights.items()]
    fixed = case["fixed_randomness"]
    randomness = Randomness(
        un(fixed["base_key"]), tuple(un(c) for c in fixed["polynomial_coefficients"]), int(fixed["r"], 16)
    )
    package, inner = address(case["package_id"]), un(case["inner_id"])
    encryptor = Encryptor(servers, case["threshold"])
    for _ in range(6):  # the later ones through the tables of an often used identity
        again = encryptor.encrypt(
            package, inner, plaintext, aad=aad, cipher=CIPHERS[case["dem"]], randomness=randomness
        )
        assert again.object.encode() == raw
        assert again.data_key.hex() == case["dem_key"]


def check_negative(data: Any) -> None:
    good = data["good"]
    check_one_object(good)
    usks = {address(s["object_id"]): un(s["user_secret_key"]) for s in good["servers"]}
    public_keys = {address(s["object_id"]): un(s["public_key"]) for s in good["servers"]}

    def verdict(raw: bytes, keys: dict[bytes, bytes], public: dict[bytes, bytes] | None) -> str:
        try:
            return "accepts:" + decrypt(EncryptedObject.decode(raw), keys, public).hex()
        except DaasError:
            return "rejects"

    for case in data["cases"]:
        raw = un(case["encrypted_object"])
        chosen = [(match, said) for key, said in case.items() if (match := KEY_CHOICE.fullmatch(key))]
        if not chosen:
            assert verdict(raw, usks, None) == verdict(raw, usks, public_keys) == "rejects", case["name"]
        for match, said in chosen:
            sealed = EncryptedObject.decode(raw)
            ids = [service.object_id for service in sealed.services]
            held = {ids[int(place)]: usks[ids[int(place)]] for place in match[1].split("_")}
            ours = verdict(raw, held, public_keys if match[2] == "with" else None)
            # With more keys than the threshold the official client misses a degree that is too high; we do not.
            assert ours == said or (ours == "rejects" and len(held) > sealed.threshold), case["name"]


def check_session(data: Any) -> None:
    for case in data["sessions"]:
        body = decode_request(json.dumps(case["http_body"]).encode())
        assert isinstance(body, FetchKeyRequest)
        certificate: Certificate = body.certificate
        vk = session_key_of(certificate)
        package = case["mvr_name"] or case["package_id"]
        message = certificate_message(package, case["ttl_min"], case["creation_time"], vk)
        assert message.decode() == case["personal_message"]
        verify_personal_message(message, certificate.signature, address(case["address"]))
        user = Ed25519PrivateKey.from_private_bytes(un(case["user_secret_seed"]))
        public = user.public_key().public_bytes_raw()
        assert "0x" + address_of(ED25519, public).hex() == case["address"] == certificate.user
        signature = bytes([ED25519]) + user.sign(personal_message_digest(message)) + public
        assert base64.b64encode(signature).decode() == certificate.signature
        ptb, enc_key, enc_vk = un(case["ptb"]), un(case["enc_key"]), un(case["enc_verification_key"])
        assert un(case["tx_kind_bytes"])[1:] == ptb == base64.b64decode(body.ptb)
        request = request_message(ptb, enc_key, enc_vk)
        verify_request(vk, base64.b64decode(case["request_signature"]), request)
        session = Ed25519PrivateKey.from_private_bytes(un(case["session_secret_seed"]))
        assert base64.b64encode(session.sign(request)).decode() == case["request_signature"] == body.request_signature
        key = DecryptionKey(int(case["enc_secret_key"], 16))
        assert (key.public_key, key.verification_key) == (enc_key, enc_vk)
    for case in data["elgamal"]:
        key = DecryptionKey(int(case["secret_key"], 16))
        assert (key.public_key.hex(), key.verification_key.hex()) == (case["public_key"], case["verification_key"])
        encryption = Encryption(un(case["c0"]), un(case["c1"]))
        assert key.decrypt(encryption).hex() == case["message"] == case["decrypted"]
        points = [BACKEND.g1_decode(un(case[name])) for name in ("message", "public_key")]
        assert elgamal.encrypt(points[0], points[1], scalar=int(case["r"], 16)) == encryption
    for case in data["proof_of_possession"]:
        key_, service = master(case["master_key"]), address(case["service_id"])
        assert key_.prove_possession(service).hex() == case["pop"]
        verify_possession(un(case["pop"]), un(case["public_key"]), service)


def check_on_chain(data: Any) -> None:
    case = data["key_server"]
    value = KeyServerObject.decode(un(case["bcs"]))
    assert value == KeyServerObject(address(case["object_id"]), case["first_version"], case["last_version"])
    assert value.version == 2
    for name, version in (("v1", 1), ("v2_independent", 2), ("v2_committee", 2)):
        case = data[name]
        server = KeyServerData.decode(un(case["bcs"]), version)
        assert (server.name, server.public_key.hex(), server.url) == (case["name"], case["pk"], case.get("url"))
        if name == "v2_committee":
            assert server.committee is not None
            assert (server.committee.version, server.committee.threshold) == (case["version"], case["threshold"])
            members = [(m.name, m.url, m.partial_public_key.hex(), m.party_id) for m in server.committee.members]
            expected = [
                tuple(m[k] for k in ("name", "url", "partial_pk", "party_id")) for m in case["partial_key_servers"]
            ]
            assert members == expected


def check_ptb(data: Any) -> None:
    for case in data["cases"]:
        if case["expect"] == "valid":
            parsed = parse_ptb(un(case["ptb"]))
            assert parsed.package_id == address(case["package_id"]), case["name"]
            assert [inner.hex() for inner in parsed.inner_ids] == case["inner_ids"]
        else:
            assert case["expect"] == "InvalidPTB"
            with pytest.raises(InvalidPtb):
                parse_ptb(un(case["ptb"]))


def keys_of(data: Any) -> set[str]:
    """The fields of a file's cases, or of the file where it has none."""
    cases = data.get("cases") or [data]
    return set(cases[0])


#: Kinds of files by what is in them: the first that fits.
KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any], None]], ...] = (
    (lambda data: "derive_master_key" in data, check_regressions),
    (lambda data: "good" in data, check_negative),
    (lambda data: "sessions" in data, check_session),
    (lambda data: "key_server" in data, check_on_chain),
    (lambda data: {"encrypted_object", "fixed_randomness"} <= keys_of(data), check_object),
    (lambda data: {"master_key", "user_secret_key"} <= keys_of(data), check_keys),
    (lambda data: {"gt", "kdf"} <= keys_of(data), check_gt_kdf),
    (lambda data: {"coefficients", "shares"} <= keys_of(data), check_shamir),
    (lambda data: {"ptb", "expect"} <= keys_of(data), check_ptb),
)


def each_backend() -> Iterator[Backend]:
    for name in BACKENDS:
        yield load_backend(name)


@pytest.mark.parametrize("name", files())
def test_each_file_of_the_vectors_holds(name: str) -> None:
    data = load(name)
    check = next((check for fits, check in KINDS if fits(data)), None)
    assert check is not None, f"{name}: no reader for this kind of file"
    check(data)


def test_the_directory_holds_vectors() -> None:
    assert files(), f"no vectors in {VECTORS}"
