"""ETSI GS QKD 014 V1.1.1 over HTTPS: the one place that knows its paths, fields and codes.

Edition 2 of the standard has other paths and names; it would be another class beside this one.

Servers of others differ from the letter of the standard. Keys are asked for by POST alone, because
some ignore the parameters of a GET; an error's body is read if it is one, and not relied upon;
fewer, more, longer and shorter keys than were asked for are handed on as they are.
"""

import base64
import binascii
import json
import logging
import random
import ssl
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from deffd_flower.sae.delivery import DeliveredKey, KeyManagerError, KeyNotFound, LinkStatus
from deffd_flower.sae.settings import SaeSettings
from deffd_flower.transport.refusal import NoKeyNow

log = logging.getLogger("deffd")

ATTEMPTS = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
#: Characters of a key manager's own words that are logged.
SHOWN = 200
_STARVED = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
_AGAIN = {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
_STRANGER = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLSyscallError, ssl.SSLZeroReturnError)


class Etsi014:
    """One SAE's connection to its key manager, kept alive between requests.

    A request that fails on the way is sent again, a few times and after a random pause. That uses
    no key twice: keys of an answer that got lost are never seen by anybody, and fresh keys are
    other keys. Redirections are not followed, and no proxy is asked.

    Args:
        settings: Whose connection, where to, and with which certificate.

    Raises:
        KeyManagerError: The certificate, its key or the authorities cannot be read.
    """

    def __init__(self, settings: SaeSettings) -> None:
        self._settings = settings
        self._prefix = urlsplit(settings.kme_url).path.rstrip("/")
        self._pool = urllib3.connection_from_url(
            settings.kme_url,
            ssl_context=tls_context(settings),
            server_hostname=settings.kme_id or None,
            timeout=urllib3.Timeout(connect=settings.timeout_s, read=settings.timeout_s),
            retries=False,
        )

    def status(self, peer: str) -> LinkStatus:
        """Get status (clause 5.1).

        Raises:
            NoKeyNow: The key manager does not answer.
            KeyManagerError: It refuses.
        """
        code, answer = self._ask("GET", peer, "status")
        return _link_status(self._content(code, answer))

    def fresh_keys(self, peer: str, number: int, size: int) -> list[DeliveredKey]:
        """Get key (clause 5.2), as the master.

        Raises:
            NoKeyNow: There is not enough, or no answer.
            KeyManagerError: The key manager refuses.
        """
        code, answer = self._ask("POST", peer, "enc_keys", {"number": number, "size": size})
        # The standard has no code for an empty store, and some servers say 400.
        if code == HTTPStatus.BAD_REQUEST and self.status(peer).stored_keys < number:
            raise NoKeyNow("the key manager has too little key")
        return _keys(self._content(code, answer))

    def keys_named(self, peer: str, key_ids: Sequence[UUID]) -> list[DeliveredKey]:
        """Get key with key IDs (clause 5.3), as the slave.

        Raises:
            KeyNotFound: One of them is not there.
            NoKeyNow: The key manager does not answer.
            KeyManagerError: It refuses.
        """
        body = {"key_IDs": [{"key_ID": str(key_id)} for key_id in key_ids]}
        code, answer = self._ask("POST", peer, "dec_keys", body)
        if code in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
            self._note(f"dec_keys: HTTP {code} {_message(answer)}")
            raise KeyNotFound("the key manager has no such key")
        return _keys(self._content(code, answer))

    def _ask(
        self, method: str, peer: str, call: str, body: Mapping[str, object] | None = None
    ) -> tuple[int, bytes]:
        path = f"{self._prefix}/api/v1/keys/{quote(peer, safe='')}/{call}"
        for attempt in range(ATTEMPTS):
            if attempt:
                longest = min(FIRST_PAUSE_S * 4**attempt, LONGEST_PAUSE_S)
                time.sleep(random.uniform(FIRST_PAUSE_S, longest))
            try:
                answer = self._pool.request(method, path, json=body, redirect=False)
            except HTTPError as problem:
                self._note(f"{call}: {problem}")
                self._check_trust(problem)
                continue
            if answer.status in _STARVED:
                self._note(f"{call}: HTTP {answer.status} {_message(answer.data)}")
                raise NoKeyNow("the key manager has too little key")
            if answer.status not in _AGAIN:
                return answer.status, answer.data
            self._note(f"{call}: HTTP {answer.status} {_message(answer.data)}")
        raise NoKeyNow("the key manager does not answer")

    def _check_trust(self, problem: HTTPError) -> None:
        """Tell two ends that do not accept each other from a connection that was cut."""
        cause = problem.args[0] if isinstance(problem, SSLError) and problem.args else None
        if cause is not None and not isinstance(cause, _CUT_SHORT):
            reason = getattr(cause, "reason", None) or type(cause).__name__
            raise KeyManagerError(f"no TLS connection to the key manager ({reason})") from None

    def _content(self, code: int, answer: bytes) -> dict[str, Any]:
        if code in _STRANGER:
            self._note(f"HTTP {code} {_message(answer)}")
            raise KeyManagerError(f"the key manager does not accept this SAE (HTTP {code})")
        if code != HTTPStatus.OK:
            self._note(f"HTTP {code} {_message(answer)}")
            raise KeyManagerError(f"the key manager refuses the request (HTTP {code})")
        try:
            content = json.loads(answer)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise KeyManagerError("the key manager's answer is no JSON object")
        return content

    def _note(self, what: str) -> None:
        log.warning("%s, key manager %s: %s", self._settings.sae_id, self._settings.kme_url, what)


def tls_context(settings: SaeSettings) -> ssl.SSLContext:
    """Return TLS 1.2 or higher, with the SAE's certificate, trusting its authorities alone.

    Raises:
        KeyManagerError: A file cannot be read, or key and certificate do not fit.
    """
    try:
        context = ssl.create_default_context(cafile=str(settings.ca))
        context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
    except (OSError, ssl.SSLError) as problem:
        log.warning("%s: %s, %s: %s", settings.sae_id, settings.certificate, settings.ca, problem)
        raise KeyManagerError(
            "the SAE's certificate, its key or the authorities' certificates cannot be used"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> bytes:
    """Keep OpenSSL from asking the terminal for the password of an encrypted key."""
    raise ssl.SSLError("the key is encrypted; store it without a password, readable by its owner")


def _link_status(content: Mapping[str, Any]) -> LinkStatus:
    try:
        key_size = int(content["key_size"])
        return LinkStatus(
            key_size=key_size,
            stored_keys=int(content.get("stored_key_count", 0)),
            keys_per_request=max(1, int(content.get("max_key_per_request", 1))),
            min_key_size=int(content.get("min_key_size", 8)),
            max_key_size=max(key_size, int(content.get("max_key_size", key_size))),
        )
    except (KeyError, TypeError, ValueError):
        raise KeyManagerError("the key manager's status cannot be understood") from None


def _keys(content: Mapping[str, Any]) -> list[DeliveredKey]:
    try:
        return [
            DeliveredKey(
                UUID(entry["key_ID"]), bytearray(base64.b64decode(entry["key"], validate=True))
            )
            for entry in content["keys"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError, binascii.Error):
        raise KeyManagerError("the key manager's keys cannot be understood") from None


def _message(answer: bytes) -> str:
    """Return an error's own words, if it has any; what was no error's body may hold anything."""
    try:
        return str(json.loads(answer)["message"])[:SHOWN]
    except (ValueError, TypeError, KeyError, IndexError):
        return ""
