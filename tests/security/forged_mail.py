"""Everything a relay could do to a message with mail in it, as far as we could think of it."""

import os
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

from flwr.app import ArrayRecord

from deffd_flower.client_app import blob as flower_array
from deffd_flower.fusion.package import pack
from deffd_flower.models import build_model
from deffd_flower.transport import (
    Header,
    KeyMaterial,
    KeyReference,
    Reason,
    Route,
    seal,
    suites,
)
from deffd_flower.transport.desk import sae_id
from tests.security.cheat import Forge, Forgery, Scene
from tests.security.relay import Letter, Relay, copy_of, letters_of, with_inbox

#: What a client has to say to each kind of forgery; to those that are not here, anything.
EXPECTED: dict[str, set[Reason]] = {
    "cut": {Reason.MALFORMED},
    "extended": {Reason.MALFORMED},
    "replayed": {Reason.REPLAYED},
    "replayed beside the true one": {Reason.REPLAYED},
    "replayed under a new number": {Reason.KEY_REUSED},
    "replayed under a new number, without key": {Reason.TAMPERED},
    "reflected": {Reason.REFLECTED},
    "reflected, names swapped": {Reason.TAMPERED, Reason.REPLAYED},
    "another's": {Reason.WRONG_RECEIVER},
    "another's, readdressed": {Reason.TAMPERED, Reason.REPLAYED},
    "true one beside a bad one": {Reason.TAMPERED, Reason.REPLAYED},
    "key_IDs swapped": {Reason.TAMPERED, Reason.KEY_REUSED},
    "ML-KEM ciphertexts swapped": {Reason.TAMPERED},
    "made up in plaintext": {Reason.DOWNGRADED},
    "made up under the public key": {Reason.DOWNGRADED},
    "made up under a made-up key": {Reason.TAMPERED},
    "of another run": {Reason.WRONG_RUN},
    "of another run, renamed": {Reason.TAMPERED},
    "unsealed": {Reason.DOWNGRADED},
    "central": {Reason.DOWNGRADED},
}


def fields(header: Header) -> dict[str, range]:
    """Return where each field of an encoded header lies, in bytes."""
    route = header.route
    sizes = {
        "magic": 4,
        "version": 1,
        "suite": 1,
        "direction": 1,
        "run": 8,
        "round": 4,
        "sequence": 8,
        "chunk": 8,
        "plaintext length": 8,
        "sender": 1 + len(route.sender),
        "receiver": 1 + len(route.receiver),
        "nonce": 1 + len(header.nonce),
        "ML-KEM ciphertext": 2 + len(header.kem_ciphertext),
        "references": 2 + 32 * len(header.references),
    }
    spans: dict[str, range] = {}
    start = 0
    for name, size in sizes.items():
        spans[name] = range(start, start + size)
        start += size
    assert start == len(header.encode())
    return spans


def flips(scene: Scene) -> Iterator[Forgery]:
    """One bit of each byte of the header; of the body's tag, and of bytes all across the body."""
    letter = _mail(scene)
    spans = fields(letter.header)
    kem = spans["ML-KEM ciphertext"]
    spans["ML-KEM ciphertext"] = kem[:: max(1, len(kem) // 40)]
    first, end = len(letter.blob) - len(letter.body), len(letter.blob)
    spans["body"] = range(first, end, max(1, (end - first) // 40))
    spans["tag"] = range(end - 16, end)
    for name, span in spans.items():
        for place in span:
            flipped = bytearray(letter.blob)
            flipped[place] ^= 1 << place % 8
            yield Forgery(f"flipped {name}", with_inbox(scene.message, bytes(flipped)))


def lengths(scene: Scene) -> Iterator[Forgery]:
    blob, header = _mail(scene).blob, len(_mail(scene).header.encode())
    whole = len(blob)
    for cut in (0, 1, 4, header // 2, header - 1, header, header + 1, whole - 16, whole - 1):
        yield Forgery("cut", with_inbox(scene.message, blob[:cut]))
    for more in (b"\0", bytes(16), blob, os.urandom(1000)):
        yield Forgery("extended", with_inbox(scene.message, blob + more))


def repeats(scene: Scene) -> Iterator[Forgery]:
    """What came before, once more; alone, beside the true mail, and under a new number."""
    true = _mail(scene).blob
    yield Forgery("replayed beside the true one", with_inbox(scene.message, true, true))
    for old in scene.knowledge.delivered[scene.receiver]:
        yield Forgery("replayed", with_inbox(scene.message, old.blob))
        yield Forgery("replayed beside the true one", with_inbox(scene.message, true, old.blob))
        route = replace(old.header.route, sequence=old.header.route.sequence + 100)
        name = "replayed under a new number" + ("" if old.header.references else ", without key")
        yield Forgery(name, with_inbox(scene.message, _rerouted(old, route)))


def misdirections(scene: Scene) -> Iterator[Forgery]:
    """What is meant for others, or was written by the receiver itself."""
    me = sae_id(scene.receiver)
    for letter in scene.knowledge.letters[-12:]:
        route = letter.header.route
        if route.sender == me:
            swapped = replace(route, sender=route.receiver, receiver=me)
            yield Forgery("reflected", with_inbox(scene.message, letter.blob))
            blob = _rerouted(letter, swapped)
            yield Forgery("reflected, names swapped", with_inbox(scene.message, blob))
        elif route.receiver != me:
            yield Forgery("another's", with_inbox(scene.message, letter.blob))
            blob = _rerouted(letter, replace(route, receiver=me))
            yield Forgery("another's, readdressed", with_inbox(scene.message, blob))
            true = _mail(scene).blob
            yield Forgery("true one beside a bad one", with_inbox(scene.message, true, blob))


def swaps(scene: Scene) -> Iterator[Forgery]:
    """Key references, and ML-KEM ciphertexts, of two letters exchanged."""
    mine = _mail(scene)
    for other in scene.knowledge.letters[-4:]:
        if other.header.references != mine.header.references:
            blob = _rewritten(mine, references=other.header.references)
            yield Forgery("key_IDs swapped", with_inbox(scene.message, blob))
        if other.header.kem_ciphertext != mine.header.kem_ciphertext:
            blob = _rewritten(mine, kem_ciphertext=other.header.kem_ciphertext)
            yield Forgery("ML-KEM ciphertexts swapped", with_inbox(scene.message, blob))


def downgrades(scene: Scene) -> Iterator[Forgery]:
    """Other suites' ids on the true mail; mail made up under weaker suites and under no key."""
    mine = _mail(scene)
    for suite_id in {*range(6), 127, 128, 255} - {mine.header.suite}:
        blob = _rewritten(mine, suite=suite_id)
        yield Forgery("other suite's id", with_inbox(scene.message, blob))
    yield made_up(scene, "none")
    own = suites.with_id(mine.header.suite)
    if own is not suites.get("pqc"):
        yield made_up(scene, "pqc")
        yield made_up_under_a_made_up_key(scene)


def made_up(scene: Scene, suite_name: str) -> Forgery:
    """Return a model of the relay's, sealed with what the relay has: nothing, or a public key."""
    kem_public, _ = scene.knowledge.kem_keys[scene.receiver]
    blob = seal(suites.get(suite_name)(), _next_route(scene), relays_model(), None, kem_public)
    how = "in plaintext" if suite_name == "none" else "under the public key"
    return Forgery(f"made up {how}", with_inbox(scene.message, blob))


def made_up_under_a_made_up_key(scene: Scene) -> Forgery:
    header, model = _mail(scene).header, relays_model()
    suite = suites.with_id(header.suite)
    assert suite is not None
    bits = suite().key_bits(len(model))
    key = KeyMaterial([KeyReference(uuid4(), 0, bits)], os.urandom(bits // 8))
    kem_public, _ = scene.knowledge.kem_keys[scene.receiver]
    blob = seal(suite(), _next_route(scene), model, key, kem_public)
    return Forgery("made up under a made-up key", with_inbox(scene.message, blob))


def without_seal(scene: Scene) -> Iterator[Forgery]:
    """Models in the records in which the app would look for them, had they been opened."""
    model = ArrayRecord({"0": flower_array(relays_model())})
    yield Forgery("unsealed", copy_of(scene.message, received=model))
    state = build_model("cnn", (1, 8, 8), 10, 7).state_dict()
    central = copy_of(scene.message, arrays=ArrayRecord(state))
    del central.content["inbox"]
    yield Forgery("central", central)


def from_another_run(letters: list[Letter]) -> Forge:
    """Return what to do with the letters of a run with the same seed and the same secret.

    The same seed gives the same key_IDs to the same pair; the bits must not be the same.
    """

    def forge(scene: Scene) -> Iterator[Forgery]:
        mine = _mail(scene).header
        for letter in letters:
            theirs = letter.header.route
            if theirs.receiver == sae_id(scene.receiver) and theirs.round <= mine.route.round:
                yield Forgery("of another run", with_inbox(scene.message, letter.blob))
                run, sequence = mine.route.run, mine.route.sequence + 100
                route = replace(theirs, run=run, sequence=sequence)
                blob = _rerouted(letter, route, references=mine.references)
                yield Forgery("of another run, renamed", with_inbox(scene.message, blob))

    return forge


FORGES: list[Forge] = [flips, lengths, repeats, misdirections, swaps, downgrades, without_seal]


def everything(another_run: Relay) -> Forge:
    """Return all there is to do to a message with mail, one after the other.

    Args:
        another_run: Knows the letters of another run with the same seed and secret.
    """
    forges = [*FORGES, from_another_run(another_run.knowledge.letters)]

    def forge(scene: Scene) -> Iterator[Forgery]:
        for each in forges:
            yield from each(scene)

    return forge


def relays_model() -> bytes:
    """Return a package that any client would fuse, if it ever came to read it."""
    return pack(build_model("cnn", (1, 8, 8), 10, 7), 100, [], 10).encode()


def _mail(scene: Scene) -> Letter:
    return letters_of(scene.message, "inbox")[0]


def _next_route(scene: Scene) -> Route:
    route = _mail(scene).header.route
    return replace(route, sequence=route.sequence + 1)


def _rerouted(letter: Letter, route: Route, **changes: object) -> bytes:
    """Return a letter with another route, and with the nonce that belongs to it."""
    suite = suites.with_id(letter.header.suite)
    assert suite is not None
    return _rewritten(letter, route=route, nonce=suite().nonce(route), **changes)


def _rewritten(letter: Letter, **changes: object) -> bytes:
    """Return a letter with another header before the same body."""
    header = replace(letter.header, **changes)  # type: ignore[arg-type]  # names checked by replace
    return header.encode() + letter.body
