"""Mutated objects, answers and requests end in typed errors, and never in another plaintext or another key."""

import base64
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from daas.common.errors import DaasError
from daas.seal import (
    Dem,
    EncryptedObject,
    Encryptor,
    KeyServer,
    MasterKey,
    ServerKey,
    decrypt,
    decrypt_key,
    elgamal,
    wire,
)
from daas.seal.backend import BACKEND
from daas.seal.client.fetch import Wanted, _open
from daas.seal.elgamal import DecryptionKey
from daas.seal.encrypted_object import Plain
from daas.seal.ptb import ApproveCall, build_ptb
from daas.seal.server.checks import check_session_signature, check_user_signature, decode_fetch_request
from daas.seal.server.refusal import Refusal
from daas.seal.session import SessionKey
from daas.seal.signatures import Ed25519Signer

PACKAGE = os.urandom(32)
INNER = b"the identity"
FULL = PACKAGE + INNER
PLAINTEXT = b"the one right plaintext"
KEYS = [MasterKey.generate() for _ in range(3)]
IDS = [os.urandom(32) for _ in KEYS]
SERVERS = [ServerKey(object_id, key.public_key) for object_id, key in zip(IDS, KEYS, strict=True)]
PUBLIC = {server.object_id: server.public_key for server in SERVERS}
SECRET = {object_id: key.extract(FULL) for object_id, key in zip(IDS, KEYS, strict=True)}

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def flip(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 3, 127, 128, 192, 255, rng.randrange(256)))


def insert(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randrange(1, 9))


def remove(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 32, 33))]


def truncate(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data)) :]


def move(rng: random.Random, data: bytearray, _others: Sequence[bytes]) -> None:
    size = rng.choice((1, 32, 33, 48, 96))
    source, target = rng.randrange(len(data)), rng.randrange(len(data))
    data[target : target + size] = data[source : source + size]


def splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    at = rng.randrange(len(data))
    data[at:] = other[at + rng.choice((0, 0, 0, 1, -1)) :]


MUTATIONS: tuple[Mutation, ...] = (flip, flip, overwrite, insert, remove, truncate, move, splice)


def mutate(rng: random.Random, bases: Sequence[bytes]) -> bytes:
    data = bytearray(rng.choice(bases))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            rng.choice(MUTATIONS)(rng, data, bases)
    return bytes(data)


def fuzz_objects(rng: random.Random, count: int) -> Counter[str]:
    """Mutated objects under the right keys, with and without the check of all shares."""
    bases, keys = [], set()
    for servers, threshold in ((SERVERS[:1], 1), (SERVERS, 2)):
        encryptor = Encryptor(servers, threshold)
        for cipher in Dem:
            for aad in (None,) if cipher is Dem.PLAIN else (None, b"", b"context"):
                plaintext = b"" if cipher is Dem.PLAIN else PLAINTEXT
                made = encryptor.encrypt(PACKAGE, INNER, plaintext, aad=aad, cipher=cipher)
                bases.append(made.object.encode())
                keys.add(made.data_key)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        raw = mutate(rng, bases)
        held = dict(list(SECRET.items())[: rng.randrange(1, 4)])
        try:
            sealed = EncryptedObject.decode(raw)
            public = PUBLIC if number % 4 == 0 else None
            if isinstance(sealed.ciphertext, Plain):
                # Nothing binds the encapsulation: any object can be rewritten as a plain one, with the key it has.
                right, opened = keys, decrypt_key(sealed, held, public)
            else:
                right, opened = {PLAINTEXT}, decrypt(sealed, held, public)
        except DaasError as error:
            outcomes[error.reason] += 1
        else:
            assert opened in right, raw.hex()
            outcomes["opened"] += 1
    return outcomes


def fuzz_answers(rng: random.Random, count: int) -> Counter[str]:
    """Mutated answers of a key server: as JSON text, and inside of its base64."""
    server = KeyServer(object_id=IDS[0], url="http://127.0.0.1:9", public_key=KEYS[0].public_key)
    session = DecryptionKey()
    point = BACKEND.g1_decode(session.public_key)
    identities = [FULL, FULL + b"2"]
    right = {identity: KEYS[0].extract(identity) for identity in identities}
    wanted = Wanted(b"", frozenset(identities), {IDS[0]: 1}, 1)
    bases = [
        wire.encode_answer([(each, elgamal.encrypt(KEYS[0].extract_point(each), point)) for each in identities])
        for _ in range(4)
    ]
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        if rng.random() < 0.5:
            raw = mutate(rng, bases)
        else:
            answer = json.loads(rng.choice(bases))
            chosen = rng.choice(answer["decryption_keys"])
            place = rng.randrange(2)
            inside = mutate(rng, [base64.b64decode(part) for part in chosen["encrypted_key"]])
            chosen["encrypted_key"][place] = base64.b64encode(inside).decode()
            raw = json.dumps(answer).encode()
        try:
            keys = _open(server, raw, session, wanted)
        except DaasError as error:
            outcomes[error.reason] += 1
        else:
            assert keys == right, raw
            outcomes["opened"] += 1
    return outcomes


async def fuzz_requests(rng: random.Random, count: int) -> Counter[str]:
    """Mutated requests to a key server: what passes all checks is the request that was signed."""
    session = await SessionKey.create(Ed25519Signer(os.urandom(32)), PACKAGE)
    bases, right = [], set()
    for inner in (INNER, b"another"):
        key = DecryptionKey()
        ptb = build_ptb(PACKAGE, [ApproveCall(module="m", function="seal_approve", inner_id=inner)])
        signature = session.sign_request(ptb, key.public_key, key.verification_key)
        fields = (ptb, key.public_key, key.verification_key, signature)
        encoded = [base64.b64encode(field).decode() for field in fields]
        certificate = {name: getattr(session.certificate, name) for name in session.certificate.__struct_fields__}
        names = ("ptb", "enc_key", "enc_verification_key", "request_signature")
        body = dict(zip(names, encoded, strict=True)) | {"certificate": certificate}
        bases.append(json.dumps(body).encode())
        right.add((ptb, key.public_key, key.verification_key))
    outcomes: Counter[str] = Counter()
    for _ in range(count):
        raw = mutate(rng, bases)
        try:
            request = decode_fetch_request(raw)
            check_user_signature(request, request.certificate.mvr_name or "0x" + PACKAGE.hex())
            check_session_signature(request)
        except Refusal as refusal:
            outcomes[refusal.code] += 1
        else:
            assert (request.ptb, request.encryption_key, request.verification_key) in right
            assert "0x" + request.user.hex() == session.certificate.user
            outcomes["passed"] += 1
    return outcomes


async def fuzz(seed: int, count: int) -> dict[str, Counter[str]]:
    rng = random.Random(seed)
    return {
        "objects": fuzz_objects(rng, count // 2),
        "answers": fuzz_answers(rng, count // 4),
        "requests": await fuzz_requests(rng, count - count // 2 - count // 4),
    }


async def test_two_thousand_mutants_do_no_harm() -> None:
    outcomes = await fuzz(seed=1, count=2_000)
    assert sum(sum(kind.values()) for kind in outcomes.values()) == 2_000
    # The mutants must reach the depths: past decoding, and now and then to an unharmed result.
    assert outcomes["objects"]["seal-randomness"]
    assert outcomes["objects"]["seal-tag"]
    assert outcomes["answers"]["wrong-key"]
    assert outcomes["requests"]["InvalidSessionSignature"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_two_hundred_thousand_mutants_do_no_harm() -> None:
    seed = int(os.environ.get("DAAS_SEED", "2"))
    outcomes = await fuzz(seed, count=200_000)
    print(f"seed {seed}")  # noqa: T201 - a soak run reports
    for kind, counts in outcomes.items():
        print(kind, dict(counts.most_common()))  # noqa: T201 - as above
    assert sum(sum(kind.values()) for kind in outcomes.values()) == 200_000
