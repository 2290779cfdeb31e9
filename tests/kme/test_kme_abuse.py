"""What a careless or hostile client may send: the KME answers or hangs up, and lives on."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from deffd_flower.kme.limits import RateLimit
from tests.kme.running import FILLED_ONCE, Site, running, until
from tests.kme.test_kme_tls import connected

TURNED_AWAY = (ConnectionError, ssl.SSLError)
GET = b"GET /api/v1/keys/bob/status HTTP/1.1\r\nHost: x\r\n"


def answer(site: Site, sent: bytes, sae: str = "alice") -> bytes:
    """Return all that a KME says until it hangs up."""
    with connected(site.port, site.pki.context(sae)) as secure:
        secure.sendall(sent)
        return rest(secure)


def rest(secure: ssl.SSLSocket) -> bytes:
    said = b""
    with suppress(*TURNED_AWAY):
        while part := secure.recv(65536):
            said += part
    return said


def lives(site: Site) -> bool:
    return site.call("alice", "GET", "bob/status").status == 200


def test_a_body_of_10_mb_is_refused_and_not_read(a: Site) -> None:
    head = b"POST /api/v1/keys/bob/enc_keys HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    size = 10_000_000
    with connected(a.port, a.pki.context("alice")) as secure:
        secure.sendall(head % size)
        sent = 0
        with suppress(*TURNED_AWAY):
            while sent < size:
                secure.sendall(bytes(65536))
                sent += 65536
        said = rest(secure)
    assert sent < size or said.startswith(b"HTTP/1.1 400")
    assert lives(a)
    reply = a.call("alice", "POST", "bob/enc_keys", raw=b" " * 70_000)
    assert reply.status == 400
    assert reply.message == "the body is longer than 65536 bytes"


def test_a_long_chunked_body_is_refused(a: Site) -> None:
    head = (
        b"POST /api/v1/keys/bob/dec_keys HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"%x\r\n%s\r\n" % (4096, b" " * 4096)
    assert answer(a, head + 20 * chunk + b"0\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_compressed_bomb_is_refused(a: Site) -> None:
    import zlib

    bomb = zlib.compress(b" " * 50_000_000)
    head = (
        b"POST /api/v1/keys/bob/enc_keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    )
    assert answer(a, head + bomb[:65_000]).startswith(b"HTTP/1.1 400")
    assert lives(a)


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/keys/../keys/bob/status",
        "/api/v1/keys/bob/../bob/status",
        "/api/v1/keys/..%2fkeys%2fbob/status",
        "/api/v1/keys/%2e%2e/status",
        "/api/v1/keys/bob%00/status",
        "/api/v1/keys/bob%2fstatus",
        "/api/v1/keys/bob//status",
        "//api/v1/keys/bob/status",
        "/api/v1/keys/bob/status/",
        "/api/v1/keys/bob/Status",
        "/API/v1/keys/bob/status",
        "/api/v1/keys/bob;x=1/status",
        "/api/v1/keys/b%6Fb%20/status",
        "/api/v1/keys/bob/enc_keys/../../../metrics",
        "/metrics",
        "/",
        "/api/v1/keys/" + "b" * 7000 + "/status",
    ],
)
def test_tricks_with_paths_lead_nowhere(a: Site, path: str) -> None:
    said = answer(a, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404"), said
    assert b"application/json" in head
    assert b'"message"' in body


def test_ids_are_decoded_once(a: Site) -> None:
    assert answer(
        a, b"GET /api/v1/keys/%62%6f%62/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    ).startswith(b"HTTP/1.1 200")
    assert answer(
        a, b"GET /api/v1/keys/%2562ob/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    ).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(a: Site, method: str) -> None:
    for call in ("status", "enc_keys", "dec_keys"):
        assert a.call("alice", method, f"bob/{call}").status == 405
    assert a.call("alice", "POST", "bob/status").status == 405


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01" + bytes(200),
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/keys/bob/enc_keys HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/keys/bob/enc_keys HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: y\r\n" % i for i in range(500)) + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(a: Site, sent: bytes) -> None:
    said = answer(a, sent)
    assert said == b"" or said.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert lives(a)


def test_a_head_that_drips_in_is_cut_off(a: Site) -> None:
    """Slow-loris: idle-s is 2 here; a line now and then does not prolong it."""
    started = time.monotonic()
    with connected(a.port, a.pki.context("alice")) as secure:
        secure.sendall(GET)
        secure.settimeout(0.1)
        while is_open(secure) and time.monotonic() - started < 15:
            pass
    assert 1 < time.monotonic() - started < 6


def is_open(secure: ssl.SSLSocket) -> bool:
    """Send another line; say whether the connection still stands a little later."""
    try:
        secure.sendall(b"X-a: b\r\n")
        return secure.recv(1) != b""
    except TimeoutError:
        return True
    except TURNED_AWAY:
        return False


def test_a_second_head_that_drips_in_is_cut_off_too(a: Site) -> None:
    with connected(a.port, a.pki.context("alice")) as secure:
        secure.sendall(GET + b"\r\n")
        assert secure.recv(65536).startswith(b"HTTP/1.1 200")
        secure.sendall(GET)
        started = time.monotonic()
        rest(secure)
    assert time.monotonic() - started < 6


def test_a_body_that_drips_in_is_cut_off(a: Site) -> None:
    """The time for a body, body-s, is 1 here."""
    head = b"POST /api/v1/keys/bob/enc_keys HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    started = time.monotonic()
    said = answer(a, head)
    assert said.startswith(b"HTTP/1.1 400")
    assert b"in time" in said
    assert 0.5 < time.monotonic() - started < 6


def test_a_handshake_that_does_not_end_is_cut_off(a: Site) -> None:
    """The time for a handshake, handshake-s, is 2 here."""
    with socket.create_connection(("127.0.0.1", a.port), timeout=10) as plain:
        started = time.monotonic()
        with suppress(ConnectionError):
            assert plain.recv(1) == b""
    assert 1 < time.monotonic() - started < 6


def test_a_client_that_hangs_up_early_costs_nobody_else(a: Site) -> None:
    for _ in range(20):
        with connected(a.port, a.pki.context("alice")) as secure:
            secure.sendall(b"POST /api/v1/keys/bob/enc_keys HTTP/1.1\r\nHost: x\r\n\r\n")
    assert lives(a)


def test_requests_can_be_sent_ahead(a: Site) -> None:
    """Pipelining: each gets its answer, in order."""
    last = GET + b"Connection: close\r\n\r\n"
    said = answer(a, 5 * (GET + b"\r\n") + last)
    assert said.count(b"HTTP/1.1 200 OK") == 6


@contextmanager
def narrow(tmp_path_factory: pytest.TempPathFactory, **limits: float) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("narrow")
    with running(folder, [], {"kme-n": ["alice", "amy"]}, limits=limits, **FILLED_ONCE) as sites:
        yield sites["kme-n"]


def test_an_sae_that_asks_too_often_has_to_wait_and_others_do_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    limits = {"requests-per-second": 0.01, "burst": 3}
    with narrow(tmp_path_factory, **limits) as site:
        statuses = [site.call("alice", "GET", "amy/status").status for _ in range(4)]
        assert statuses == [200, 200, 200, 503]
        reply = site.call("alice", "GET", "amy/enc_keys")
        assert (reply.status, reply.message) == (503, "too many requests")
        assert 90 <= int(reply.headers["Retry-After"]) <= 100
        assert site.call("amy", "GET", "alice/status").status == 200


def test_connections_beyond_the_limit_are_closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with narrow(tmp_path_factory, connections=3) as site:
        with ExitStack() as three:
            for _ in range(3):
                three.enter_context(connected(site.port, site.pki.context("alice")))
            with pytest.raises(TURNED_AWAY), connected(site.port, site.pki.context("amy")):
                pass
        until(lambda: site.call("amy", "GET", "alice/status").status == 200)


def test_a_token_bucket_fills_at_its_rate() -> None:
    now = 0.0
    limit = RateLimit(2.0, 3, lambda: now)
    assert [limit.wait_s("x") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait_s("y") == 0
    now = 0.25
    assert limit.wait_s("x") == 0.25
    now = 0.5
    assert [limit.wait_s("x") for _ in range(2)] == [0, 0.5]
    now = 1000.0
    assert [limit.wait_s("x") for _ in range(4)] == [0, 0, 0, 0.5]
