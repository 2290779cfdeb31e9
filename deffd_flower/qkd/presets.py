"""Links one can name: textbook models, and systems whose measured key rate was published.

A measured link gives the published rate as long as nobody disturbs it. Detectors, settings, block
sizes and most pulse rates are not taken from the publications but are what such systems typically
have; they only decide how long a block takes and how the rate falls when Eve comes. Tests hold
these models to within a factor of ten of the measured rates.
"""

from dataclasses import dataclass, replace

from deffd_flower.qkd.bounds import DecoySettings, Security
from deffd_flower.qkd.link import Detector, QuantumLink, secret_bits_per_second
from deffd_flower.registry import Registry

links: Registry[QuantumLink] = Registry("link")

# Close to the best for blocks of about that size; written down so that a preset needs no optimiser.
TWO_DECOYS_1E6 = DecoySettings((0.427, 0.202, 2e-4), (0.2, 0.552, 0.248), 0.778)
TWO_DECOYS_1E7 = DecoySettings((0.412, 0.219, 2e-4), (0.38, 0.444, 0.176), 0.855)
ONE_DECOY_1E6 = DecoySettings((0.42, 0.146), (0.51, 0.49), 0.78)
ONE_DECOY_1E8 = DecoySettings((0.65, 0.16), (0.83, 0.17), 0.935)
SIGNAL_ONLY = DecoySettings((0.48,), (1.0,))

GATED_INGAAS = Detector(efficiency=0.1, dark_count=6e-7, after_pulse=0.04, misalignment=0.005)
FAST_INGAAS = Detector(efficiency=0.25, dark_count=2e-6, after_pulse=0.04, misalignment=0.015)
GOOD_INGAAS = Detector(efficiency=0.1, dark_count=1e-6, after_pulse=0.01, misalignment=0.01)
COLD_INGAAS = Detector(efficiency=0.15, dark_count=2e-9, after_pulse=0.02, misalignment=0.01)
NANOWIRE = Detector(efficiency=0.6, dark_count=4e-8, misalignment=0.005)
QUIET_NANOWIRE = Detector(efficiency=0.45, dark_count=4e-11, misalignment=0.005)

LIM = QuantumLink(
    GATED_INGAAS,
    length_km=10.0,
    settings=TWO_DECOYS_1E7,
    security=Security(secrecy=1e-15, correctness=1e-15, per_bit=True),
    source="Lim et al., PRA 89, 022307 (2014), fig. 1, block 1e7, at 1 GHz",
)
links.register("lim-metro-10km")(LIM)
links.register("lim-50km")(replace(LIM, length_km=50.0))
links.register("lim-100km")(replace(LIM, length_km=100.0))

links.register("gys")(
    QuantumLink(
        Detector(efficiency=0.045, dark_count=8.5e-7, misalignment=0.033),
        length_km=40.0,
        attenuation=0.21,
        pulse_rate=2e6,
        bound="asymptotic",
        block_size=1_000_000,
        error_correction=1.22,
        settings=SIGNAL_ONLY,
        source="Gobby, Yuan and Shields, APL 84, 3762 (2004), as in Ma et al. (2005)",
    )
)

links.register("li-2023")(
    QuantumLink(
        NANOWIRE,
        length_km=10.0,
        pulse_rate=2.5e9,
        bound="rusca2018",
        block_size=100_000_000,
        settings=ONE_DECOY_1E8,
        measured_rate=115.8e6,
        source="Li et al., Nat. Photonics 17, 416 (2023): 115.8 Mb/s over 10 km",
    )
)

GRUENENFELDER = QuantumLink(
    NANOWIRE,
    length_km=10.0,
    attenuation=0.17,
    pulse_rate=2.5e9,
    bound="rusca2018",
    block_size=100_000_000,
    settings=ONE_DECOY_1E8,
    measured_rate=64e6,
    source="Gruenenfelder et al., Nat. Photonics 17, 422 (2023): 64 Mb/s over 10 km",
)
links.register("gruenenfelder-2023-10km")(GRUENENFELDER)
links.register("gruenenfelder-2023-102km")(
    replace(
        GRUENENFELDER,
        length_km=102.4,
        measured_rate=3.0e6,
        source="Gruenenfelder et al., Nat. Photonics 17, 422 (2023): 3.0 Mb/s over 102.4 km",
    )
)

TOSHIBA = QuantumLink(
    FAST_INGAAS,
    loss_db=2.0,
    block_size=100_000_000,
    settings=TWO_DECOYS_1E7,
    measured_rate=13.72e6,
    source="Yuan et al., J. Lightwave Technol. 36, 3427 (2018): 13.72 Mb/s over 2 dB",
)
links.register("toshiba-2018")(TOSHIBA)
links.register("toshiba-tokyo-2010")(
    replace(
        TOSHIBA,
        length_km=45.0,
        loss_db=14.5,
        block_size=10_000_000,
        measured_rate=304e3,
        source="Tokyo QKD Network 2010, Sasaki et al., Opt. Express 19, 10387 (2011): 304 kb/s "
        "over 45 km of installed fibre, 14.5 dB",
    )
)

links.register("walenta-2014")(
    QuantumLink(
        GATED_INGAAS,
        length_km=25.0,
        pulse_rate=625e6,
        settings=TWO_DECOYS_1E7,
        measured_rate=140e3,
        source="Walenta et al., New J. Phys. 16, 013047 (2014): 140 kb/s over 25 km "
        "(coherent one-way; modelled as BB84)",
    )
)

links.register("korzh-2015")(
    QuantumLink(
        COLD_INGAAS,
        length_km=307.0,
        loss_db=51.9,
        pulse_rate=625e6,
        block_size=1_000_000,
        settings=TWO_DECOYS_1E6,
        measured_rate=3.18,
        source="Korzh et al., Nat. Photonics 9, 163 (2015): 3.18 b/s over 307 km, 51.9 dB "
        "(coherent one-way; modelled as BB84)",
    )
)

links.register("boaron-2018")(
    QuantumLink(
        QUIET_NANOWIRE,
        length_km=405.0,
        attenuation=0.17,
        pulse_rate=2.5e9,
        bound="rusca2018",
        block_size=1_000_000,
        settings=ONE_DECOY_1E6,
        measured_rate=6.5,
        source="Boaron et al., PRL 121, 190502 (2018): 6.5 b/s over 405 km",
    )
)

links.register("trieste")(
    QuantumLink(
        GOOD_INGAAS,
        loss_db=14.0,
        pulse_rate=50e6,
        bound="rusca2018",
        block_size=1_000_000,
        settings=ONE_DECOY_1E6,
        measured_rate=3e3,
        source="Ribezzo et al., Adv. Quantum Technol. 6, 2200061 (2023): over 3 kb/s on the "
        "shortest link of Trieste, Postojna, Ljubljana, Rijeka; 14 dB is an assumption",
    )
)

QUKY = QuantumLink(
    GOOD_INGAAS,
    length_km=110.0,
    loss_db=23.0,
    pulse_rate=50e6,
    bound="rusca2018",
    block_size=1_000_000,
    settings=ONE_DECOY_1E6,
    measured_rate=160.0,
    source="Clason et al., arXiv:2606.06107 (2026): 0.16 kb/s over 110 km, 23 dB, own InGaAs",
)
links.register("quky-ingaas")(QUKY)
links.register("quky-snspd")(
    replace(
        QUKY,
        detector=NANOWIRE,
        measured_rate=4.75e3,
        source="Clason et al., arXiv:2606.06107 (2026): 4.75 kb/s over 110 km, 23 dB, nanowires",
    )
)

BURIED = QuantumLink(
    Detector(efficiency=0.6, dark_count=1e-6, misalignment=0.0607),
    length_km=69.0,
    pulse_rate=2e5,
    bound="asymptotic",
    block_size=100_000,
    settings=DecoySettings((0.1,), (1.0,)),
    measured_rate=22.2,
    source="arXiv:2608.18869 (2026): 22.2 +- 4.7 b/s, QBER 6.1 %, 69 km of buried fibre "
    "(entangled pairs; modelled as BB84)",
)
links.register("buried-69km")(BURIED)
links.register("aerial-70km")(
    replace(
        BURIED,
        length_km=70.0,
        measured_rate=12.7,
        source="arXiv:2608.18869 (2026): 12.7 +- 10.3 b/s, 70 km of aerial fibre. Mean QBER 13.3 % "
        "comes from windy hours without key; calm hours are modelled on the buried fibre",
    )
)

links.register("idq-class")(
    QuantumLink(
        GATED_INGAAS,
        loss_db=12.0,
        pulse_rate=50e6,
        block_size=1_000_000,
        settings=TWO_DECOYS_1E6,
        measured_rate=2e3,
        source="order of magnitude of a commercial system of the ID Quantique Cerberis XG class: "
        "2 kb/s at 12 dB; no data sheet stands behind it",
    )
)


@dataclass(frozen=True)
class LinkSummary:
    """One row of the table of presets."""

    name: str
    length_km: float | None
    loss_db: float
    bits_per_second: float
    measured: bool
    source: str


def preset_table() -> list[LinkSummary]:
    """Return every named link with its undisturbed key rate, the fastest first."""
    rows = [
        LinkSummary(
            name,
            link.length_km,
            link.total_loss_db,
            secret_bits_per_second(link),
            link.measured_rate is not None,
            link.source,
        )
        for name, link in ((name, links.get(name)) for name in links.names())
    ]
    return sorted(rows, key=lambda row: -row.bits_per_second)
