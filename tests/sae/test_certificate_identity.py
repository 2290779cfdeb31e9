"""Whose ML-KEM key it is, by the certificates that key managers know clients by."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.x509.oid import NameOID

from deffd_flower.kme.certificates import Authority, Role, Validity
from deffd_flower.sae.delivery import KeyManagerError
from deffd_flower.sae.identity import CertificateIdentity
from deffd_flower.sae.settings import SaeSettings
from deffd_flower.transport import KeyUnavailable

RUN = 77
SAE_IDS = {"client-0": "alice", "client-1": "bob"}
PUBLIC = bytes(range(256)) * 4

KINDS: dict[str, Callable[[], Any]] = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return issued(tmp_path_factory.mktemp("identity") / "pki")


def issued(folder: Path) -> Path:
    authority = Authority(folder)
    for name in ("alice", "bob"):
        authority.issue(name, Role.SAE, Validity.days(1))
    return folder


def identity(pki: Path, name: str = "alice", run: int = RUN) -> CertificateIdentity:
    return CertificateIdentity(settings(pki, name), SAE_IDS, run)


def settings(pki: Path, name: str) -> SaeSettings:
    partition = ["alice", "bob"].index(name)
    files = (pki / f"{name}.crt", pki / f"{name}.key", pki / "ca.crt")
    return SaeSettings(partition, ("alice", "bob"), "https://kme", *files)


def test_a_proof_holds_for_its_owner_key_and_run_and_for_nothing_else(pki: Path) -> None:
    proof = identity(pki).prove("client-0", PUBLIC)
    bob = identity(pki, "bob")
    bob.check("client-0", PUBLIC, proof)
    bobs = bob.prove("client-1", PUBLIC)
    for owner, public, shown, run in (
        ("client-1", PUBLIC, proof, RUN),
        ("client-0", PUBLIC[::-1], proof, RUN),
        ("client-0", PUBLIC, proof, RUN + 1),
        ("client-0", PUBLIC, bobs, RUN),
        ("client-2", PUBLIC, proof, RUN),
        ("client-0", PUBLIC, b"", RUN),
        ("client-0", PUBLIC, proof[:-1], RUN),
        ("client-0", PUBLIC, proof + b"\0", RUN),
        ("client-0", PUBLIC, b"\0\0" + proof[2:], RUN),
    ):
        with pytest.raises(KeyUnavailable, match=f"in {owner}'s name is not proven"):
            identity(pki, "bob", run).check(owner, public, shown)


def test_no_bit_of_a_proof_can_be_changed(pki: Path) -> None:
    proof = identity(pki).prove("client-0", PUBLIC)
    bob = identity(pki, "bob")
    for place in range(0, len(proof), 7):
        changed = proof[:place] + bytes([proof[place] ^ 4]) + proof[place + 1 :]
        with pytest.raises(KeyUnavailable):
            bob.check("client-0", PUBLIC, changed)


def test_a_certificate_of_a_strange_authority_proves_nothing(pki: Path, tmp_path: Path) -> None:
    strange = issued(tmp_path / "pki")
    with pytest.raises(KeyUnavailable, match="not proven"):
        identity(pki, "bob").check("client-0", PUBLIC, identity(strange).prove("client-0", PUBLIC))


def test_a_certificate_that_has_expired_proves_nothing(pki: Path, tmp_path: Path) -> None:
    authority = Authority(issued(tmp_path / "pki"))
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    authority.issue("alice", Role.SAE, Validity(past, past + dt.timedelta(days=1)))
    proof = identity(authority.folder).prove("client-0", PUBLIC)
    with pytest.raises(KeyUnavailable, match="not proven"):
        identity(authority.folder, "bob").check("client-0", PUBLIC, proof)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_every_usual_kind_can_prove_and_intermediates_are_sent_along(
    kind: str, tmp_path: Path
) -> None:
    pki = issued(tmp_path / "pki")
    middle_key = ec.generate_private_key(ec.SECP256R1())
    middle = signed(pki, "middle", middle_key.public_key(), authority=True)
    key = KINDS[kind]()
    leaf = signed(pki, "alice", key.public_key(), issuer=(middle, middle_key))
    write(pki, "alice", key, leaf, middle)
    proof = identity(pki).prove("client-0", PUBLIC)
    identity(pki, "bob").check("client-0", PUBLIC, proof)
    with pytest.raises(KeyUnavailable):
        identity(pki, "bob").check("client-0", PUBLIC + b"!", proof)


def test_a_client_cannot_issue_certificates_in_the_names_of_others(tmp_path: Path) -> None:
    pki = issued(tmp_path / "pki")
    bob = x509.load_pem_x509_certificate((pki / "bob.crt").read_bytes())
    bobs_key = serialization.load_pem_private_key((pki / "bob.key").read_bytes(), None)
    assert isinstance(bobs_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    write(pki, "alice", key, signed(pki, "alice", key.public_key(), issuer=(bob, bobs_key)), bob)
    proof = identity(pki).prove("client-0", PUBLIC)
    with pytest.raises(KeyUnavailable, match="not proven"):
        identity(pki, "bob").check("client-0", PUBLIC, proof)


def test_files_and_keys_that_cannot_be_used_are_errors(pki: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for change in ({"key": tmp_path / "empty"}, {"certificate": tmp_path / "none"}):
        with pytest.raises(KeyManagerError, match="cannot be used"):
            CertificateIdentity(replace(settings(pki, "alice"), **change), SAE_IDS, RUN)  # type: ignore[arg-type]  # by name
    exchange = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "x25519.key").write_bytes(exchange)
    odd = replace(settings(pki, "alice"), key=tmp_path / "x25519.key")
    with pytest.raises(KeyManagerError, match="must be of EC, RSA"):
        CertificateIdentity(odd, SAE_IDS, RUN).prove("client-0", PUBLIC)


def signed(
    pki: Path,
    name: str,
    public_key: object,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    authority: bool = False,
) -> x509.Certificate:
    """Return a certificate by the folder's root, whose path length does not matter, or another."""
    by, by_key = issuer or root(pki)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(by.subject)
        .public_key(public_key)  # type: ignore[arg-type]  # a key of any kind
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    if authority:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(constraints, critical=True)
    return builder.sign(by_key, hashes.SHA256())


def root(pki: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Replace the folder's authority by one that allows for authorities below it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (pki / "ca.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def write(pki: Path, name: str, key: object, *chain: x509.Certificate) -> None:
    pem = serialization.Encoding.PEM
    (pki / f"{name}.crt").write_bytes(b"".join(each.public_bytes(pem) for each in chain))
    assert hasattr(key, "private_bytes")
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (pki / f"{name}.key").write_bytes(encoded)
