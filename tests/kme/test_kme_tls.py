"""Who is let in: TLS versions, certificates, and the SAE id in them."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from deffd_flower.kme.certificates import Role
from tests.kme.running import Pki, Site

CALLS = ["bob/status", "bob/enc_keys", "bob/dec_keys?key_ID=9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"]


@contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        yield secure


def exchange(port: int, context: ssl.SSLContext, path: str = "/api/v1/keys/bob/status") -> bytes:
    """Return what the server says to a GET. In TLS 1.3, its alert comes after our handshake."""
    with connected(port, context) as secure:
        secure.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: secure.recv(65536), b""))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_taken(a: Site, pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.context("alice", version)
    with connected(a.port, context) as secure:
        assert secure.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        cipher = secure.cipher()
        assert cipher
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]
    assert exchange(a.port, context).startswith(b"HTTP/1.1 200 OK")


def test_tls_13_is_preferred_and_sessions_are_not_resumed(a: Site, pki: Pki) -> None:
    with connected(a.port, pki.context("alice")) as secure:
        assert secure.version() == "TLSv1.3"
        secure.sendall(b"GET /api/v1/keys/bob/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert secure.recv(65536)
        assert secure.session is None or not secure.session.has_ticket


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(a: Site, pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.context("alice", version)
    # Without this, OpenSSL itself would not even offer them.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError), connected(a.port, context):
        pass


def test_a_cipher_without_forward_secrecy_is_refused(a: Site, pki: Pki) -> None:
    context = pki.context("alice", ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("AES256-GCM-SHA384:AES128-SHA")
    with pytest.raises(ssl.SSLError), connected(a.port, context):
        pass


def test_plain_http_gets_no_answer(a: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", a.port, timeout=10)
    connection.request("GET", "/api/v1/keys/bob/status")
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_without_a_certificate_there_is_an_alert(
    a: Site, pki: Pki, version: ssl.TLSVersion
) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)alert|handshake"):
        exchange(a.port, pki.context(None, version))


def test_another_authority_is_not_trusted(a: Site, pki: Pki, foreign: Pki) -> None:
    foreign.issue("alice")
    context = pki.context(None)
    context.load_cert_chain(foreign.folder / "alice.crt", foreign.folder / "alice.key")
    with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
        exchange(a.port, context)


def test_a_self_signed_certificate_is_not_trusted(a: Site, pki: Pki, foreign: Pki) -> None:
    context = pki.context(None)
    context.load_cert_chain(foreign.folder / "ca.crt", foreign.folder / "ca.key")
    with pytest.raises(ssl.SSLError):
        exchange(a.port, context)


def test_an_expired_certificate_is_refused(a: Site, pki: Pki) -> None:
    pki.issue_expired("alice-in-2025")
    context = pki.context(None)
    for end in ("crt", "key"):
        assert (pki.folder / f"alice-in-2025.{end}").exists()
    context.load_cert_chain(pki.folder / "alice-in-2025.crt", pki.folder / "alice-in-2025.key")
    with pytest.raises(ssl.SSLError, match=r"(?i)expired"):
        exchange(a.port, context)


@pytest.mark.parametrize("path", CALLS)
def test_an_sae_that_is_not_registered_gets_401_with_json(a: Site, path: str) -> None:
    for stranger in ("stranger", "bob", "kme-b"):
        for method in ("GET", "POST"):
            reply = a.call(stranger, method, path)
            assert reply.status == 401
            assert "no SAE of this KME" in json.loads(reply.body)["message"]


def test_an_sae_is_no_kme(b: Site, pki: Pki, sites: dict[str, Site]) -> None:
    """Its certificate is for clients only, so that it cannot pose as a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.folder / "alice.crt", pki.folder / "alice.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = listener.accept()
            server, ours = ssl.MemoryBIO(), ssl.MemoryBIO()
            serving = context.wrap_bio(server, ours, server_side=True)
            checking = pki.context("bob").wrap_bio(ours, server, server_hostname="localhost")
            with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
                shake_hands(checking, serving)
            served.close()
            client.close()


def shake_hands(one: ssl.SSLObject, other: ssl.SSLObject) -> None:
    """Do a handshake in memory."""
    for _ in range(6):
        for end in (one, other):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("path", ["greeting", "lots", "keys"])
def test_the_channel_for_kmes_is_for_neighbours_only(a: Site, pki: Pki, path: str) -> None:
    port = a.config.peer_port
    assert port
    for name in ("alice", "kme-c", "stranger"):
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=pki.context(name))
        connection.request("POST", f"/kme/v1/{path}", b"{}")
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())["reason"]) == (401, "refused")
        connection.close()
    with pytest.raises(ssl.SSLError):
        exchange(port, pki.context(None))


def test_the_api_for_saes_is_not_on_the_channel_for_kmes(a: Site, pki: Pki) -> None:
    assert a.config.peer_port
    assert exchange(a.config.peer_port, pki.context("alice")).startswith(b"HTTP/1.1 404")
    assert exchange(a.port, pki.context("kme-b"), "/kme/v1/keys").startswith(b"HTTP/1.1 401")


def test_a_certificate_for_any_role_can_be_both(tmp_path_factory: pytest.TempPathFactory) -> None:
    pki = Pki(tmp_path_factory.mktemp("any") / "pki")
    pki.issue("kme-x", Role.ANY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.folder / "kme-x.crt", pki.folder / "kme-x.key")
    context.load_verify_locations(pki.folder / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(there, back, server_side=True)
    client = pki.context("kme-x").wrap_bio(back, there, server_hostname="kme-x")
    shake_hands(client, server)
    assert server.version() == client.version() == "TLSv1.3"
