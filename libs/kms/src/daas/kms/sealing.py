"""Sealing a generation's seed under the cluster's policy, and opening it again through key servers."""

import base64
import os
import time
from typing import Final

import msgspec

from daas.common.errors import DecodeError, InvalidInput
from daas.kms.envelope import SEED_BYTES
from daas.kms.keyring import GENERATIONS_MAX, Generation, Keyring, associated, key_id
from daas.kms.servers import KeyServers
from daas.seal import (
    ApproveCall,
    EncryptedObject,
    Encryptor,
    PersonalMessageSigner,
    SealClient,
    SessionKey,
    Shared,
    build_ptb,
    parse_address,
)

#: Of a policy's ids: address and generation of the policy (u64). Source: infra/move/daas/sources/policy.move.
NAMESPACE_BYTES: Final = 40
_PURPOSE: Final = b"kms"
_CLOCK: Final = Shared(bytes(31) + b"\x06", 1)
#: One opening, no more: a session of the shortest kind.
_SESSION_MIN: Final = 1


def add_generation(keyring: Keyring, servers: KeyServers, namespace: bytes) -> Keyring:
    """A keyring with a fresh seed, sealed to the key servers; needs no network.

    Args:
        keyring: of the cluster.
        servers: to whom, and how many of them open it.
        namespace: what ids of the policy's present generation start with, 40 bytes.

    Raises:
        InvalidInput: `kms-policy`: the namespace is another policy's; `kms-generations`.
    """
    if len(namespace) != NAMESPACE_BYTES or namespace[:32] != parse_address(keyring.policy):
        raise InvalidInput("the namespace is not that of the keyring's policy", reason="kms-policy")
    if len(keyring.generations) >= GENERATIONS_MAX:
        raise InvalidInput(
            f"a keyring holds {GENERATIONS_MAX} generations: drop those that nothing is stored under any more",
            reason="kms-generations",
        )
    number = keyring.generations[-1].number + 1 if keyring.generations else 1
    keys = [server.key for server in servers.known()]
    # An identity of its own: a key released for one generation opens nothing else.
    inner_id = namespace + _PURPOSE + os.urandom(8)
    sealed = (
        Encryptor(keys, servers.threshold, cached_identities=0)
        .encrypt(
            parse_address(keyring.package),
            inner_id,
            os.urandom(SEED_BYTES),
            aad=associated(keyring.cluster, number),
        )
        .object.encode()
    )
    generation = Generation(
        number=number,
        key_id=key_id(number, sealed),
        sealed=base64.b64encode(sealed).decode(),
        created_ms=time.time_ns() // 1_000_000,
    )
    return msgspec.structs.replace(keyring, generations=(*keyring.generations, generation))


def approval(keyring: Keyring, inner_id: bytes) -> bytes:
    """The transaction that asks key servers for one identity; they resolve versions of objects anew."""
    shared = [Shared(parse_address(keyring.policy), 1), Shared(parse_address(keyring.pool), 1)]
    function = "seal_approve"
    if keyring.node is not None:
        function = "seal_approve_node"
        shared.append(Shared(parse_address(keyring.node), 1))
    call = ApproveCall(module="policy", function=function, inner_id=inner_id, arguments=(*shared, _CLOCK))
    return build_ptb(parse_address(keyring.package), [call])


async def open_seed(
    client: SealClient, signer: PersonalMessageSigner, keyring: Keyring, generation: Generation
) -> bytes:
    """The seed of a generation, 32 bytes. Keep it in memory alone.

    Args:
        client: knows all key servers that the seed is sealed to.
        signer: whose stake, or whose node, the policy looks at.
        keyring: whose generation it is.
        generation: what to open.

    Raises:
        NotEnoughKeys: the policy says no. ThresholdUnreachable: key servers, or their full nodes, are away.
        DecryptionFailed, DecodeError: it is no seed of ours.
    """
    return await open_sealed(client, signer, keyring, EncryptedObject.decode(generation.sealed_bytes))


async def open_sealed(
    client: SealClient, signer: PersonalMessageSigner, keyring: Keyring, sealed: EncryptedObject
) -> bytes:
    """As `open_seed`, of any seed under the keyring's policy; its generations do not matter."""
    session = await SessionKey.create(signer, sealed.package_id, ttl_min=_SESSION_MIN)
    try:
        seed = await client.decrypt(sealed, session, approval(keyring, sealed.inner_id))
    finally:
        client.forget(session)
    if len(seed) != SEED_BYTES:
        raise DecodeError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}", reason="kms-seed")
    return seed
