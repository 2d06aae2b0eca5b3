"""The plugin's answers without a socket: round trips, refusals, mutated requests; and the rules of the socket."""

import os
import random
import socket
from pathlib import Path

import pytest

from daas.common.errors import ConfigurationError, DaasError, InvalidInput, NotFound, Refused, Unavailable
from daas.kms import api_pb2 as api
from daas.kms import envelope
from daas.sealkeeper.kms import listener
from daas.sealkeeper.kms.plugin import Plugin
from daas.sealkeeper.kms.seeds import Opened

DEK = bytes(range(32))


class TwoSeeds:
    """Seeds that are open from the start; `locked` are not."""

    def __init__(self) -> None:
        self.opened = [Opened(n, f"daas-kms-{n}-{'ab' * 16}", os.urandom(444), os.urandom(32)) for n in (1, 2)]
        self.locked = False

    def current(self) -> Opened:
        if self.locked:
            raise Unavailable("the seed of generation 2 is not open yet", reason="kms-seed-sealed")
        return self.opened[-1]

    def named(self, key_id: str) -> Opened:
        for one in self.opened:
            if one.key_id == key_id:
                return one
        raise NotFound("the keyring has no such key", reason="kms-unknown-key")


@pytest.fixture
def seeds() -> TwoSeeds:
    return TwoSeeds()


@pytest.fixture
def plugin(seeds: TwoSeeds) -> Plugin:
    return Plugin(seeds)


def encrypted(plugin: Plugin, plaintext: bytes = DEK) -> api.EncryptResponse:
    return api.EncryptResponse.FromString(plugin.encrypt(api.EncryptRequest(plaintext=plaintext).SerializeToString()))


def request_for(answer: api.EncryptResponse) -> api.DecryptRequest:
    return api.DecryptRequest(
        ciphertext=answer.ciphertext, key_id=answer.key_id, annotations=dict(answer.annotations), uid="u"
    )


def decrypted(plugin: Plugin, request: api.DecryptRequest) -> bytes:
    return api.DecryptResponse.FromString(plugin.decrypt(request.SerializeToString())).plaintext


def test_status_names_the_key_that_encrypt_uses(plugin: Plugin, seeds: TwoSeeds) -> None:
    status = api.StatusResponse.FromString(plugin.status(b""))
    assert (status.version, status.healthz, status.key_id) == ("v2", "ok", seeds.opened[-1].key_id)
    assert encrypted(plugin).key_id == status.key_id


def test_without_an_open_seed_status_and_encrypt_refuse_instead_of_complaining(plugin: Plugin, seeds: TwoSeeds) -> None:
    seeds.locked = True
    for call in (plugin.status, plugin.encrypt):
        with pytest.raises(Unavailable, match="not open yet"):
            call(b"")


def test_status_fails_when_its_round_trip_does(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "wrap", lambda *_: bytes(100))
    with pytest.raises(DaasError):
        plugin.status(b"")


def test_an_older_generation_opens_but_a_ciphertext_is_bound_to_its_key_id(plugin: Plugin, seeds: TwoSeeds) -> None:
    old = seeds.opened[0]
    request = api.DecryptRequest(
        ciphertext=envelope.wrap(old.seed, old.key_id, DEK),
        key_id=old.key_id,
        annotations={envelope.ANNOTATION: old.sealed},
    )
    assert decrypted(plugin, request) == DEK
    # Even the same seed under another key id opens nothing.
    seeds.opened[1] = Opened(2, seeds.opened[1].key_id, old.sealed, old.seed)
    request.key_id = seeds.opened[1].key_id
    with pytest.raises(Refused, match="kms-tag"):
        decrypted(plugin, request)


def test_annotations_are_exactly_those_that_were_given_out(plugin: Plugin) -> None:
    answer = encrypted(plugin)
    for annotations in ({}, {envelope.ANNOTATION: b"other"}, {**answer.annotations, "a.b": b"more"}):
        request = api.DecryptRequest(ciphertext=answer.ciphertext, key_id=answer.key_id, annotations=annotations)
        with pytest.raises(InvalidInput, match="kms-annotations"):
            decrypted(plugin, request)


@pytest.mark.parametrize("size", [0, envelope.PLAINTEXT_BYTES_MAX + 1])
def test_plaintexts_have_bounds(plugin: Plugin, size: int) -> None:
    with pytest.raises(InvalidInput, match="kms-plaintext"):
        encrypted(plugin, bytes(size))
    assert len(encrypted(plugin, bytes(envelope.PLAINTEXT_BYTES_MAX)).ciphertext) < 1024


def test_mutated_requests_get_typed_errors_and_never_a_wrong_plaintext(plugin: Plugin) -> None:
    dice = random.Random(20_261_122)
    whole = request_for(encrypted(plugin)).SerializeToString(deterministic=True)
    refusals = 0
    for _ in range(20_000):
        raw = bytearray(whole)
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(raw))
            match dice.randrange(3):
                case 0:
                    raw[place] ^= 1 << dice.randrange(8)
                case 1:
                    del raw[place : place + dice.randint(1, 8)]
                case _:
                    raw[place:place] = dice.randbytes(dice.randint(1, 8))
        try:
            answer = plugin.decrypt(bytes(raw))
        except DaasError:
            refusals += 1
        else:  # only the call's own name may change, or fields that nobody knows
            assert api.DecryptResponse.FromString(answer).plaintext == DEK
    assert refusals > 15_000


def test_noise_gets_typed_errors(plugin: Plugin) -> None:
    dice = random.Random(4)
    for _ in range(5_000):
        noise = dice.randbytes(dice.randrange(200))
        for call in (plugin.decrypt, plugin.encrypt, plugin.status):
            try:
                call(noise)
            except DaasError as error:
                assert error.reason.startswith("kms-")  # noqa: PT017 - an answer is as good


def test_open_seeds_do_not_print_themselves(seeds: TwoSeeds) -> None:
    one = seeds.opened[0]
    assert one.seed.hex() not in repr(one)
    assert repr(one.seed) not in repr(one)


def test_the_socket_goes_where_nobody_else_can_put_another(tmp_path: Path) -> None:
    listener.prepare(tmp_path / "kms.sock")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(ConfigurationError, match="others may write"):
        listener.prepare(shared / "kms.sock")
    shared.chmod(0o1777)
    listener.prepare(shared / "kms.sock")
    for wrong in (Path("kms.sock"), tmp_path / "missing" / "kms.sock", tmp_path / ("x" * 120)):
        with pytest.raises(ConfigurationError, match="kms-socket"):
            listener.prepare(wrong)


def test_what_is_no_socket_is_left_alone_and_a_socket_open_to_others_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(ConfigurationError, match="is no socket"):
        listener.prepare(file)
    assert file.read_text() == "precious"
    path = tmp_path / "kms.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
        path.chmod(0o666)
        with pytest.raises(ConfigurationError, match="0666"):
            listener.check(path)
    listener.prepare(path)  # nobody listens there any more
    assert not path.exists()
