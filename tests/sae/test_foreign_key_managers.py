"""Key managers of others, which differ from the letter of the standard, fail, or are not they."""

import base64
import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization

from deffd_flower.kme.certificates import Authority, Role, Validity
from deffd_flower.sae.delivery import KeyManagerError
from deffd_flower.sae.etsi014 import ATTEMPTS, Etsi014, tls_context
from deffd_flower.sae.key_source import KeyManagerSource
from deffd_flower.sae.settings import SaeSettings
from deffd_flower.transport import KeyReference, KeyUnavailable, NoKeyNow
from deffd_flower.transport.spent_keys import SpentKeys
from tests.e2e.conftest import free_port
from tests.sae.foreign_kme import STATUS, Answer, Foreign, Habit, Request, foreign_kme, key, saying
from tests.sae.foreign_kme import keys as delivering

PEER = "sae 1/ä"
NAMES = {"client-0": "sae-0", "client-1": PEER}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign") / "pki"
    authority = Authority(folder)
    authority.issue("kme-x", Role.KME, Validity.days(1))
    authority.issue("sae-0", Role.SAE, Validity.days(1))
    return folder


@contextmanager
def supplied(
    pki: Path, habit: Habit, **changes: object
) -> Iterator[tuple[KeyManagerSource, Foreign]]:
    """Yield a client's key supply, and the server that it asks."""
    with foreign_kme(pki, "kme-x", habit) as foreign:
        settings = replace(own(pki, foreign.url), **changes)  # type: ignore[arg-type]  # by name
        yield KeyManagerSource(Etsi014(settings), NAMES, SpentKeys()), foreign


def own(pki: Path, url: str) -> SaeSettings:
    files = (pki / "sae-0.crt", pki / "sae-0.key", pki / "ca.crt")
    return SaeSettings(0, ("sae-0", PEER), url, *files, timeout_s=5.0)


def habit(
    enc: Callable[[Request], Answer], dec: Callable[[Request], Answer] | None = None
) -> Habit:
    """Return the habit of a server whose status is in order."""

    def answer(request: Request) -> Answer:
        if request.call == "status":
            return saying(STATUS)
        return enc(request) if request.call == "enc_keys" or dec is None else dec(request)

    return answer


def just_as_asked(request: Request) -> Answer:
    size = request.body["size"] // 8
    return delivering(*(key(os.urandom(size)) for _ in range(request.body["number"])))


def of_size(size: int, number: int) -> Callable[[Request], Answer]:
    return lambda _: delivering(*(key(os.urandom(size)) for _ in range(number)))


def in_turn(*answers: Answer | Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    left = list(answers)

    def answer(request: Request) -> Answer:
        each = left.pop(0) if len(left) > 1 else left[0]
        return each(request) if callable(each) else each

    return answer


REFUSALS = {
    "HTML": Answer(401, b"<html>who are you?</html>", {"Content-Type": "text/html"}),
    "no body": Answer(401, b""),
    "JSON": saying({"message": "not among the SAEs"}, 401),
    "forbidden": Answer(403, b"[]"),
}


# Requests ----------------------------------------------------------------------------------------


def test_requests_are_posted_and_the_peers_name_is_encoded(pki: Path) -> None:
    with supplied(pki, habit(just_as_asked)) as (source, foreign):
        assert source.for_sending("client-1", 256).bits == 256
    (request,) = foreign.asked("enc_keys")
    assert request.method == "POST"
    assert request.path == "/api/v1/keys/sae%201%2F%C3%A4/enc_keys"
    assert request.body == {"number": 1, "size": 256}


def test_an_address_may_have_a_path(pki: Path) -> None:
    with foreign_kme(pki, "kme-x", habit(just_as_asked)) as foreign:
        Etsi014(own(pki, foreign.url + "/customers/7")).status("bob")
    assert foreign.requests[0].path == "/customers/7/api/v1/keys/bob/status"


def test_a_pad_comes_in_one_request_where_that_is_allowed(pki: Path) -> None:
    """Some servers drop the keys of a request when the next comes before they were fetched."""
    with supplied(pki, habit(just_as_asked)) as (source, foreign):
        assert len(source.for_sending("client-1", 4096).references) == 4
    assert len(foreign.asked("enc_keys")) == 1


@pytest.mark.parametrize(
    ("size", "number", "requests", "references"),
    [
        (32, 1, 4, [256] * 4),
        (128, 9, 1, [1024]),
        (256, 1, 1, [1024]),
        (100, 2, 1, [800, 224]),
        (8, 1, 16, [64] * 16),
    ],
)
def test_fewer_more_longer_and_shorter_keys_than_asked_for_are_made_the_best_of(
    size: int, number: int, requests: int, references: list[int], pki: Path
) -> None:
    with supplied(pki, habit(of_size(size, number))) as (source, foreign):
        material = source.for_sending("client-1", 1024)
    assert [reference.length for reference in material.references] == references
    assert len(foreign.asked("enc_keys")) == requests


def test_keys_come_in_any_order_and_spelling(pki: Path) -> None:
    ids = [uuid4() for _ in range(3)]
    secrets = {key_id: os.urandom(32) for key_id in ids}
    shuffled = [key(secrets[key_id], str(key_id).upper()) for key_id in reversed(ids)]
    with supplied(pki, habit(just_as_asked, lambda _: delivering(*shuffled))) as (source, _):
        references = [KeyReference(key_id, 64, 64) for key_id in ids]
        material = source.for_receiving("client-1", references)
    assert material.secret == b"".join(secrets[key_id][8:16] for key_id in ids)


def test_a_key_that_is_delivered_twice_seals_once(pki: Path) -> None:
    same = key(os.urandom(32))
    with supplied(pki, habit(lambda _: delivering(same))) as (source, _):
        assert source.for_sending("client-1", 256)
        with pytest.raises(KeyUnavailable, match="granted before"):
            source.for_sending("client-1", 256)
    with (
        supplied(pki, habit(lambda _: delivering(same, same))) as (source, _),
        pytest.raises(KeyManagerError, match="or one twice"),
    ):
        source.for_sending("client-1", 512)


def test_a_status_with_nothing_but_a_key_size_will_do(pki: Path) -> None:
    def answer(request: Request) -> Answer:
        spare = {"key_size": "256", "stored_key_count": "3"}
        return saying(spare) if request.call == "status" else just_as_asked(request)

    with supplied(pki, answer) as (source, foreign):
        assert source.for_sending("client-1", 256).bits == 256
    assert foreign.asked("enc_keys")[0].body == {"number": 1, "size": 256}


# Refusals and nonsense ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
def test_a_key_manager_that_does_not_know_the_sae_is_no_starved_link(
    answer: Answer, pki: Path
) -> None:
    with supplied(pki, habit(lambda _: answer)) as (source, foreign):
        with pytest.raises(KeyManagerError, match=r"does not accept this SAE \(HTTP 40[13]\)"):
            source.for_sending("client-1", 256)
        with pytest.raises(KeyManagerError, match="does not accept this SAE"):
            source.for_receiving("client-1", [KeyReference(uuid4(), 0, 256)])
    assert len(foreign.asked("enc_keys")) == len(foreign.asked("dec_keys")) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": 3}',
        b'{"keys": [{"key_ID": "7", "key": "AAAA"}]}',
        b'{"keys": [{"key_ID": "6c1a6bb7-0c3c-4b0e-9d43-7f4b5f0f5a2e", "key": "not base64!"}]}',
        b'{"keys": [{"key_ID": "6c1a6bb7-0c3c-4b0e-9d43-7f4b5f0f5a2e", "key": ""}]}',
        b'{"keys": [{"key_ID": "6c1a6bb7-0c3c-4b0e-9d43-7f4b5f0f5a2e"}]}',
        b'{"keys": ["AAAA"]}',
    ],
)
def test_answers_that_make_no_sense_are_errors_and_no_keys(body: bytes, pki: Path) -> None:
    with supplied(pki, habit(lambda _: Answer(200, body))) as (source, foreign):
        with pytest.raises(KeyManagerError):
            source.for_sending("client-1", 256)
        assert len(foreign.asked("enc_keys")) == 1


def test_no_keys_at_all_are_a_starved_link(pki: Path) -> None:
    with (
        supplied(pki, habit(lambda _: delivering())) as (source, _),
        pytest.raises(NoKeyNow),
    ):
        source.for_sending("client-1", 256)


def test_redirections_are_not_followed(pki: Path) -> None:
    elsewhere = Answer(307, b"", {"Location": "https://127.0.0.1:1/"})
    with (
        supplied(pki, habit(lambda _: elsewhere)) as (source, _),
        pytest.raises(KeyManagerError, match="HTTP 307"),
    ):
        source.for_sending("client-1", 256)


# Starvation and silence --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [503, 429])
def test_a_store_that_is_empty_is_not_asked_again_at_once(code: int, pki: Path) -> None:
    empty = habit(lambda _: saying({"message": "no key"}, code))
    with supplied(pki, empty) as (source, foreign), pytest.raises(NoKeyNow):
        source.for_sending("client-1", 256)
    assert len(foreign.asked("enc_keys")) == 1


@pytest.mark.parametrize(("stored", "error"), [(0, NoKeyNow), (5, KeyManagerError)])
def test_an_empty_store_that_says_400_is_told_from_a_wrong_request(
    stored: int, error: type[Exception], pki: Path
) -> None:
    def answer(request: Request) -> Answer:
        if request.call == "status":
            return saying({**STATUS, "stored_key_count": stored})
        return saying({"message": "bad"}, 400)

    with supplied(pki, answer) as (source, _), pytest.raises(error) as caught:
        source.for_sending("client-1", 256)
    assert type(caught.value) is error


@pytest.mark.parametrize("trouble", [Answer(None), Answer(502, b"<html>"), Answer(500, b"")])
def test_what_fails_on_the_way_is_asked_again_a_few_times(trouble: Answer, pki: Path) -> None:
    with supplied(pki, habit(in_turn(trouble, just_as_asked))) as (source, foreign):
        assert source.for_sending("client-1", 256).bits == 256
    assert len(foreign.asked("enc_keys")) == 2
    with supplied(pki, habit(lambda _: trouble)) as (source, foreign), pytest.raises(NoKeyNow):
        source.for_sending("client-1", 256)
    assert len(foreign.asked("enc_keys")) == ATTEMPTS


def test_keys_of_an_answer_that_was_lost_are_not_used(pki: Path) -> None:
    handed_out: list[str] = []

    def counting(request: Request) -> Answer:
        entry = key(os.urandom(32))
        handed_out.append(entry["key_ID"])
        return Answer(None) if len(handed_out) == 1 else delivering(entry)

    with supplied(pki, habit(counting)) as (source, _):
        (reference,) = source.for_sending("client-1", 256).references
    assert [str(reference.key_id)] == handed_out[1:]


def test_a_key_that_is_still_on_its_way_is_waited_for(pki: Path) -> None:
    key_id = uuid4()
    late = in_turn(saying({"message": "not found"}, 400), delivering(key(bytes(32), key_id)))
    with supplied(pki, habit(just_as_asked, late)) as (source, foreign):
        assert source.for_receiving("client-1", [KeyReference(key_id, 0, 256)]).bits == 256
    assert len(foreign.asked("dec_keys")) == 2


def test_a_server_that_is_silent_or_gone_is_given_up_in_time(pki: Path) -> None:
    def asleep(request: Request) -> Answer:
        time.sleep(0.6)
        return just_as_asked(request)

    begun = time.monotonic()
    with supplied(pki, habit(asleep), timeout_s=0.1) as (source, _), pytest.raises(NoKeyNow):
        source.for_sending("client-1", 256)
    nobody = Etsi014(own(pki, f"https://127.0.0.1:{free_port()}"))
    with pytest.raises(NoKeyNow):
        nobody.status("bob")
    assert time.monotonic() - begun < 10


# Trust -------------------------------------------------------------------------------------------


def test_a_server_of_another_authority_or_another_name_gets_no_request(
    pki: Path, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "pki")
    for name, role in (("kme-x", Role.KME), ("sae-0", Role.SAE)):
        other.issue(name, role, Validity.days(1))
    strange: dict[str, Any] = {"ca": tmp_path / "pki" / "ca.crt"}
    refused = pytest.raises(KeyManagerError, match="no TLS connection to the key manager")
    for changes in (strange, {"kme_id": "kme-y"}):
        with supplied(pki, habit(just_as_asked), **changes) as (source, foreign), refused:
            source.for_sending("client-1", 256)
        assert foreign.requests == []
    with supplied(pki, habit(just_as_asked), kme_id="kme-x") as (source, _):
        assert source.for_sending("client-1", 256)


def test_a_server_that_does_not_accept_our_certificate_gives_no_key(
    pki: Path, tmp_path: Path
) -> None:
    Authority(tmp_path / "pki").issue("sae-0", Role.SAE, Validity.days(1))
    strange = {"certificate": tmp_path / "pki/sae-0.crt", "key": tmp_path / "pki/sae-0.key"}
    with (
        supplied(pki, habit(just_as_asked), **strange) as (source, _),
        # With TLS 1.3 the server says so after the handshake, and its hanging up may come first.
        pytest.raises(KeyUnavailable, match=r"no TLS connection .*ALERT|does not answer"),
    ):
        source.for_sending("client-1", 256)


def test_nothing_older_than_tls_1_2_is_spoken(pki: Path) -> None:
    assert tls_context(own(pki, "https://x")).minimum_version == ssl.TLSVersion.TLSv1_2


def test_certificates_that_cannot_be_used_are_errors_and_ask_for_no_password(
    pki: Path, tmp_path: Path
) -> None:
    settings = own(pki, "https://kme")
    key_pem = serialization.load_pem_private_key(settings.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key_pem.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "empty").touch()
    unusable: list[dict[str, Any]] = [
        {"key": locked},
        {"key": tmp_path / "none"},
        {"ca": tmp_path / "empty"},
        {"certificate": settings.ca},
    ]
    for changes in unusable:
        with pytest.raises(KeyManagerError, match="cannot be used"):
            Etsi014(replace(settings, **changes))


# Logs --------------------------------------------------------------------------------------------


def test_no_key_and_no_address_is_in_an_error_and_no_key_in_the_log(
    pki: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = os.urandom(32)
    told = base64.b64encode(secret).decode()
    answers: Sequence[Answer] = [
        saying({"keys": [{"key_ID": "nonsense", "key": told}]}),
        saying({"keys": [{"key": told}]}, 401),
        saying({"keys": [{"key": told}]}, 503),
        Answer(400, f"<html>{told}".encode()),
    ]
    caplog.set_level(logging.DEBUG)
    with supplied(pki, habit(in_turn(*answers))) as (source, foreign):
        for _ in answers:
            with pytest.raises(KeyUnavailable) as caught:
                source.for_sending("client-1", 256)
            assert told not in str(caught.value)
            assert foreign.url not in str(caught.value)
    assert "HTTP 503" in caplog.text
    assert told not in caplog.text
