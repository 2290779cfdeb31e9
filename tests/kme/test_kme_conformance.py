"""ETSI GS QKD 014 V1.1.1 over real TLS sockets, table by table."""

from uuid import UUID, uuid4

import pytest

from tests.kme.running import Reply, Site

ADDITIONAL = "additional_slave_SAE_IDs"


def refused(reply: Reply, status: int = 400) -> str:
    """Check that this is an Error (table 13), and return its message."""
    assert reply.status == status, reply.body
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert set(reply.json) <= {"message", "details"}
    assert isinstance(reply.json["message"], str)
    assert all(isinstance(each, dict) for each in reply.json.get("details", []))
    return reply.message


# Get status (clause 5.1, table 9)


def test_status_has_every_field_of_table_9(a: Site) -> None:
    status = a.status("alice", "bob")
    numbers = {
        "key_size": 256,
        "max_key_count": 2**23 // 256,
        "max_key_per_request": 128,
        "max_key_size": 2**20,
        "min_key_size": 64,
        "max_SAE_ID_count": 8,
    }
    names = {
        "source_KME_ID": "kme-a",
        "target_KME_ID": "kme-b",
        "master_SAE_ID": "alice",
        "slave_SAE_ID": "bob",
    }
    stored = status.pop("stored_key_count")
    assert status.pop("status_extension") == {"deffd_route": ["kme-a", "kme-b"]}
    assert status == {**numbers, **names}
    assert 0 < stored <= status["max_key_count"]


def test_status_counts_the_keys_that_are_left(a: Site) -> None:
    before = a.status("alice", "bob")["stored_key_count"]
    assert len(a.enc("alice", "bob", number=10).keys) == 10
    assert a.status("alice", "bob")["stored_key_count"] == before - 10
    a.enc("alice", "bob", size=512)
    assert a.status("alice", "bob")["stored_key_count"] == before - 12


def test_status_of_a_pair_over_a_trusted_node_is_that_of_its_scarcest_link(a: Site) -> None:
    status = a.status("alice", "carol")
    assert status["target_KME_ID"] == "kme-c"
    assert status["status_extension"] == {"deffd_route": ["kme-a", "kme-b", "kme-c"]}
    assert 0 < status["stored_key_count"] <= a.status("alice", "bob")["stored_key_count"]


# Get key and Get key with key IDs (clauses 5.2 and 5.3)


@pytest.mark.parametrize("enc", ["GET", "POST"])
@pytest.mark.parametrize("dec", ["GET", "POST"])
def test_a_key_makes_its_way(a: Site, b: Site, enc: str, dec: str) -> None:
    made = a.call("alice", enc, "bob/enc_keys")
    assert made.status == 200
    assert set(made.json) == {"keys"}
    ((key_id, key),) = made.keys.items()
    assert str(UUID(key_id)) == key_id
    assert 8 * len(key) == a.status("alice", "bob")["key_size"]
    if dec == "GET":
        fetched = b.call("bob", "GET", f"alice/dec_keys?key_ID={key_id}")
    else:
        fetched = b.dec("bob", "alice", [key_id])
    assert fetched.status == 200
    assert fetched.keys == {key_id: key}


def test_a_key_goes_the_other_way_too_and_between_saes_of_one_kme(a: Site, b: Site) -> None:
    for master, at, slave, fetched_at in (("bob", b, "alice", a), ("alice", a, "amy", a)):
        made = at.enc(master, slave, number=2)
        assert fetched_at.dec(slave, master, list(made.keys)).keys == made.keys


def test_an_empty_body_and_an_empty_object_ask_for_the_defaults(a: Site) -> None:
    for raw in (b"", b"{}", b" \n"):
        made = a.call("alice", "POST", "bob/enc_keys", raw=raw)
        assert [len(key) for key in made.keys.values()] == [32]


def test_number_and_size_are_obeyed_by_get_and_post(a: Site, b: Site) -> None:
    by_get = a.call("alice", "GET", "bob/enc_keys?number=3&size=1024")
    by_post = a.enc("alice", "bob", number=5, size=1024)
    assert [len(key) for key in by_get.keys.values()] == [128] * 3
    assert [len(key) for key in by_post.keys.values()] == [128] * 5
    together = {**by_get.keys, **by_post.keys}
    assert len(set(together.values())) == len(together) == 8
    assert b.dec("bob", "alice", list(together)).keys == together


def test_keys_come_in_the_order_in_which_they_are_asked_for(a: Site, b: Site) -> None:
    ids = list(a.enc("alice", "bob", number=9).keys)[::-1]
    assert list(b.dec("bob", "alice", ids).keys) == ids


def test_the_limits_of_the_status_are_those_that_hold(a: Site, b: Site) -> None:
    most = a.enc("alice", "bob", number=128, size=64)
    assert len(most.keys) == 128
    assert b.dec("bob", "alice", list(most.keys)).keys == most.keys
    (large,) = a.enc("alice", "amy", size=2**20).keys.values()
    assert len(large) == 2**17
    assert "max_key_per_request" in refused(a.enc("alice", "bob", number=129))
    for size in (56, 2**20 + 8):
        assert "min_key_size and max_key_size" in refused(a.enc("alice", "bob", size=size))
    ids = [str(uuid4()) for _ in range(129)]
    assert "max_key_per_request" in refused(b.dec("bob", "alice", ids))


@pytest.mark.parametrize("size", [0, -8, "abc01", "256", 256.0, True, None, [256], 10**30])
def test_a_size_that_is_none_is_refused(a: Site, size: object) -> None:
    assert "size shall" in refused(a.enc("alice", "bob", size=size))


@pytest.mark.parametrize("number", [0, -8, "abc01", "3", 3.0, True, None, {}, 10**30])
def test_a_number_that_is_none_is_refused(a: Site, number: object) -> None:
    assert "number" in refused(a.enc("alice", "bob", number=number))


@pytest.mark.parametrize("text", ["0", "-8", "abc01", "", "1.0", "0x10", "٣", "9" * 40, "+1", "1 "])
@pytest.mark.parametrize("name", ["number", "size"])
def test_numbers_of_a_get_that_are_none_are_refused(a: Site, name: str, text: str) -> None:
    from urllib.parse import quote

    refused(a.call("alice", "GET", f"bob/enc_keys?{name}={quote(text)}"))


@pytest.mark.parametrize("size", [100, 65, 257])
def test_a_size_of_no_whole_bytes_is_refused_in_the_words_of_the_standard(
    a: Site, size: int
) -> None:
    words = "size shall be a multiple of 8"
    assert refused(a.enc("alice", "bob", size=size)) == words
    assert refused(a.call("alice", "GET", f"bob/enc_keys?size={size}")) == words


def test_what_only_post_can_say_is_refused_by_get(a: Site) -> None:
    for name in (ADDITIONAL, "extension_mandatory", "extension_optional"):
        assert "POST" in refused(a.call("alice", "GET", f"bob/enc_keys?{name}=ben"))
    assert "twice" in refused(a.call("alice", "GET", "bob/enc_keys?number=1&number=2"))


def test_unknown_fields_are_ignored(a: Site) -> None:
    made = a.enc("alice", "bob", additional_target_sae_ids=["ben"], vendor={"a": [1]})
    assert made.status == 200
    assert a.call("alice", "GET", "bob/enc_keys?vendor=1").status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"number=3",
        b"[]",
        b"null",
        b"3",
        b'{"number": 1',
        b'{"number": NaN, "size": 64, "size": 64}',
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"number":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"number": ' + b"1" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(a: Site, raw: bytes) -> None:
    refused(a.call("alice", "POST", "bob/enc_keys", raw=raw))
    refused(a.call("alice", "POST", "bob/dec_keys", raw=raw))


# Who may have which key


def test_a_second_fetch_finds_nothing(a: Site, b: Site) -> None:
    (key_id,) = a.enc("alice", "bob").keys
    assert b.dec("bob", "alice", [key_id]).status == 200
    words = "one or more keys specified are not found on KME"
    assert refused(b.dec("bob", "alice", [key_id])) == words
    assert refused(b.call("bob", "GET", f"alice/dec_keys?key_ID={key_id}")) == words


def test_a_third_sae_gets_401_and_the_slave_its_key_all_the_same(a: Site, b: Site) -> None:
    made = a.enc("alice", "bob")
    assert "not made for" in refused(b.dec("ben", "alice", list(made.keys)), 401)
    (key_id,) = made.keys
    refused(b.call("ben", "GET", f"alice/dec_keys?key_ID={key_id}"), 401)
    assert b.dec("bob", "alice", [key_id]).keys == made.keys


def test_keys_are_handed_out_all_or_none(a: Site, b: Site) -> None:
    mine, others = a.enc("alice", "bob", number=2), a.enc("alice", "ben")
    refused(b.dec("bob", "alice", [*mine.keys, str(uuid4())]))
    refused(b.dec("bob", "alice", [*mine.keys, *others.keys]), 401)
    assert b.dec("bob", "alice", list(mine.keys)).keys == mine.keys
    assert b.dec("ben", "alice", list(others.keys)).keys == others.keys


def test_a_key_of_another_master_is_not_found(a: Site, b: Site) -> None:
    made = a.enc("alice", "bob")
    refused(b.dec("bob", "amy", list(made.keys)))
    refused(b.dec("bob", "nobody", list(made.keys)))
    assert b.dec("bob", "alice", list(made.keys)).keys == made.keys


def test_a_key_that_nobody_made_is_not_found(b: Site) -> None:
    assert "not found" in refused(b.dec("bob", "alice", [str(uuid4())]))


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"key_IDs": []},
        {"key_IDs": "x"},
        {"key_IDs": ["9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"]},
        {"key_IDs": [{"key_ID": "abc01"}]},
        {"key_IDs": [{"key_ID": 7}]},
        {"key_IDs": [{}]},
        {"key_IDs": [{"key_ID": "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"}] * 2},
    ],
)
def test_key_ids_that_are_none_are_refused(b: Site, wanted: object) -> None:
    refused(b.call("bob", "POST", "alice/dec_keys", wanted))


@pytest.mark.parametrize("query", ["", "?key_ID=", "?key_ID=abc01", "?key_id=1"])
def test_a_get_names_exactly_one_key_id(b: Site, query: str) -> None:
    assert "key_ID" in refused(b.call("bob", "GET", f"alice/dec_keys{query}"))
    two = "&".join(f"key_ID={uuid4()}" for _ in range(2))
    assert "twice" in refused(b.call("bob", "GET", f"alice/dec_keys?{two}"))


@pytest.mark.parametrize("call", ["status", "enc_keys", "dec_keys"])
def test_a_path_with_a_blank_id_or_the_own_is_refused(a: Site, call: str) -> None:
    query = f"?key_ID={uuid4()}" if call == "dec_keys" else ""
    for blank in ("", "%20", "%09"):
        assert "blank" in refused(a.call("alice", "GET", f"{blank}/{call}{query}"))
    assert "your own" in refused(a.call("alice", "GET", f"alice/{call}{query}"))


def test_an_sae_that_nobody_has_is_refused(a: Site) -> None:
    for call in ("status", "enc_keys"):
        assert "not known" in refused(a.call("alice", "GET", f"nobody/{call}"))


# Several slaves (additional_slave_SAE_IDs)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_slave_fetches_the_key_once_wherever_it_is(
    a: Site, b: Site, c: Site, method: str
) -> None:
    made = a.enc("alice", "bob", **{ADDITIONAL: ["ben", "carol", "amy"]})
    (key_id,) = made.keys
    for site, slave in ((b, "bob"), (b, "ben"), (c, "carol"), (a, "amy")):
        path, body = "alice/dec_keys", {"key_IDs": [{"key_ID": key_id}]}
        for status in (200, 400):
            if method == "GET":
                fetched = site.call(slave, "GET", f"{path}?key_ID={key_id}")
            else:
                fetched = site.call(slave, "POST", path, body)
            assert fetched.status == status
            assert status == 400 or fetched.keys == made.keys


@pytest.mark.parametrize(
    "listed",
    [
        [],
        [""],
        ["  "],
        ["ben", "ben"],
        ["bob"],
        ["alice"],
        ["nobody"],
        "ben",
        [1],
        None,
        [f"s{i}" for i in range(9)],
    ],
)
def test_additional_slaves_that_are_none_are_refused(a: Site, listed: object) -> None:
    before = a.status("alice", "bob")["stored_key_count"]
    refused(a.enc("alice", "bob", **{ADDITIONAL: listed}))
    assert a.status("alice", "bob")["stored_key_count"] == before


# Extensions


def test_a_mandatory_extension_nobody_knows_is_refused_in_the_words_of_the_standard(
    a: Site,
) -> None:
    made = a.enc("alice", "bob", extension_mandatory=[{"abc_route_type": "direct"}])
    assert refused(made) == "not all extension_mandatory parameters are supported"


def test_a_mandatory_extension_that_cannot_be_met_is_refused_in_the_words_of_the_standard(
    a: Site,
) -> None:
    words = "not all extension_mandatory request options could be met"
    for slave, option in (
        ("carol", {"deffd_route_type": "direct"}),
        ("bob", {"deffd_route_type": "indirect"}),
        ("amy", {"deffd_route_type": "indirect"}),
        ("bob", {"deffd_max_age_ms": 1}),
        ("bob", {"deffd_route_type": "sideways"}),
        ("bob", {"deffd_max_age_ms": "old"}),
        ("bob", {"deffd_max_age_ms": -1}),
        ("bob", {"deffd_max_age_ms": True}),
    ):
        assert refused(a.enc("alice", slave, extension_mandatory=[option])) == words


def test_mandatory_extensions_that_can_be_met_are(a: Site) -> None:
    young = {"deffd_max_age_ms": 3_600_000}
    for slave, option in (
        ("bob", {"deffd_route_type": "direct", **young}),
        ("amy", {"deffd_route_type": "direct"}),
        ("carol", {"deffd_route_type": "indirect"}),
        ("carol", young),
    ):
        assert a.enc("alice", slave, extension_mandatory=[option]).status == 200
    assert a.enc("alice", "bob", extension_mandatory=[]).status == 200


def test_optional_extensions_are_met_or_ignored(a: Site) -> None:
    for option in (
        {"abc_route_type": "direct"},
        {"deffd_route_type": "indirect"},
        {"deffd_max_age_ms": 1},
        {"deffd_max_age_ms": "old"},
    ):
        assert a.enc("alice", "bob", extension_optional=[option]).status == 200


@pytest.mark.parametrize("name", ["extension_mandatory", "extension_optional"])
@pytest.mark.parametrize("listed", [{}, "x", [1], [["a"]], None])
def test_extensions_that_are_no_list_of_objects_are_refused(
    a: Site, name: str, listed: object
) -> None:
    refused(a.enc("alice", "bob", **{name: listed}))


def test_a_relayed_key_says_which_nodes_have_seen_it(a: Site, c: Site) -> None:
    made = a.enc("alice", "carol", number=2)
    assert made.json["key_container_extension"] == {"deffd_trusted_nodes": ["kme-b"]}
    assert c.dec("carol", "alice", list(made.keys)).keys == made.keys
    assert set(a.enc("alice", "bob").json) == {"keys"}
