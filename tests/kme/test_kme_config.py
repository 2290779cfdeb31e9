"""The file of a KME: what is wrong with it is said by the name of the key."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from deffd_flower.cli import app, guarded
from deffd_flower.errors import RequestError
from deffd_flower.kme.certificates import Authority, Role, Validity
from deffd_flower.kme.config_file import load, parse
from deffd_flower.qkd.link import expected_block, secret_bits_per_second
from deffd_flower.qkd.network import at_length
from deffd_flower.qkd.presets import links

PEER = {"kme-id": "kme-b", "url": "https://kme-b:9443", "channel": "ab.seed"}
FILE: dict[str, Any] = {
    "kme-id": "kme-a",
    "certificate": "pki/kme-a.crt",
    "private-key": "/etc/kme-a.key",
    "ca": "pki/ca.crt",
    "store": "keys.sqlite",
    "saes": ["alice"],
    "peer-port": 9443,
    "peers": [PEER],
}


def changed(**changes: Any) -> dict[str, Any]:
    """Return the file with keys changed; ``None`` leaves one out, ``__`` is a level."""
    file: dict[str, Any] = {**FILE, "peers": [dict(PEER)]}
    for name, value in changes.items():
        key, _, below = name.partition("__")
        target = file["peers"][0] if below and key == "peer" else file
        kebab = (below if below and key == "peer" else key).replace("_", "-")
        if value is None:
            del target[kebab]
        else:
            target[kebab] = value
    return file


def test_a_short_file_is_enough_and_paths_are_relative_to_it(folder: Path) -> None:
    config = parse(FILE, folder)
    assert config.certificate == folder / "pki/kme-a.crt"
    assert config.private_key == Path("/etc/kme-a.key")
    assert config.peers[0].channel == folder / "ab.seed"
    assert config.store == folder / "keys.sqlite"
    assert (config.host, config.port, config.metrics_port) == ("127.0.0.1", 8443, None)
    assert config.quantum_link(config.peers[0]) == links.get("lim-metro-10km")


def test_a_link_is_a_preset_or_a_preset_with_changes(folder: Path) -> None:
    def link(given: object) -> Any:
        config = parse(changed(peer__link=given), folder)
        return config.quantum_link(config.peers[0])

    tokyo = links.get("toshiba-tokyo-2010")
    assert link("toshiba-tokyo-2010") == link({"preset": "toshiba-tokyo-2010"}) == tokyo
    nearer = link({"preset": "toshiba-tokyo-2010", "length-km": 20})
    assert nearer == at_length(tokyo, 20)
    assert secret_bits_per_second(nearer) > secret_bits_per_second(tokyo)
    fixed = link({"preset": "toshiba-tokyo-2010", "length-km": 20, "measured-rate": 1000})
    assert secret_bits_per_second(fixed) == pytest.approx(1000, rel=1e-3)
    assert fixed.total_loss_db == pytest.approx(4)
    noisy = link({"preset": "lim-50km", "misalignment": 0.03, "block-size": 1_000_000})
    assert noisy.detector.misalignment == 0.03
    assert expected_block(noisy).qber > expected_block(links.get("lim-50km")).qber + 0.02
    assert link({"preset": "lim-50km", "loss-db": 3}).total_loss_db == 3


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ([], "FILE.yaml: must hold keys such as kme-id: kme-a"),
        (changed(kme_id=None), "kme-id: is missing"),
        (changed(kme_id="a/b"), "kme-id=a/b: String should match pattern"),
        (changed(port=70000), "port=70000: must be less than or equal to 65535"),
        (changed(prot=1), "prot: there is no such key. Did you mean 'port'?"),
        (changed(saes=[]), "saes=[]: List should have at least 1 item"),
        (changed(saes=["alice", "a b"]), "saes[1]=a b: String should match"),
        (changed(saes=["alice", "alice"]), "saes=alice: is there twice"),
        (changed(saes=["kme-b"]), "saes=kme-b: is there twice"),
        (changed(peers=[PEER, PEER]), "peers=kme-b: is there twice"),
        (changed(peer__kme_id="kme-a"), "peers=kme-a: is there twice"),
        (changed(peer__url=None), "peers[0].url: is missing"),
        (changed(peer__url="http://kme-b:9443"), "peers[0].url=http://kme-b:9443: must be https"),
        (changed(peer__url="https://kme-b"), "peers[0].url=https://kme-b: must be https://HOST"),
        (changed(peer__url="https://kme-b:99999"), "peers[0].url"),
        (changed(peer__lnik="gys"), "peers[0].lnik: there is no such key. Did you mean 'link'?"),
        (changed(peer__link="lim-51km"), "link=lim-51km: must be one of"),
        (changed(peer__link={"length-km": 3}), "peers[0].link.preset: is missing"),
        (changed(peer__link={"preset": "gys", "length": 3}), "peers[0].link.length: there is no"),
        (changed(peer__link={"preset": "gys", "efficiency": 2}), "efficiency=2.0: must be above 0"),
        (changed(peer__eve="tap fraction=1"), "attack=tap: must be one of"),
        (changed(peer__eve="denial rounds=1-2"), "eve=denial rounds=1-2: must be attacks on this"),
        (changed(peer__eve="denial links=a-b"), "eve=denial links=a-b: must be attacks on this"),
        (changed(peer__eve="compromise node=a"), "eve=compromise node=a: must be attacks on this"),
        (changed(peer_port=None), "peer-port: is missing"),
        (changed(peers=[]), "peer-port=9443: there are no peers; leave it out"),
        (changed(time_scale=0), "time-scale=0: must be greater than 0"),
        (changed(time_scale=float("inf")), "time-scale=inf: must be a finite number"),
        (changed(keys={"size": 100}), "keys.size=100: must be a multiple of 8 bits"),
        (changed(keys={"size": 32}), "keys.size=32: must lie between min-size and max-size"),
        (changed(keys={"siez": 32}), "keys.siez: there is no such key. Did you mean 'size'?"),
        (changed(pool={"capacity": 1000}), "keys.max-size=1048576: does not fit into"),
        (changed(pool={"abort-qber": 0.6}), "pool.abort-qber=0.6: must be less than"),
        (changed(limits={"burst": 0}), "limits.burst=0: must be greater than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, file: object, said: str) -> None:
    with pytest.raises(RequestError) as problem:
        parse(file, folder)
    assert str(problem.value).startswith(said), problem.value


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    path = folder / "kme.yaml"
    with pytest.raises(RequestError, match="cannot be read"):
        load(path)
    path.write_text("a: [1, 2")
    with pytest.raises(RequestError, match="is no YAML"):
        load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="is no YAML"):
        load(path)


def serve(path: Path) -> int:
    return guarded(lambda: app(["kme", "serve", str(path)], standalone_mode=False))


def test_a_certificate_that_is_not_there_is_a_wrong_request(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "kme.yaml"
    path.write_text(yaml.safe_dump(FILE))
    assert serve(path) == 2
    assert f"deffd: ca={folder}/pki/ca.crt: there is no such file" in capsys.readouterr().err
    (folder / "pki").mkdir()
    (folder / "pki/ca.crt").write_text("no certificate")
    assert serve(path) == 2
    assert f"ca={folder}/pki/ca.crt: cannot be read as PEM" in capsys.readouterr().err
    assert serve(folder / "no.yaml") == 2
    authority = Authority(folder / "pki2")
    authority.issue("kme-b", Role.KME, Validity.days(1))
    pki = {"certificate": "pki2/kme-b.crt", "private-key": "pki2/kme-b.key", "ca": "pki2/ca.crt"}
    path.write_text(yaml.safe_dump({**FILE, **pki}))
    assert serve(path) == 2
    assert "kme-b.crt: its CN must be the kme-id, kme-a" in capsys.readouterr().err
    now = dt.datetime.now(dt.UTC)
    old = Validity(now - dt.timedelta(days=2), now - dt.timedelta(days=1))
    authority.issue("kme-a", Role.KME, old)
    path.write_text(yaml.safe_dump({**FILE, **pki, "certificate": "pki2/kme-a.crt"}))
    assert serve(path) == 2
    assert "certificate=" in capsys.readouterr().err
    pki["private-key"], pki["certificate"] = "pki2/kme-a.key", "pki2/kme-a.crt"
    path.write_text(yaml.safe_dump({**FILE, **pki}))
    assert serve(path) == 2
    assert "kme-a.crt: is valid from" in capsys.readouterr().err
    assert not (folder / "keys.sqlite").exists()
