"""Orders that would make a client give its model away, and records that are no orders."""

import os
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

from flwr.app import ConfigRecord

from deffd_flower.strategy.orders import Orders, Parcel
from deffd_flower.transport import KeyReference, generate_kem_keypair, suites
from tests.security.cheat import Forgery, Scene
from tests.security.relay import copy_of


def bad_orders(scene: Scene) -> Iterator[Forgery]:
    """Orders to seal in a way that would let the relay read, or read more."""
    config = scene.message.content.config_records["config"]
    orders = Orders.read(config)
    for name, parcel in _bad_parcels(scene, orders.outbox[0]):
        outbox = (parcel, *orders.outbox[1:])
        record = replace(orders, outbox=outbox).record({})
        yield Forgery(name, copy_of(scene.message, config=record))


def _bad_parcels(scene: Scene, parcel: Parcel) -> Iterator[tuple[str, Parcel]]:
    own = suites.get(parcel.suite)
    for name in ("none", "pqc", "hybrid", "aes"):
        if suites.get(name).strength < own.strength:
            yield "a weaker suite", replace(parcel, suite=name)
    yield "a suite that is not there", replace(parcel, suite="rot13")
    yield "a module to import", replace(parcel, suite="tests.security.tripwire:Suite")
    yield "a letter to itself", replace(parcel, receiver=scene.receiver)
    if parcel.references:
        yield from _bad_grants(scene, parcel)
    if own.uses_kem:
        yield from _bad_kem_keys(scene, parcel)


def _bad_grants(scene: Scene, parcel: Parcel) -> Iterator[tuple[str, Parcel]]:
    yield "no key", replace(parcel, references=())
    (whole,) = parcel.references
    half = KeyReference(whole.key_id, 0, max(8, whole.length // 16 * 8))
    yield "half a key", replace(parcel, references=(half,))
    yield "one half twice", replace(parcel, references=(half, half))
    for orders in scene.knowledge.orders[scene.receiver]:
        for old in orders.outbox:
            yield "a used key", replace(parcel, references=old.references)
            fresh = KeyReference(uuid4(), 0, whole.length)
            yield "a used key", replace(parcel, references=(fresh, *old.references))
            beyond = [KeyReference(r.key_id, r.end, whole.length) for r in old.references]
            yield "a used key", replace(parcel, references=tuple(beyond))


def _bad_kem_keys(scene: Scene, parcel: Parcel) -> Iterator[tuple[str, Parcel]]:
    relays = generate_kem_keypair().public
    proofs = {b"", os.urandom(48), parcel.kem_proof}
    for proof in proofs:
        yield "the relay's ML-KEM key", replace(parcel, kem_public=relays, kem_proof=proof)
    for partition, (public, own_proof) in scene.knowledge.kem_keys.items():
        if partition != parcel.receiver:
            for proof in (own_proof, parcel.kem_proof):
                changed = replace(parcel, kem_public=public, kem_proof=proof)
                yield "another client's ML-KEM key", changed


def broken_orders(scene: Scene) -> Iterator[Forgery]:
    """Records that are no orders at all."""
    config = dict(scene.message.content.config_records["config"])
    switches = {"trains", "evaluates"}
    for name in sorted(config.keys() - switches):
        odd = ConfigRecord({**config, name: "odd"})
        yield Forgery(f"odd {name}", copy_of(scene.message, config=odd))
    for name in sorted(config.keys() - switches - {"clock", "mail-round", "outbox-peers"}):
        rest = ConfigRecord({key: value for key, value in config.items() if key != name})
        yield Forgery(f"no {name}", copy_of(scene.message, config=rest))
    nothing = copy_of(scene.message)
    del nothing.content["config"]
    yield Forgery("no orders", nothing)
