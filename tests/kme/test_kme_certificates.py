"""`deffd kme certs`: a private authority and what it issues."""

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from deffd_flower.cli import app, guarded
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.kme.certificates import Authority, Role, Validity

WEEK = Validity.days(7)


def read(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def certs(*words: str) -> int:
    return guarded(lambda: app(["kme", "certs", *words], standalone_mode=False))


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder / "pki")


def test_a_certificate_names_its_holder_in_cn_and_subject_alt_name(authority: Authority) -> None:
    authority.issue("kme-a", Role.KME, WEEK)
    certificate = read(authority.folder, "kme-a")
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "kme-a"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "kme-a"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("role", "usages"),
    [
        (Role.SAE, {ExtendedKeyUsageOID.CLIENT_AUTH}),
        (Role.KME, {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
        (Role.ANY, {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_a_role_says_what_a_certificate_is_for(
    authority: Authority, role: Role, usages: set[x509.ObjectIdentifier]
) -> None:
    authority.issue("x", role, WEEK)
    certificate = read(authority.folder, "x")
    assert (
        set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == usages
    )


def test_certificates_pass_the_checks_of_the_web(authority: Authority, folder: Path) -> None:
    """Of `cryptography`'s verifier, which is strict (RFC 5280 and CA/B forum)."""
    authority.issue("kme-a", Role.KME, WEEK)
    authority.issue("alice", Role.SAE, WEEK)
    policy = PolicyBuilder().store(Store([authority.certificate]))
    server = policy.build_server_verifier(x509.DNSName("kme-a"))
    assert len(server.verify(read(authority.folder, "kme-a"), [])) == 2
    assert policy.build_client_verifier().verify(read(authority.folder, "alice"), []).chain
    with pytest.raises(VerificationError):
        server.verify(read(authority.folder, "alice"), [])
    other = Authority(folder / "other")
    other.issue("kme-a", Role.KME, WEEK)
    with pytest.raises(VerificationError):
        server.verify(read(other.folder, "kme-a"), [])


def test_files_are_private(authority: Authority) -> None:
    authority.issue("alice", Role.SAE, WEEK)
    files = sorted(authority.folder.iterdir())
    assert [file.name for file in files] == ["alice.crt", "alice.key", "ca.crt", "ca.key"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(authority.folder.stat().st_mode) == 0o700


def test_an_authority_is_used_again(folder: Path) -> None:
    assert certs(str(folder / "pki"), "alice", "bob", "--role", "sae", "--days", "9") == 0
    ca, alice = read(folder / "pki", "ca"), read(folder / "pki", "alice")
    left = alice.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=8.9) < left <= dt.timedelta(days=9)
    assert certs(str(folder / "pki"), "alice", "carol") == 0
    assert read(folder / "pki", "ca") == ca
    assert read(folder / "pki", "alice") == alice
    assert certs(str(folder / "pki"), "alice", "--renew") == 0
    assert read(folder / "pki", "alice").serial_number != alice.serial_number


def test_what_is_kept_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certs(str(folder), "alice")
    assert f"alice: {folder}/alice.crt, {folder}/alice.key" in capsys.readouterr().out
    certs(str(folder), "alice")
    assert "alice: kept, valid until" in capsys.readouterr().out


def test_what_has_expired_is_made_anew(authority: Authority) -> None:
    now = dt.datetime.now(dt.UTC)
    old = Validity(now - dt.timedelta(days=2), now - dt.timedelta(seconds=1))
    authority.issue("alice", Role.SAE, old)
    assert authority.valid_until("alice") is None
    assert certs(str(authority.folder), "alice") == 0
    assert authority.valid_until("alice")


@pytest.mark.parametrize("name", ["ca", "../x", "a/b", "", ".x", "x.", "ä", "a b", "x" * 64])
def test_names_that_are_no_names_are_refused(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certs(str(folder / "pki"), "--", name) == 2
    assert f"NAME={name}: must be" in capsys.readouterr().err
    assert not list(folder.glob("**/*x*.key"))


def test_wrong_options_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert certs(str(folder), "alice", "--role", "king") == 2
    assert "--role=king: must be one of sae, kme, any" in capsys.readouterr().err
    assert certs(str(folder), "alice", "--days", "0") == 2
    assert certs(str(folder), "alice", "--days", "4000") == 2
    assert "the authority itself is valid until" in capsys.readouterr().err
    assert certs(str(folder)) == 2


def test_half_an_authority_is_refused(authority: Authority) -> None:
    (authority.folder / "ca.key").unlink()
    with pytest.raises(DeffdError, match="certificate authority in"):
        Authority(authority.folder)
    (authority.folder / "ca.key").write_text("no key")
    with pytest.raises(DeffdError, match="certificate authority in"):
        Authority(authority.folder)


def test_an_authority_cannot_be_outlived(authority: Authority) -> None:
    with pytest.raises(RequestError, match="valid until"):
        authority.issue("alice", Role.SAE, Validity.days(3651))
