"""The key ledger: what it writes, and that its audit finds every kind of wrong row."""

import csv
from pathlib import Path

import pytest

from deffd_flower.errors import DeffdError
from deffd_flower.qkd.audit import verify_ledger
from deffd_flower.qkd.ledger import COLUMNS, TOTALS, Ledger, Use
from deffd_flower.qkd.pool import KeyPool, PoolSettings
from deffd_flower.qkd.production import BlockYield, Disturbance

KEPT = PoolSettings(capacity=2000, max_age_s=100.0, authentication_bits=256)
KEY = Use("k1", 0, 1, "aes")
RELAYED = Use("k2", 1, 0, "otp", "Daegu Daejeon")


def link_pool() -> KeyPool:
    """Blocks of 1000 bits each second; at a QBER of 20 % none."""
    return KeyPool(lambda seen: BlockYield(1.0, 0 if seen.extra_qber else 1000, 0.02), KEPT)


def some_history(path: Path) -> list[dict[str, str]]:
    """Write one link's ledger with every event in it; return its rows."""
    ledger, pool = Ledger(path), link_pool()
    ledger.begin_round(1)
    pool.advance(2)
    ledger.catch_up("0-1", pool)
    lease = pool.lease(256)
    pool.deliver(lease, 256)
    ledger.close_lease("0-1", pool, lease, 256, KEY)
    ledger.begin_round(2)
    pool.advance(3)
    pool.advance(2, Disturbance(extra_qber=0.2))
    ledger.catch_up("0-1", pool)
    lease = pool.lease(800)
    pool.deliver(lease, 600)
    ledger.close_lease("0-1", pool, lease, 600, RELAYED)
    pool.advance(200, Disturbance(silent=True))
    ledger.catch_up("0-1", pool)
    ledger.starve("0-1", pool, Use("", 0, 1, "otp"))
    ledger.flush()
    ledger.check()
    return read(path)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_says_what_moved_and_where_it_leaves_the_link(tmp_path: Path) -> None:
    rows = some_history(tmp_path / "keys.csv")
    story = [
        (row["time_s"], row["round"], row["event"], row["bits"], row["blocks"], row["stored"])
        for row in rows
    ]
    assert story == [
        ("2.0", "1", "produced", "2256", "2", "2256"),
        ("2.0", "1", "authentication", "512", "0", "1744"),
        ("2.0", "1", "delivered", "256", "0", "1488"),
        ("7.0", "2", "produced", "3000", "3", "4488"),
        ("7.0", "2", "authentication", "768", "0", "3720"),
        ("7.0", "2", "overflow", "1464", "0", "2256"),
        ("7.0", "2", "aborted", "0", "2", "2256"),
        ("7.0", "2", "relayed", "600", "0", "1656"),
        ("7.0", "2", "unused", "200", "0", "1456"),
        ("207.0", "2", "expired", "1200", "0", "256"),
        ("207.0", "2", "starved", "0", "0", "256"),
    ]
    for row in rows:
        produced, delivered, stored, expired, burnt = (int(row[total]) for total in TOTALS)
        assert produced == delivered + stored + expired + burnt


def test_a_use_says_whose_key_it_was_and_who_saw_it(tmp_path: Path) -> None:
    rows = {row["event"]: row for row in some_history(tmp_path / "keys.csv")}
    relayed = rows["relayed"]
    named = [relayed[name] for name in ("key_id", "sender", "receiver", "suite", "exposed")]
    assert named == ["k2", "1", "0", "otp", "Daegu Daejeon"]
    assert (rows["delivered"]["exposed"], rows["delivered"]["age_s"]) == ("", "1.0")
    assert rows["produced"]["key_id"] == ""
    assert rows["aborted"]["qber"] == "0.02"


def test_productions_between_two_events_share_a_row(tmp_path: Path) -> None:
    ledger, pool = Ledger(tmp_path / "keys.csv"), link_pool()
    for _ in range(100):
        pool.advance(0.01)
        ledger.catch_up("0-1", pool)
    ledger.flush()
    rows = read(tmp_path / "keys.csv")
    assert [row["event"] for row in rows] == ["produced", "produced", "authentication"]
    assert sum(int(row["bits"]) for row in rows if row["event"] == "produced") == 1256


def test_what_was_flushed_is_on_disk_and_is_never_touched_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    ledger, pool = Ledger(path), link_pool()
    before = b""
    for server_round in range(1, 6):
        pool.advance(1)
        ledger.catch_up("0-1", pool)
        ledger.begin_round(server_round)
        now = path.read_bytes()
        assert now.startswith(before)
        assert len(now) > len(before)
        before = now
    assert verify_ledger(path) == 2 + 2 + 3 * 3


def test_a_long_run_does_not_pile_up_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    ledger, pool = Ledger(path), link_pool()
    ledger.catch_up("0-1", pool)
    for _ in range(10_001):
        ledger.starve("0-1", pool, KEY)
    assert sum(1 for _ in path.open()) >= 10_000


def test_a_pool_that_does_not_match_its_rows_is_found(tmp_path: Path) -> None:
    ledger, pool = Ledger(tmp_path / "keys.csv"), link_pool()
    pool.advance(1)
    ledger.catch_up("0-1", pool)
    ledger.check()
    pool.deliver(pool.lease(100), 100)
    pool.advance(1)
    ledger.catch_up("0-1", pool)
    with pytest.raises(DeffdError, match="does not add up: row 4, link 0-1"):
        ledger.check()


def test_an_honest_ledger_passes_the_audit(tmp_path: Path) -> None:
    some_history(tmp_path / "keys.csv")
    assert verify_ledger(tmp_path / "keys.csv") == 11


def test_half_a_line_at_the_end_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    some_history(path)
    with path.open("a") as file:
        file.write("207.0,2,0-1,prod")
    assert verify_ledger(path) == 11


@pytest.mark.parametrize("number", range(1, 12))
@pytest.mark.parametrize("column", ["bits", *TOTALS])
def test_the_audit_finds_any_number_of_bits_that_was_changed(
    tmp_path: Path, number: int, column: str
) -> None:
    path = tmp_path / "keys.csv"
    rows = some_history(path)
    rows[number - 1][column] = str(int(rows[number - 1][column]) + 8)
    rewrite(path, rows)
    with pytest.raises(DeffdError, match=rf"keys.csv, row {number}:"):
        verify_ledger(path)


@pytest.mark.parametrize("number", range(1, 11))
def test_the_audit_finds_a_row_that_is_missing_or_out_of_order(tmp_path: Path, number: int) -> None:
    path = tmp_path / "keys.csv"
    rows = some_history(path)
    if rows[number - 1]["event"] != "aborted":
        rewrite(path, rows[: number - 1] + rows[number:])
        with pytest.raises(DeffdError, match=r"row \d+"):
            verify_ledger(path)
    if "aborted" not in (rows[number - 1]["event"], rows[number]["event"]):
        rows[number - 1], rows[number] = rows[number], rows[number - 1]
        rewrite(path, rows)
        with pytest.raises(DeffdError, match=r"row \d+"):
            verify_ledger(path)


@pytest.mark.parametrize(
    ("number", "change", "complaint"),
    [
        (8, {"key_id": "k1"}, "belongs to another sender or receiver"),
        (9, {"event": "relayed", "delivered": "1056", "burnt": "2744"}, "was used on this link"),
        (5, {"event": "theft"}, "no event"),
        (3, {"bits": "-256"}, "no event"),
        (10, {"time_s": "6.0"}, "earlier"),
        (11, {"round": "1"}, "earlier"),
        (2, {"link": "0-2"}, "do not follow"),
        (4, {"bits": "many"}, "cannot be read"),
    ],
)
def test_the_audit_finds_rows_that_cannot_be(
    tmp_path: Path, number: int, change: dict[str, str], complaint: str
) -> None:
    path = tmp_path / "keys.csv"
    rows = some_history(path)
    rows[number - 1] |= change
    rewrite(path, rows)
    with pytest.raises(DeffdError, match=complaint):
        verify_ledger(path)


def test_the_audit_refuses_what_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "keys.csv"
    with pytest.raises(DeffdError, match="cannot be read"):
        verify_ledger(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DeffdError, match="first line must be time_s,round,link"):
        verify_ledger(path)


def rewrite(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
