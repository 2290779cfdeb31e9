"""Requests of ETSI GS QKD 014 V1.1.1, checked: what is wrong is said in the standard's words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from deffd_flower.errors import DeffdError
from deffd_flower.kme.config import KeyConfig
from deffd_flower.kme.directory import ANYHOW, Conditions, RouteType

ROUTE_TYPE, MAX_AGE = "deffd_route_type", "deffd_max_age_ms"
#: Clause and words of the standard: tables 10 and 12, and their text.
NOT_A_MULTIPLE = "size shall be a multiple of 8"
UNKNOWN_EXTENSION = "not all extension_mandatory parameters are supported"
UNMET_EXTENSION = "not all extension_mandatory request options could be met"
NO_SUCH_KEY = "one or more keys specified are not found on KME"
_POST_ONLY = ("additional_slave_SAE_IDs", "extension_mandatory", "extension_optional")


class ApiError(DeffdError):
    """A request that is answered with an Error (table 13) instead of what was asked for.

    Args:
        status: HTTP code: 400, 401 or 503.
        message: The Error's message.
        details: The Error's details: names and values.
    """

    def __init__(self, status: int, message: str, **details: str | int) -> None:
        super().__init__(message)
        self.status = status
        self.details = [{name: value} for name, value in details.items()]


@dataclass(frozen=True)
class KeyRequest:
    """What Get key asks for (table 10).

    Attributes:
        number: Keys.
        size: Bits of each, a multiple of 8.
        additional: Further slave SAEs.
        mandatory: Conditions that have to be met (extension_mandatory).
        wished: The same and more, that may be left unmet (extension_optional).
    """

    number: int
    size: int
    additional: tuple[str, ...] = ()
    mandatory: Conditions = ANYHOW
    wished: Conditions = ANYHOW


def json_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a POST; an empty body is an empty object.

    Raises:
        ApiError: It holds something else.
    """
    if not body.strip():
        return {}
    try:
        given = json.loads(body.decode("utf-8"), object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError) as problem:
        # A decoder's message may quote the body.
        raise ApiError(400, "the body is no JSON", problem=type(problem).__name__) from None
    if not isinstance(given, dict):
        raise ApiError(400, "the body must be a JSON object")
    return given


def key_request_of_query(query: Sequence[tuple[str, str]], limits: KeyConfig) -> KeyRequest:
    """Check the Key request of a GET, which may have number and size only.

    Raises:
        ApiError: It is wrong.
    """
    given = _once_each(query)
    for name in _POST_ONLY:
        if name in given:
            raise ApiError(400, f"{name} can be given by POST only")
    numbers: dict[str, Any] = {
        name: _whole_number(given[name]) for name in ("number", "size") if name in given
    }
    return key_request(numbers, limits)


def key_request(given: Mapping[str, Any], limits: KeyConfig) -> KeyRequest:
    """Check a Key request; fields that the standard does not know are ignored.

    Raises:
        ApiError: It is wrong.
    """
    number, size = given.get("number", 1), given.get("size", limits.size)
    if type(number) is not int or number < 1:
        raise ApiError(400, "number shall be a whole number above 0")
    if number > limits.max_per_request:
        most = limits.max_per_request
        raise ApiError(400, "number is above max_key_per_request", max_key_per_request=most)
    if type(size) is not int or size < 1:
        raise ApiError(400, "size shall be a whole number above 0")
    if size % 8:
        raise ApiError(400, NOT_A_MULTIPLE)
    if not limits.min_size <= size <= limits.max_size:
        message = "size shall lie between min_key_size and max_key_size"
        raise ApiError(400, message, min_key_size=limits.min_size, max_key_size=limits.max_size)
    return KeyRequest(number, size, _additional(given, limits), *_conditions(given))


def key_ids_of_query(query: Sequence[tuple[str, str]]) -> list[UUID]:
    """Check the key_ID of a GET, which must be exactly one.

    Raises:
        ApiError: It is wrong.
    """
    given = _once_each(query)
    if "key_ID" not in given:
        raise ApiError(400, "key_ID is missing; several key_IDs can be given by POST only")
    return [_uuid(given["key_ID"])]


def key_ids(given: Mapping[str, Any], limits: KeyConfig) -> list[UUID]:
    """Check Key IDs (table 12); fields that the standard does not know are ignored.

    Raises:
        ApiError: They are wrong.
    """
    listed = given.get("key_IDs")
    if not isinstance(listed, list) or not listed:
        raise ApiError(400, "key_IDs shall be a list of objects with a key_ID each")
    if len(listed) > limits.max_per_request:
        most = limits.max_per_request
        raise ApiError(400, "more key_IDs than max_key_per_request", max_key_per_request=most)
    ids = [_uuid(each.get("key_ID") if isinstance(each, dict) else None) for each in listed]
    if len(set(ids)) < len(ids):
        raise ApiError(400, "a key_ID is given twice")
    return ids


def sae_id(given: str) -> str:
    """Check an SAE id from a path.

    Raises:
        ApiError: It is blank.
    """
    if not given.strip():
        raise ApiError(400, "the SAE ID in the path is blank")
    return given


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ValueError("a name is there twice")
    return given


def _once_each(query: Sequence[tuple[str, str]]) -> dict[str, str]:
    given = dict(query)
    if len(given) < len(query):
        raise ApiError(400, "a parameter is given twice")
    return given


def _whole_number(text: str) -> int | str:
    """Return a number, or the text itself, which is refused where numbers are."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdecimal() and len(digits) < 19 else text


def _uuid(given: object) -> UUID:
    try:
        if isinstance(given, str):
            return UUID(given)
    except ValueError:
        pass
    raise ApiError(400, "key_ID shall be a UUID")


def _additional(given: Mapping[str, Any], limits: KeyConfig) -> tuple[str, ...]:
    name = "additional_slave_SAE_IDs"
    if name not in given:
        return ()
    listed = given[name]
    if not isinstance(listed, list) or not listed or not all(isinstance(x, str) for x in listed):
        raise ApiError(400, f"{name} shall be a list of SAE IDs")
    if any(not each.strip() for each in listed) or len(set(listed)) < len(listed):
        raise ApiError(400, f"{name} has an SAE ID that is blank, or one twice")
    if len(listed) > limits.max_sae_ids:
        raise ApiError(
            400, f"{name} is longer than max_SAE_ID_count", max_SAE_ID_count=limits.max_sae_ids
        )
    return tuple(listed)


def _conditions(given: Mapping[str, Any]) -> tuple[Conditions, Conditions]:
    """Return what has to be met, and what is wished; optional extensions may be unknown."""
    optional = {
        name: value
        for name, value in _named_values(given, "extension_optional")
        if name in _READERS and _READERS[name](value) is not None
    }
    wanted = _named_values(given, "extension_mandatory")
    for name, value in wanted:
        if name not in _READERS:
            raise ApiError(400, UNKNOWN_EXTENSION, unknown=name[:100])
        if _READERS[name](value) is None:
            raise ApiError(400, UNMET_EXTENSION, unmet=name)
    mandatory = dict(wanted)
    return _met_by(mandatory), _met_by({**optional, **mandatory})


def _met_by(options: Mapping[str, Any]) -> Conditions:
    return Conditions(RouteType(options.get(ROUTE_TYPE, "any")), options.get(MAX_AGE))


def _named_values(given: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    listed = given.get(name, [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise ApiError(400, f"{name} shall be a list of objects")
    return [pair for each in listed for pair in each.items()]


def _route_type(value: object) -> object | None:
    return value if value in ("direct", "indirect") else None


def _max_age(value: object) -> object | None:
    return value if type(value) is int and 0 < value < 2**53 else None


_READERS = {ROUTE_TYPE: _route_type, MAX_AGE: _max_age}
"""What each extension's value has to be; ``None`` if it is not."""
