"""The named links give the rates they cite."""

import subprocess
import sys
from dataclasses import replace

import pytest

from deffd_flower.errors import RequestError
from deffd_flower.qkd.link import block_seconds, qber, secret_bits_per_second, secret_key_rate
from deffd_flower.qkd.presets import links, preset_table

MEASURED = {
    "li-2023": (115.8e6, 10, 2.0),
    "gruenenfelder-2023-10km": (64e6, 10, 1.7),
    "gruenenfelder-2023-102km": (3.0e6, 102.4, 17.408),
    "toshiba-2018": (13.72e6, None, 2.0),
    "toshiba-tokyo-2010": (304e3, 45, 14.5),
    "walenta-2014": (140e3, 25, 5.0),
    "trieste": (3e3, None, 14.0),
    "quky-ingaas": (160, 110, 23.0),
    "quky-snspd": (4750, 110, 23.0),
    "aerial-70km": (12.7, 70, 14.0),
    "buried-69km": (22.2, 69, 13.8),
    "korzh-2015": (3.18, 307, 51.9),
    "boaron-2018": (6.5, 405, 68.85),
    "idq-class": (2e3, None, 12.0),
}
MODELLED = {
    "gys": 2e6 * 3.6308e-4,
    "lim-metro-10km": 1e9 * 3.33e-3,
    "lim-50km": 1e9 * 5.139e-4,
    "lim-100km": 1e9 * 4.766e-5,
}


def test_every_named_link_is_either_measured_or_modelled() -> None:
    assert set(links.names()) == set(MEASURED) | set(MODELLED)
    for name in links.names():
        link = links.get(name)
        assert (link.measured_rate is not None) == (name in MEASURED)
        assert link.source


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_a_measured_link_gives_the_published_rate(name: str) -> None:
    rate, length_km, loss_db = MEASURED[name]
    link = links.get(name)
    assert secret_bits_per_second(link) == pytest.approx(rate, rel=1e-3)
    assert link.length_km == length_km
    assert link.total_loss_db == pytest.approx(loss_db)


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_the_model_behind_a_measured_link_is_within_a_factor_of_ten(name: str) -> None:
    link = links.get(name)
    modelled = secret_bits_per_second(replace(link, measured_rate=None))
    assert 0.1 < modelled / MEASURED[name][0] < 10
    # A block comes often enough to feed rounds, and rarely enough to be worth simulating.
    assert 0.1 < block_seconds(link) < 86_400


@pytest.mark.parametrize("name", sorted(MODELLED))
def test_a_modelled_link_gives_the_rate_of_its_paper(name: str) -> None:
    assert secret_bits_per_second(links.get(name)) == pytest.approx(MODELLED[name], rel=2e-3)


@pytest.mark.parametrize("name", ["lim-metro-10km", "lim-50km", "lim-100km"])
def test_written_down_settings_are_as_good_as_the_best(name: str) -> None:
    link = links.get(name)
    best = secret_key_rate(replace(link, settings=None))
    assert 0.999 * best < secret_key_rate(link) <= best * 1.00001


def test_field_error_rate_of_the_buried_fibre() -> None:
    assert qber(links.get("buried-69km")) == pytest.approx(0.061, abs=5e-4)


def test_the_table_lists_every_link_fastest_first() -> None:
    table = preset_table()
    assert sorted(row.name for row in table) == links.names()
    rates = [row.bits_per_second for row in table]
    assert rates == sorted(rates, reverse=True)
    tokyo = next(row for row in table if row.name == "toshiba-tokyo-2010")
    assert (tokyo.length_km, tokyo.loss_db, tokyo.measured) == (45, 14.5, True)
    assert "Opt. Express 19, 10387" in tokyo.source


def test_an_unknown_link_is_refused() -> None:
    with pytest.raises(RequestError, match=r"link=lim-50: .*Did you mean 'lim-50km'"):
        links.get("lim-50")


def test_named_links_need_neither_optimiser_nor_tno() -> None:
    program = (
        "import sys; from deffd_flower.qkd.presets import preset_table; preset_table();"
        "print({'scipy', 'tno', 'torch', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"
