"""Sealed models: envelope, suites, replay guard and codec.

A sender asks its `KeySchedule` for a sequence number and a key, and calls `seal`; a receiver
calls `open_sealed` with what it expects, its key source and its `ReplayGuard`.
"""

from deffd_flower.transport.codec import CodecError, decode_tensors, encode_tensors
from deffd_flower.transport.envelope import Direction, Header, Route, parse
from deffd_flower.transport.kem import KemKeyPair, generate_kem_keypair
from deffd_flower.transport.kept_keys import KeptKeys
from deffd_flower.transport.keys import KeyMaterial, KeySource
from deffd_flower.transport.references import KeyReference
from deffd_flower.transport.refusal import (
    EnvelopeError,
    KeyUnavailable,
    NoKeyNow,
    Reason,
    Refused,
)
from deffd_flower.transport.rekeying import KeySchedule, RekeyPolicy
from deffd_flower.transport.replay import ReplayGuard
from deffd_flower.transport.sealing import Expectation, Opened, open_sealed, seal
from deffd_flower.transport.suites import Suite, suites

__all__ = [
    "CodecError",
    "Direction",
    "EnvelopeError",
    "Expectation",
    "Header",
    "KemKeyPair",
    "KeptKeys",
    "KeyMaterial",
    "KeyReference",
    "KeySchedule",
    "KeySource",
    "KeyUnavailable",
    "NoKeyNow",
    "Opened",
    "Reason",
    "Refused",
    "RekeyPolicy",
    "ReplayGuard",
    "Route",
    "Suite",
    "decode_tensors",
    "encode_tensors",
    "generate_kem_keypair",
    "open_sealed",
    "parse",
    "seal",
    "suites",
]
