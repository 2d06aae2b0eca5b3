"""Requests to a keeper and its answers: only the two ends read them, and nothing fits anywhere else."""

import base64
import pickle

import msgspec
import pytest

from daas.common.errors import DecodeError
from daas.common.messages import Message
from daas.common.subjects import SECRET_OPEN, SECRET_SEAL
from daas.secrets import (
    KeeperKey,
    NotAuthentic,
    OpenQuestion,
    ReplyKey,
    SealAnswer,
    SealQuestion,
    SecretReply,
    SecretRequest,
    seal_reply,
)

KEEPER = KeeperKey(bytes(range(32)))


def ask() -> tuple[ReplyKey, SecretRequest]:
    reply = ReplyKey()
    question = SealQuestion(reply_key=reply.public_key, policy_name="default", manifest={"data": {"k": "plain"}})
    return reply, reply.seal_request(KEEPER.public_key, "east", SECRET_SEAL, question)


def test_a_question_reaches_the_keeper_and_its_answer_the_one_who_asked() -> None:
    reply, request = ask()
    question = KEEPER.open(request, "east", SECRET_SEAL, SealQuestion)
    assert question.manifest == {"data": {"k": "plain"}}
    answer = seal_reply(request, question.reply_key, "east", SECRET_SEAL, SealAnswer(manifest={}))
    assert reply.open(answer, SealAnswer) == SealAnswer(manifest={})
    for body in (request, answer):
        assert isinstance(body, Message)
        assert b"plain" not in msgspec.json.encode(body)
        assert b"plain" not in base64.b64decode(body.sealed)


def test_a_request_opens_for_its_cluster_subject_and_key_only() -> None:
    _, request = ask()
    for key, cluster, subject, reason in [
        (KEEPER, "west", SECRET_SEAL, "request-changed"),
        (KEEPER, "east", SECRET_OPEN, "request-changed"),
        (KeeperKey(bytes(32)), "east", SECRET_SEAL, "keeper-key"),
    ]:
        with pytest.raises(NotAuthentic) as caught:
            key.open(request, cluster, subject, SealQuestion)
        assert caught.value.reason == reason
    with pytest.raises(DecodeError):
        KEEPER.open(request, "east", SECRET_SEAL, OpenQuestion)
    with pytest.raises(DecodeError):
        KEEPER.open(SecretRequest(keeper=request.keeper, sealed="%"), "east", SECRET_SEAL, SealQuestion)


def test_an_answer_to_another_request_is_refused() -> None:
    (first, _), (second, request) = ask(), ask()
    answer = seal_reply(request, second.public_key, "east", SECRET_SEAL, SealAnswer(manifest={}))
    for bad in (answer, SecretReply(sealed=base64.b64encode(bytes(80)).decode()), SecretReply(sealed="")):
        with pytest.raises(NotAuthentic):
            first.open(bad, SealAnswer)
    forged = seal_reply(ask()[1], second.public_key, "east", SECRET_SEAL, SealAnswer(manifest={}))
    with pytest.raises(NotAuthentic):
        second.open(forged, SealAnswer)
    assert second.open(answer, SealAnswer) == SealAnswer(manifest={})


def test_a_reply_key_is_for_one_request_and_no_key_prints_or_pickles() -> None:
    reply, _ = ask()
    with pytest.raises(TypeError):
        reply.seal_request(KEEPER.public_key, "east", SECRET_SEAL, SealAnswer(manifest={}))
    for key in (reply, KEEPER):
        with pytest.raises(TypeError):
            pickle.dumps(key)
    assert bytes(range(32)).hex() not in repr(KEEPER)
    with pytest.raises(DecodeError):
        seal_reply(ask()[1], b"short", "east", SECRET_SEAL, SealAnswer(manifest={}))
