import copy
import pickle
from uuid import UUID

import pytest

from deffd_flower.transport import KeyMaterial, KeyReference, KeyUnavailable

REFERENCES = (KeyReference(UUID(int=1), 0, 128), KeyReference(UUID(int=2), 64, 128))
SECRET = bytes(range(200, 232))


def test_wiped_key_is_zero_in_memory_and_gives_nothing() -> None:
    memory = bytearray(SECRET)
    key = KeyMaterial(REFERENCES, memory)
    assert key.secret == SECRET
    key.wipe()
    assert memory == bytes(32)
    with pytest.raises(KeyUnavailable):
        _ = key.secret


def test_wiping_twice_is_harmless() -> None:
    key = KeyMaterial(REFERENCES, SECRET)
    key.wipe()
    key.wipe()
    assert repr(key) == "KeyMaterial(2 references, 256 bits)"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_size_must_be_what_the_references_name(size: int) -> None:
    with pytest.raises(KeyUnavailable) as raised:
        KeyMaterial(REFERENCES, bytes(size))
    assert str(raised.value) == f"{8 * size} key bits came for references to 256"


def test_text_forms_hold_no_key() -> None:
    key = KeyMaterial(REFERENCES, SECRET)
    for text in (repr(key), str(key), f"{key}", f"{[key]}"):
        assert text.strip("[]") == "KeyMaterial(2 references, 256 bits)"


def test_key_is_neither_copied_nor_pickled() -> None:
    key = KeyMaterial(REFERENCES, SECRET)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            attempt(key)
