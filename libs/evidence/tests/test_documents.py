"""Of several attestation documents of one key the one that it was registered for is found."""

import msgspec
from evidence_world import World

from daas.evidence.vouching import document_for

replace = msgspec.structs.replace


def test_the_answer_to_the_next_nonce_is_not_the_one_that_was_registered() -> None:
    world = World()
    later = world.document_now()
    by_nonce = replace(world.registered, document_digest=msgspec.UNSET)
    for registered in (world.registered, by_nonce):
        assert document_for(registered, [world.document, later]) == world.document
        assert document_for(registered, [later]) is None
        assert document_for(registered, []) is None


def test_of_two_answers_to_one_nonce_the_one_that_the_ledger_noted_counts() -> None:
    world = World()
    first = world.document
    world.nonce = bytes(32)
    world.attest()
    world.nonce = bytes(32)
    world.now_ms += 1
    again = world.document_now()
    assert document_for(world.registered, [first, world.document, again]) == world.document
    # Where only the nonce is known both answer it, and both are good.
    by_nonce = replace(world.registered, document_digest=msgspec.UNSET)
    assert document_for(by_nonce, [first, world.document, again]) == again


def test_a_fact_that_does_not_tell_is_matched_by_the_documents_own_time() -> None:
    world = World()
    world.now_ms += 500
    later = world.document_now()
    untold = replace(world.registered, next_nonce=msgspec.UNSET, document_digest=msgspec.UNSET)
    assert document_for(untold, [world.document, later]) == world.document
    assert document_for(untold, [later]) == later
    assert document_for(untold, [b"no document", later]) == later
    assert document_for(untold, []) is None


def test_what_is_no_document_is_passed_over() -> None:
    world = World()
    by_nonce = replace(world.registered, document_digest=msgspec.UNSET)
    assert document_for(by_nonce, [b"", world.document, b"no document"]) == world.document
