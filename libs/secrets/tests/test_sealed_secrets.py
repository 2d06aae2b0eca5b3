"""A Secret is sealed, stored, moved, changed and opened."""

import base64
import copy
import json
import pickle
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sealed_world import parameters, private_pem, release, secret, tls_pair

from daas.common.errors import DaasError, DecodeError, InvalidInput
from daas.seal import Shared, parse_ptb
from daas.secrets import (
    AsNode,
    AsOwner,
    ByStake,
    Envelope,
    EnvelopeId,
    MalformedEnvelope,
    MalformedSecret,
    NotAuthentic,
    OwnedObject,
    Place,
    Scope,
    SealedSecret,
    SealParameters,
    SharedObject,
    State,
    WithTicket,
    WrongPlace,
    approve_ptb,
    opened_secret,
    seal_secret,
    share_envelope,
    state_of,
)
from daas.secrets.manifest import ANNOTATIONS, ENVELOPE, ENVELOPE_KEY, GENERATION, SEAL_POLICY
from daas.secrets.mounted import mounted_secret

PARAMETERS = parameters()
ENCRYPTOR = PARAMETERS.key_servers.encryptor()
ORIGINAL = base64.b64decode(
    seal_secret(secret({"k": b"v"}), PARAMETERS, ENCRYPTOR)["metadata"]["annotations"][ENVELOPE]
)
DATA = {"user": b"admin", "password": b"correct horse battery staple"}


def seal(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return seal_secret(manifest, parameters(**changes), ENCRYPTOR)


def open_(manifest: dict[str, Any], cluster: str = "east") -> dict[str, bytes]:
    parsed = SealedSecret.parse(cluster, manifest)
    return parsed.open(release(parsed.envelope))


def test_a_sealed_secret_opens_to_what_it_was_and_shows_nothing_of_it() -> None:
    sealed = seal(secret(DATA, labels={"app": "shop"}))
    text = json.dumps(sealed)
    raw = b"".join(base64.b64decode(value) for value in sealed["data"].values())
    for value in DATA.values():
        assert value not in raw
        assert base64.b64encode(value).decode() not in text
    assert sealed["metadata"]["labels"] == {"app": "shop", SEAL_POLICY: "default"}
    assert state_of(sealed) is State.SEALED
    assert open_(sealed) == DATA
    assert opened_secret(sealed, open_(sealed)) == secret(DATA, labels={"app": "shop"})


def files_of(manifest: dict[str, Any]) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in manifest["data"].items()}


def test_the_files_of_a_mounted_secret_open_in_their_place_and_nowhere_else() -> None:
    registry = {".dockerconfigjson": b'{"auths": {"example.com": {"auth": "eDp5"}}}'}
    for data, secret_type in ((DATA, "Opaque"), (registry, "kubernetes.io/dockerconfigjson")):
        sealed = seal(secret(data, secret_type=secret_type))
        place = SealedSecret.parse("east", sealed).place
        mounted = mounted_secret(place, files_of(sealed))
        assert mounted.open(release(mounted.envelope)) == data
        with pytest.raises(WrongPlace):
            mounted_secret(Place("east", place.namespace, "other"), files_of(sealed))
    with pytest.raises(MalformedEnvelope) as caught:
        mounted_secret(place, {"password": b"in clear"})
    assert caught.value.reason == "secret-not-sealed"


def test_a_mounted_envelope_that_differs_from_the_annotation_is_refused() -> None:
    sealed, other = seal(secret(DATA)), seal(secret(DATA))
    sealed["data"][ENVELOPE_KEY] = other["data"][ENVELOPE_KEY]
    with pytest.raises(MalformedEnvelope) as caught:
        open_(sealed)
    assert caught.value.reason == "annotation-differs"


def test_plain_values_over_sealed_ones_are_sealed_anew() -> None:
    sealed = seal(secret(DATA))
    again = seal(sealed | {"data": sealed["data"] | secret(DATA)["data"]})
    assert open_(again) == DATA
    assert again["data"][ENVELOPE_KEY] != sealed["data"][ENVELOPE_KEY]


def test_sealing_again_changes_nothing_but_another_generation_is_refused() -> None:
    sealed = seal(secret(DATA))
    assert seal(copy.deepcopy(sealed)) == sealed
    with pytest.raises(MalformedEnvelope) as caught:
        seal(sealed, generation=4)
    assert caught.value.reason == "secret-sealed-otherwise"


def test_every_sealing_has_an_id_and_a_key_of_its_own() -> None:
    first, second = (SealedSecret.parse("east", seal(secret(DATA))) for _ in range(2))
    assert first.envelope.sealed.full_id != second.envelope.sealed.full_id
    with pytest.raises(DaasError):
        second.open(release(first.envelope))
    assert first.envelope.sealed.inner_id[:40] == bytes.fromhex("cd" * 32) + (3).to_bytes(8, "little")


@pytest.mark.parametrize("where", [{"name": "other"}, {"namespace": "other"}])
def test_a_secret_that_is_moved_is_recognised_before_any_key_is_asked_for(where: dict[str, str]) -> None:
    sealed = seal(secret(DATA))
    sealed["metadata"] |= where
    with pytest.raises(WrongPlace):
        SealedSecret.parse("east", sealed)


def test_a_secret_of_another_cluster_is_refused() -> None:
    with pytest.raises(WrongPlace):
        SealedSecret.parse("west", seal(secret(DATA)))


def test_values_that_change_places_or_bytes_do_not_open() -> None:
    sealed = seal(secret(DATA))
    swapped = copy.deepcopy(sealed)
    swapped["data"] = {"user": sealed["data"]["password"], "password": sealed["data"]["user"]}
    changed = copy.deepcopy(sealed)
    raw = bytearray(base64.b64decode(sealed["data"]["user"]))
    raw[-1] ^= 1
    changed["data"]["user"] = base64.b64encode(raw).decode()
    other = copy.deepcopy(sealed)
    other["data"]["user"] = seal(secret(DATA))["data"]["user"]
    for bad in (swapped, changed, other):
        with pytest.raises(NotAuthentic) as caught:
            open_(bad)
        assert caught.value.reason == "value-changed"


def test_a_value_added_in_clear_to_a_sealed_secret_is_noticed() -> None:
    sealed = seal(secret(DATA))
    sealed["data"]["new"] = base64.b64encode(b"plain").decode()
    assert state_of(sealed) is State.MIXED
    for act in (lambda: seal(sealed), lambda: open_(sealed)):
        with pytest.raises(MalformedEnvelope) as caught:
            act()
        assert caught.value.reason == "secret-partly-sealed"


@pytest.mark.parametrize("field", [SEAL_POLICY, GENERATION])
def test_annotations_that_say_something_else_than_the_envelope_are_refused(field: str) -> None:
    sealed = seal(secret(DATA))
    sealed["metadata"]["annotations"][field] = "7"
    with pytest.raises(MalformedEnvelope) as caught:
        open_(sealed)
    assert caught.value.reason == "annotation-differs"


def test_string_data_is_sealed_too_and_kubectls_copy_is_removed() -> None:
    manifest = secret(
        {"a": b"1"}, annotations={"kubectl.kubernetes.io/last-applied-configuration": "hunter2", "x": "y"}
    )
    manifest["stringData"] = {"a": "hunter2", "b": "hunter3"}
    sealed = seal(manifest)
    assert "hunter" not in json.dumps(sealed)
    assert set(sealed["metadata"]["annotations"]) == {"x", *ANNOTATIONS}
    assert open_(sealed) == {"a": b"hunter2", "b": b"hunter3"}


def test_a_namespace_may_share_an_envelope_unless_releases_are_counted() -> None:
    shared = share_envelope(PARAMETERS, ENCRYPTOR, "shop")
    one = seal_secret(secret(DATA, name="one"), PARAMETERS, ENCRYPTOR, shared=shared)
    two = seal_secret(secret({"k": b"v"}, name="two"), PARAMETERS, ENCRYPTOR, shared=shared)
    assert one["metadata"]["annotations"][ENVELOPE] == two["metadata"]["annotations"][ENVELOPE]
    key = release(shared.envelope)
    assert SealedSecret.parse("east", one).open(key) == DATA
    assert SealedSecret.parse("east", two).open(key) == {"k": b"v"}
    moved = copy.deepcopy(one)
    moved["metadata"]["name"] = "two"
    with pytest.raises(NotAuthentic):
        SealedSecret.parse("east", moved).open(key)
    with pytest.raises(WrongPlace):
        seal_secret(secret(DATA, namespace="other"), PARAMETERS, ENCRYPTOR, shared=shared)
    with pytest.raises(MalformedSecret):
        share_envelope(parameters(usage_limit=3), ENCRYPTOR, "shop")
    with pytest.raises(MalformedSecret):
        seal_secret(secret(DATA), parameters(usage_limit=3), ENCRYPTOR, shared=shared)


def test_all_four_classes_are_sealed_and_opened() -> None:
    certificate, key = tls_pair()
    config = json.dumps({"auths": {"registry.example": {"auth": "dXNlcjpwdw=="}}}).encode()
    material = {
        "kubernetes.io/tls": ("tls", {"tls.crt": certificate, "tls.key": key}),
        "k3s-daas.io/node": (
            "node",
            {"token": b"K10aa::server:pw", "a.key": private_pem(Ed25519PrivateKey.generate())},
        ),
        "Opaque": ("application", {"anything": bytes(range(256))}),
        "kubernetes.io/dockerconfigjson": ("registry", {".dockerconfigjson": config}),
        "kubernetes.io/dockercfg": ("registry", {".dockercfg": b'{"registry.example": {}}'}),
        "example.com/own": ("application", {"x": b""}),
    }
    for secret_type, (kind, data) in material.items():
        sealed = seal(secret(data, secret_type=secret_type))
        assert sealed["metadata"]["annotations"]["k3s-daas.io/secret-class"] == kind
        assert sealed["type"] == secret_type
        assert open_(sealed) == data
        if kind == "registry":  # the API server takes nothing but JSON objects here
            stored = next(value for name, value in sealed["data"].items() if name != ENVELOPE_KEY)
            assert list(json.loads(base64.b64decode(stored))) == ["k3s-daas.io/sealed"]


@pytest.mark.parametrize(
    ("secret_type", "data", "reason"),
    [
        ("kubernetes.io/service-account-token", {"token": b"x"}, "secret-type"),
        ("bootstrap.kubernetes.io/token", {"token-id": b"x"}, "secret-type"),
        ("Opaque", {}, "secret-empty"),
        ("Opaque", {"a b": b"x"}, "secret-key"),
        ("Opaque", {"a": bytes(1024 * 1024 + 1)}, "secret-size"),
        ("kubernetes.io/tls", {"tls.crt": b"x"}, "secret-content"),
        ("kubernetes.io/tls", {"tls.crt": b"x", "tls.key": b"y"}, "secret-content"),
        ("kubernetes.io/tls", {"tls.crt": tls_pair()[0], "tls.key": tls_pair()[1]}, "secret-content"),
        ("kubernetes.io/tls", {"tls.crt": tls_pair()[0], "tls.key": b"y"}, "secret-content"),
        ("k3s-daas.io/node", {"token": b"two words"}, "secret-content"),
        ("k3s-daas.io/node", {"node.key": b"no PEM"}, "secret-content"),
        ("k3s-daas.io/node", {"other": b"x"}, "secret-content"),
        ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": b"{}"}, "secret-content"),
        ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": b'{"auths":{}}'}, "secret-content"),
        ("kubernetes.io/dockercfg", {".dockercfg": b"no"}, "secret-content"),
        ("kubernetes.io/basic-auth", {"x": b"y"}, "secret-content"),
        ("kubernetes.io/ssh-auth", {"x": b"y"}, "secret-content"),
    ],
)
def test_what_breaks_the_rules_of_its_type_is_refused_before_it_is_sealed(
    secret_type: str, data: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(MalformedSecret) as caught:
        seal(secret(data, secret_type=secret_type))
    assert caught.value.reason == reason


def test_a_secret_without_a_name_of_its_own_or_with_data_that_is_none_is_refused() -> None:
    nameless = secret(DATA)
    del nameless["metadata"]["name"]
    homeless = secret(DATA)
    del homeless["metadata"]["namespace"]
    odd = secret(DATA) | {"data": {"a": "%%"}}
    for manifest, reason in [
        (nameless, "secret-name"),
        (homeless, "secret-name"),
        (odd, "secret-data"),
        (secret(DATA) | {"stringData": {"a": 1}}, "secret-data"),
        (secret(DATA) | {"data": []}, "secret-empty"),
        (secret(DATA) | {"kind": "ConfigMap"}, "secret-kind"),
        (secret(DATA, labels=["x"]), "secret-metadata"),
    ]:
        with pytest.raises(MalformedSecret) as caught:
            seal(manifest)
        assert caught.value.reason == reason


def test_the_transaction_asks_for_the_envelopes_id_in_each_of_the_four_ways() -> None:
    envelope = SealedSecret.parse("east", seal(secret(DATA))).envelope
    policy, pool = SharedObject(PARAMETERS.policy, 5), SharedObject("0x" + "11" * 32, 6)
    node, ticket = SharedObject("0x" + "22" * 32, 7), OwnedObject("0x" + "33" * 32, 8, bytes(32))
    session = bytes(range(32))
    seen = {}
    for right in (ByStake(pool), AsNode(pool, node), WithTicket(pool, ticket), AsOwner()):
        (call,) = parse_ptb(approve_ptb(PARAMETERS.package, envelope, policy, right, session)).calls
        assert call.inner_id == envelope.sealed.inner_id
        assert Shared(bytes.fromhex("cd" * 32), 5) in call.arguments
        seen[call.function] = len(call.arguments)
    assert seen == {"seal_approve": 4, "seal_approve_node": 5, "seal_approve_ticket": 6, "seal_approve_rotation": 2}
    with pytest.raises(InvalidInput):
        approve_ptb(PARAMETERS.package, envelope, pool, AsOwner(), session)


def test_parameters_are_json_that_is_read_strictly() -> None:
    assert SealParameters.decode(PARAMETERS.encode()) == PARAMETERS
    for bad in (b"", b"{}", PARAMETERS.encode().replace(b'"generation": 3', b'"generation": 0')):
        with pytest.raises(DecodeError):
            SealParameters.decode(bad)


def test_keys_neither_print_nor_pickle() -> None:
    key = share_envelope(PARAMETERS, ENCRYPTOR, "shop")
    assert "DataKey(Envelope(namespace" in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**64 - 1), st.text(min_size=1), st.text(min_size=1))
def test_ids_are_read_as_they_were_written_and_fit_no_other_place(
    policy: bytes, generation: int, namespace: str, name: str
) -> None:
    identity = EnvelopeId.fresh(policy, generation, Scope.SECRET, Place("c", namespace, name))
    assert EnvelopeId.decode(identity.encode()) == identity
    identity.check(Place("c", namespace, name))
    for other in (Place("d", namespace, name), Place("c", namespace + "x", name), Place("c", name + "y", namespace)):
        with pytest.raises(WrongPlace):
            identity.check(other)


@settings(max_examples=300)
@given(st.data())
def test_mutated_envelopes_give_only_typed_errors(data: st.DataObject) -> None:
    raw = bytearray(ORIGINAL)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        Envelope.decode(cut).check(Place("east", "shop", "db"))
    except DaasError:
        assert cut != ORIGINAL
