"""What one set of keys opens every other does too, and nothing but the right keys opens anything."""

import itertools
import os
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daas.common.errors import ConfigurationError, InvalidInput
from daas.seal import (
    DecryptionFailed,
    Dem,
    EncryptedObject,
    Encryptor,
    InvalidSignature,
    MalformedPoint,
    MasterKey,
    NotEnoughKeys,
    ServerKey,
    decrypt,
    decrypt_key,
    encrypt,
    full_id,
    gf256,
    ibe,
    verify_possession,
    verify_user_secret_key,
    verify_user_secret_keys,
)
from daas.seal.backend import BACKEND, load
from daas.seal.backend.protocol import ORDER
from daas.seal.backend.selftest import self_test
from daas.seal.elgamal import DecryptionKey, Encryption
from daas.seal.encrypt import Randomness
from daas.seal.encrypted_object import Service
from daas.seal.errors import KeyServerRefused
from daas.seal.gf256 import Share
from daas.seal.signatures import Ed25519Signer

KEYS = [MasterKey.generate() for _ in range(5)]
IDS = [bytes([number]) * 32 for number in range(1, 6)]
PACKAGE, INNER = os.urandom(32), b"inner"
FULL = full_id(PACKAGE, INNER)
PUBLIC = {object_id: key.public_key for object_id, key in zip(IDS, KEYS, strict=True)}
SECRET = {object_id: key.extract(FULL) for object_id, key in zip(IDS, KEYS, strict=True)}


def servers(*weights: int) -> list[ServerKey]:
    return [ServerKey(object_id, PUBLIC[object_id], weight) for object_id, weight in zip(IDS, weights, strict=False)]


def some(*places: int) -> dict[bytes, bytes]:
    return {IDS[place]: SECRET[IDS[place]] for place in places}


@pytest.mark.parametrize("cipher", [Dem.AES_256_GCM, Dem.HMAC_256_CTR])
@pytest.mark.parametrize(("threshold", "weights"), [(1, (1,)), (2, (1, 1, 1)), (3, (1, 1, 1)), (3, (2, 1, 2))])
def test_every_set_of_keys_worth_the_threshold_opens_and_no_other(
    cipher: Dem, threshold: int, weights: tuple[int, ...]
) -> None:
    raw = encrypt(servers(*weights), threshold, PACKAGE, INNER, b"message", aad=b"aad", cipher=cipher)
    sealed = EncryptedObject.decode(raw)
    for size in range(len(weights) + 1):
        for places in itertools.combinations(range(len(weights)), size):
            if sum(weights[place] for place in places) >= threshold:
                assert decrypt(sealed, some(*places), PUBLIC) == decrypt(sealed, some(*places)) == b"message"
            else:
                with pytest.raises(NotEnoughKeys):
                    decrypt(sealed, some(*places), PUBLIC)


@given(st.binary(max_size=2000), st.binary(max_size=64) | st.none(), st.sampled_from(Dem), st.booleans())
@settings(deadline=None, max_examples=40)
def test_what_is_sealed_comes_back(plaintext: bytes, aad: bytes | None, cipher: Dem, cached: bool) -> None:
    if cipher is Dem.PLAIN:
        plaintext, aad = b"", None
    encryptor = ENCRYPTORS[cached]
    made = encryptor.encrypt(PACKAGE, INNER, plaintext, aad=aad, cipher=cipher)
    again = EncryptedObject.decode(made.object.encode())
    assert again == made.object
    opens, other = (decrypt_key, decrypt) if cipher is Dem.PLAIN else (decrypt, decrypt_key)
    assert opens(again, some(0, 2), PUBLIC) == (made.data_key if cipher is Dem.PLAIN else plaintext)
    with pytest.raises(DecryptionFailed) as caught:
        other(again, some(0, 2), PUBLIC)
    assert caught.value.reason == "seal-plain"
    assert again.aad == (aad or b"")


ENCRYPTORS = {cached: Encryptor(servers(1, 1, 1), 2, cached_identities=4 if cached else 0) for cached in (False, True)}


def test_two_encryptions_share_nothing() -> None:
    encryptor = ENCRYPTORS[True]
    made = [encryptor.encrypt(PACKAGE, INNER, b"same") for _ in range(8)]
    assert len({each.data_key for each in made}) == len({each.object.nonce for each in made}) == 8
    assert "..." in repr(made[0])


def test_the_cache_of_identities_is_bounded_and_changes_nothing() -> None:
    encryptor = Encryptor(servers(1), 1, cached_identities=2)
    for number in range(4):
        for _ in range(6):
            sealed = encryptor.encrypt(PACKAGE, bytes([number]), b"x").object
        assert decrypt(sealed, {IDS[0]: KEYS[0].extract(sealed.full_id)}) == b"x"
    assert len(encryptor._cache) == 2


def test_wrong_keys_open_nothing() -> None:
    sealed = ENCRYPTORS[False].encrypt(PACKAGE, INNER, b"message").object
    stranger = MasterKey.generate().extract(FULL)
    other_id = KEYS[0].extract(FULL + b"x")
    for wrong in (stranger, other_id, SECRET[IDS[1]]):
        with pytest.raises(DecryptionFailed):
            decrypt(sealed, {**some(1), IDS[0]: wrong})
        with pytest.raises(DecryptionFailed, match="polynomial"):
            decrypt(sealed, {**some(0, 1), IDS[2]: wrong})
    for no_point in (bytes(48), b"\xc0" + bytes(47), b""):
        with pytest.raises(MalformedPoint):
            decrypt(sealed, {**some(1), IDS[0]: no_point})


def test_a_missing_public_key_stops_the_check_and_is_named() -> None:
    sealed = ENCRYPTORS[False].encrypt(PACKAGE, INNER, b"message").object
    known = {object_id: PUBLIC[object_id] for object_id in IDS[:2]}
    with pytest.raises(DecryptionFailed, match=IDS[2].hex()):
        decrypt(sealed, some(0, 1), known)
    assert decrypt(sealed, some(0, 1, 2), {}) == b"message"


def cheat(shares: list[Share], threshold: int) -> EncryptedObject:
    """An object of a maker who chose the shares: everything else is right for those that give `base` at 0."""
    base = gf256.combine(shares[:threshold])
    scalar = ibe.random_scalar()
    nonce = BACKEND.encode(BACKEND.multiply_g2(scalar))
    point = ibe.hash_identity(FULL)
    encoded = BACKEND.encode(point)
    raised = BACKEND.multiply(point, scalar)
    encrypted = tuple(
        gf256.xor(
            share.value,
            ibe.mask(
                BACKEND.pairing(raised, BACKEND.g2_decode(PUBLIC[object_id])), nonce, encoded, object_id,
                share.index,
            ),
        )
        for share, object_id in zip(shares, IDS, strict=False)
    )  # fmt: skip
    ids = IDS[: len(shares)]
    honest = ENCRYPTORS[False].encrypt(PACKAGE, INNER, b"", cipher=Dem.PLAIN).object
    fields = {name: getattr(honest, name) for name in honest.__struct_fields__}
    fields |= {
        "services": tuple(Service(object_id, share.index) for object_id, share in zip(ids, shares, strict=True)),
        "threshold": threshold,
        "nonce": nonce,
        "encrypted_shares": encrypted,
        "encrypted_randomness": gf256.xor(
            ibe.derive_randomness_key(base, threshold, encrypted, ids), scalar.to_bytes(32, "big")
        ),
    }
    return EncryptedObject(**fields)


def test_a_sharing_of_too_high_degree_is_caught_with_any_number_of_keys() -> None:
    secret = os.urandom(32)
    over = gf256.split(secret, 3, 3)  # degree 2, announced as threshold 2
    sealed = cheat(over, 2)
    decrypt_key(sealed, some(0, 1))  # nothing at hand contradicts
    for places in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):
        with pytest.raises(DecryptionFailed):
            decrypt_key(sealed, some(*places), PUBLIC)
    with pytest.raises(DecryptionFailed, match="polynomial"):
        decrypt_key(sealed, some(0, 1, 2))


def test_a_share_that_does_not_fit_is_caught_also_where_its_key_is_not_at_hand() -> None:
    shares = gf256.split(os.urandom(32), 2, 4)
    shares[3] = Share(4, os.urandom(32))
    sealed = cheat(shares, 2)
    decrypt_key(sealed, some(0, 1, 2))
    for places in ((0, 1), (0, 1, 2), (0, 1, 2, 3)):
        with pytest.raises(DecryptionFailed, match="polynomial"):
            decrypt_key(sealed, some(*places), PUBLIC)


@given(st.binary(max_size=40), st.integers(1, 12), st.data())
@settings(deadline=None)
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, threshold: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(threshold, 20))
    indices = data.draw(st.none() | st.lists(st.integers(1, 255), min_size=count, max_size=count, unique=True))
    shares = gf256.split(secret, threshold, count, indices=indices)
    assert [share.index for share in shares] == (indices or list(range(1, count + 1)))
    chosen = data.draw(st.permutations(shares))[:threshold]
    assert gf256.combine(chosen) == secret
    for share in shares:
        assert gf256.evaluate(chosen, share.index) == share.value


def test_fewer_shares_than_the_threshold_say_nothing() -> None:
    # With one share of two each secret is still possible, by exactly one other share.
    share = gf256.split(b"\x07", 2, 2)[0]
    assert {gf256.combine([share, Share(2, bytes([value]))])[0] for value in range(256)} == set(range(256))


def test_shares_without_sense_are_refused() -> None:
    for shares in ([], [Share(0, b"a")], [Share(1, b"a"), Share(1, b"b")], [Share(256, b"a")]):
        with pytest.raises(InvalidInput):
            gf256.combine(shares)
    with pytest.raises(InvalidInput):
        gf256.combine([Share(1, b"a"), Share(2, b"ab")])
    for threshold, count in ((0, 1), (2, 1), (1, 256)):
        with pytest.raises(InvalidInput):
            gf256.split(b"a", threshold, count)
    for indices in ([1], [1, 1], [0, 1], [1, 256]):
        with pytest.raises(InvalidInput):
            gf256.split(b"a", 1, 2, indices=indices)
    with pytest.raises(InvalidInput):
        gf256.split(b"a", 2, 3, coefficients=[b"ab"])
    with pytest.raises(ZeroDivisionError):
        gf256.divide(1, 0)
    assert "value" not in repr(Share(1, b"secret"))


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_gf256_is_a_field(a: int, b: int, c: int) -> None:
    times = gf256.multiply
    assert times(a, b) == times(b, a)
    assert times(a, times(b, c)) == times(times(a, b), c)
    assert times(a, b ^ c) == times(a, b) ^ times(a, c)
    if b:
        assert times(gf256.divide(a, b), b) == a


def test_a_batch_of_user_secret_keys_is_verified_as_one_and_judged_one_by_one() -> None:
    key = KEYS[0]
    identities = [FULL + bytes([number]) for number in range(6)]
    right = [(identity, key.extract(identity)) for identity in identities]
    assert verify_user_secret_keys(right, key.public_key) == [True] * 6
    wrong = [*right[:2], (identities[2], right[3][1]), *right[3:]]
    assert verify_user_secret_keys(wrong, key.public_key) == [True, True, False, True, True, True]
    assert verify_user_secret_keys([*right[:1], (identities[1], b"")], key.public_key) == [True, False]
    assert verify_user_secret_keys([], key.public_key) == []
    swapped = [(identities[0], right[1][1]), (identities[1], right[0][1])]
    assert verify_user_secret_keys(swapped, key.public_key) == [False, False]
    assert not verify_user_secret_key(right[0][1], identities[0], b"")


def test_a_proof_of_possession_is_for_one_key_and_one_service() -> None:
    proof = KEYS[0].prove_possession(IDS[0])
    verify_possession(proof, KEYS[0].public_key, IDS[0])
    for key, service in ((KEYS[1], IDS[0]), (KEYS[0], IDS[1])):
        with pytest.raises(InvalidSignature):
            verify_possession(proof, key.public_key, service)


def test_an_encrypted_user_secret_key_that_is_the_identity_is_refused() -> None:
    session = DecryptionKey(5)
    ephemeral = BACKEND.multiply(BACKEND.g1, 7)
    blinded = BACKEND.multiply(ephemeral, 5)
    with pytest.raises(MalformedPoint):
        session.decrypt(Encryption(BACKEND.encode(ephemeral), BACKEND.encode(blinded)))


@pytest.mark.parametrize("secret", [KEYS[0], DecryptionKey(), Ed25519Signer(bytes(range(32)))])
def test_secrets_are_neither_printed_nor_pickled(secret: object) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    scalar = getattr(secret, "_scalar", int.from_bytes(bytes(range(32)), "big"))
    assert f"{scalar:x}" not in repr(secret)
    assert str(scalar) not in repr(secret)


def test_refusals_survive_pickling() -> None:
    error = NotEnoughKeys("none", reason="no-access", failures=[KeyServerRefused("no", code="NoAccess")])
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.failures[0].code, again.failures[0].reason) == ("no-access", "NoAccess", "no-access")
    assert KeyServerRefused("", code="InvalidPTB").reason == "invalid-ptb"


def test_what_makes_no_sense_is_refused_at_the_door() -> None:
    for arguments in (
        (servers(1, 1), 3), (servers(1), 0), ([], 1), (servers(0), 1), (servers(1) * 2, 1), (servers(256), 1),
        ([ServerKey(b"short", KEYS[0].public_key)], 1),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            Encryptor(*arguments)
    encryptor = ENCRYPTORS[False]
    with pytest.raises(InvalidInput):
        encryptor.encrypt(b"short", INNER, b"")
    with pytest.raises(InvalidInput):
        encryptor.encrypt(PACKAGE, INNER, b"data", cipher=Dem.PLAIN)
    with pytest.raises(InvalidInput):
        encryptor.encrypt(PACKAGE, INNER, b"", randomness=Randomness(bytes(32), (bytes(32),), 0))
    for wrong in (0, ORDER):
        with pytest.raises(InvalidInput):
            MasterKey(wrong)
    with pytest.raises(InvalidInput):
        MasterKey.from_bytes(b"short")
    with pytest.raises(InvalidInput):
        MasterKey.derive(b"short", 0)
    with pytest.raises(InvalidInput):
        KEYS[0].prove_possession(b"short")


def test_a_backend_is_chosen_by_name_and_a_wrong_name_stops_the_import() -> None:
    with pytest.raises(ConfigurationError):
        load("another")
    code = "import daas.seal.backend as b; print(b.BACKEND.name)"
    for name, said in (("arkworks", "py-arkworks-bls12381"), ("blst", "pyblst+chia_rs"), ("", "pyblst+chia_rs")):
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "DAAS_SEAL_BACKEND": name}
        )
        assert result.stdout.strip() == said
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "DAAS_SEAL_BACKEND": "x"}
    )
    assert "ConfigurationError" in result.stderr


def test_without_the_first_backend_the_second_is_chosen_and_without_any_the_import_stops() -> None:
    head = "import sys; sys.modules['pyblst'] = None\n"
    tail = "import daas.seal.backend as b; print(b.BACKEND.name)"
    result = subprocess.run([sys.executable, "-c", head + tail], capture_output=True, text=True)
    assert result.stdout.strip() == "py-arkworks-bls12381", result.stderr
    head += "sys.modules['py_arkworks_bls12381'] = None\n"
    result = subprocess.run([sys.executable, "-c", head + tail], capture_output=True, text=True)
    assert "no BLS12-381 backend is installed" in result.stderr


def test_a_backend_that_computes_something_else_is_refused() -> None:
    class Wrong(type(load("blst"))):  # type: ignore[misc]  # the class is a value here
        def pairing(self, left: object, right: object) -> bytes:
            return bytes(super().pairing(left, right)[::-1])

    with pytest.raises(ConfigurationError, match="KDF"):
        self_test(Wrong())


def test_the_library_does_not_load_a_ledger_client() -> None:
    code = "import daas.seal, daas.seal.server, sys; print('pysui' in sys.modules or 'daas.ledger' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
