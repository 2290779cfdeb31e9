"""What the server gets to see: a grid that keeps every byte of a run finds no model and no key.

Searched are all messages in both directions, everything printed and logged, and all files of the
run, for windows of 16 bytes of any client's weights at any time, and of any key.
"""

import base64
import codecs
import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from itertools import chain

import pytest
from flwr.app import Message

from deffd_flower.engine.local_grid import LocalGrid
from deffd_flower.qkd import embedded
from deffd_flower.qkd.embedded import secret_file
from deffd_flower.results.report import render
from deffd_flower.state import load_weights
from deffd_flower.transport import KeyMaterial, decode_tensors, desk, sealing, supply
from deffd_flower.transport.identity import SharedSecretIdentity
from deffd_flower.transport.mod import REFUSED
from tests.security.cheat import Cheat, Forge, Forgery, Scene, has_mail, has_parcels, nothing
from tests.security.conftest import Federation, Honest, Outcome
from tests.security.forged_mail import everything
from tests.security.forged_orders import bad_orders
from tests.security.leaky_strategy import KINDS
from tests.security.windows import Windows

SUITES = ["aes", "otp", "hybrid", "pqc"]
SHORT_KEY = 64


class Recording(Cheat):
    """Keeps all that passes, and each client's weights after each message."""

    def __init__(self, inner: LocalGrid, forge: Forge = nothing) -> None:
        super().__init__(inner, has_mail_or_parcels, forge, "before")
        self.heap: list[bytes] = []
        self.weights: set[bytes] = set()

    def deliver(self, message: Message) -> Message:
        self.heap += readings(message)
        reply = super().deliver(message)
        self.heap += readings(reply)
        weights = load_weights(self.context(message))
        if weights is not None:
            self.weights.add(weights)
        return reply


def has_mail_or_parcels(message: Message) -> bool:
    return has_parcels(message) or has_mail("evaluate")(message)


def readings(message: Message) -> Iterator[bytes]:
    """Yield a message as bytes, and the bytes that its error's text may have been written for."""
    yield pickle.dumps(message)
    if message.has_error() and message.error.reason:
        text = message.error.reason.encode("ascii", "backslashreplace")
        with_bytes, _ = codecs.escape_decode(text.rstrip(b"\\"))
        yield bytes(with_bytes)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """Collects each secret that comes into being: of the file, of pairs, QKD keys, ML-KEM's private
    keys and shared secrets, message keys, and the key that proves identities."""
    seen = {secret_file().read_bytes()} if secret_file().exists() else set()

    def listen(place: object, name: str, secret_of: Callable[..., object]) -> None:
        spoken = getattr(place, name)

        def overheard(*arguments: object) -> object:
            result = spoken(*arguments)
            secret = secret_of(result, *arguments)
            assert isinstance(secret, bytes | bytearray)
            if secret:
                seen.add(bytes(secret))
            return result

        monkeypatch.setattr(place, name, overheard)

    listen(KeyMaterial, "__init__", lambda _, material, *__: material.secret)
    listen(SharedSecretIdentity, "__init__", lambda _, identity, *__: identity._key)
    listen(supply, "load_secret", lambda secret, *_: secret)
    listen(embedded, "_derive", lambda secret, *_: secret)
    listen(desk, "generate_kem_keypair", lambda pair, *_: pair.private)
    listen(sealing, "encapsulate", lambda result, *_: result[1])
    listen(sealing, "decapsulate", lambda secret, *_: secret)
    # The package has an attribute of the module's name, and it is not the module.
    suites = sys.modules["deffd_flower.transport.suites"]
    listen(suites, "derive_message_key", lambda secret, *_: secret)
    return seen


def tensors(recording: Recording) -> Windows:
    """Return the windows of every tensor that any client ever had after its first message."""
    models = [decode_tensors(weights) for weights in recording.weights]
    return Windows(
        tensor.numpy().tobytes()
        for model in models
        for tensor in model.values()
        if tensor.is_floating_point()
    )


class Eyes:
    """Sees what a run prints and logs."""

    def __init__(
        self, log: pytest.LogCaptureFixture, printed: pytest.CaptureFixture[bytes]
    ) -> None:
        self._log = log
        self._printed = printed

    def everything(self, run: Outcome[Recording]) -> bytes:
        """Return the messages, the files of the run, and what was printed and logged."""
        files = [path.read_bytes() for path in run.directory.rglob("*") if path.is_file()]
        assert len(files) >= 7
        printed = self._printed.readouterr()
        assert "Strategy execution finished" in self._log.text
        return b"".join(
            [*run.relay.heap, *files, printed.out, printed.err, self._log.text.encode()]
        )


@pytest.fixture
def eyes(caplog: pytest.LogCaptureFixture, capfdbinary: pytest.CaptureFixture[bytes]) -> Eyes:
    return Eyes(caplog, capfdbinary)


def texts_of(secret: bytes) -> list[bytes]:
    """Return a key as it would stand in a text."""
    shown = [repr(secret)[2:], secret.hex(), secret.hex().upper(), str(list(secret))]
    return [base64.b64encode(secret), *(text.encode() for text in shown)]


def check_no_key(keys: set[bytes], heap: bytes) -> None:
    short = [key for key in keys if len(key) <= SHORT_KEY]
    assert len(short) > 12
    assert not Windows([*keys, *chain.from_iterable(map(texts_of, short))]).found_in(heap)


@pytest.mark.parametrize("suite", SUITES)
def test_the_server_sees_no_model_and_no_key(
    suite: str, federation: Federation, keys: set[bytes], eyes: Eyes
) -> None:
    run: Outcome[Recording] = federation(Recording, isolate=True, suite=suite)
    if suite == "aes":
        render(run.directory)
        assert (run.directory / "report.html").exists()
    heap, searched = eyes.everything(run), tensors(run.relay)
    assert len(searched) > 50_000
    assert len(heap) > 16 * 90_000
    assert not searched.found_in(heap)
    check_no_key(keys, heap)


def test_the_search_finds_models_that_are_not_sealed(federation: Federation, eyes: Eyes) -> None:
    run: Outcome[Recording] = federation(Recording, isolate=True, suite="none")
    searched = tensors(run.relay)
    found = searched.found_in(eyes.everything(run))
    assert len(found) > 0.3 * len(searched)


def test_the_search_finds_keys_that_are_told(keys: set[bytes]) -> None:
    getattr(desk, "generate_kem_keypair")()  # noqa: B009 - the fixture has replaced it there
    (key,) = (key for key in keys if len(key) == 64)
    assert Windows(keys).found_in(b"at any place" + key + b"in a heap") >= {key[:16], key[48:]}
    for text in (key.hex(), f"{key!r}", base64.b64encode(key).decode()):
        assert Windows(texts_of(key)).found_in(f"in a text {text} of any kind".encode())


@pytest.mark.parametrize("suite", SUITES)
def test_refusals_tell_the_server_nothing(
    suite: str,
    federation: Federation,
    honest: Honest,
    keys: set[bytes],
) -> None:
    def forge(scene: Scene) -> Iterator[Forgery]:
        forgeries = bad_orders if has_parcels(scene.message) else everything(honest(suite).relay)
        yield from forgeries(scene)

    recording = functools.partial(Recording, forge=forge)
    run: Outcome[Recording] = federation(recording, isolate=True, suite=suite)
    assert {phase for phase, _ in run.relay.struck} == {"train", "evaluate"}
    assert {verdict.code for verdict in run.relay.verdicts} == {REFUSED}
    answers = [reply for reply in run.relay.heap if len(reply) < 5000]
    assert len(answers) > len(run.relay.verdicts)
    assert not tensors(run.relay).found_in(b"".join(answers))
    check_no_key(keys, b"".join(answers))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_exceptions_tell_the_server_no_model(
    kind: str, federation: Federation, keys: set[bytes], eyes: Eyes
) -> None:
    leaky = {"strategy": f"leaky-{kind}", "plugins": "tests.security.leaky_strategy"}
    run: Outcome[Recording] = federation(Recording, isolate=True, suite="aes", **leaky)
    assert run.summary["failures"] > 0
    heap = eyes.everything(run)
    assert not tensors(run.relay).found_in(heap)
    check_no_key(keys, heap)
    log = (run.directory / "run.log").read_text()
    assert {"bytes": "ValueError: b'", "text": "cannot fuse b", "shape": "loading state_dict"}[
        kind
    ] in log
    assert max(len(line) for line in log.splitlines()) < 700
