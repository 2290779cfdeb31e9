"""What the file of a KME may say: one typed schema."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from deffd_flower.errors import RequestError
from deffd_flower.kme.certificates import NAME
from deffd_flower.qkd.attacks import LinkAttack
from deffd_flower.qkd.eve import Eve, parse_attacks
from deffd_flower.qkd.link import Detector, QuantumLink, expected_block
from deffd_flower.qkd.network import at_length
from deffd_flower.qkd.pool import PoolSettings
from deffd_flower.qkd.presets import links

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
KmeId = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
#: Anything that fits the CN of a certificate and stands in a URL.
SaeId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\s/]+$")]


class Section(BaseModel):
    """Keys that belong together; users write kebab-case."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-")
    )


class LinkConfig(Section):
    """A link preset with some of its numbers changed; see `QuantumLink` and `Detector`."""

    preset: str = Field(description="name of a link")
    length_km: SecondsOrZero | None = Field(None, description="of the fibre; rates follow it")
    attenuation: SecondsOrZero | None = Field(None, description="dB per km")
    loss_db: SecondsOrZero | None = Field(None, description="of the whole fibre, instead of length")
    pulse_rate: Seconds | None = Field(None, description="pulses per second")
    bound: str | None = Field(None, description="key-rate bound")
    block_size: Count | None = Field(None, description="key-basis detections per block")
    measured_rate: Seconds | None = Field(None, description="bits per second when undisturbed")
    efficiency: float | None = Field(None, description="of the detector")
    dark_count: float | None = Field(None, description="per pulse and detector")
    after_pulse: float | None = Field(None, description="probability after a detection")
    misalignment: float | None = Field(None, description="probability of the wrong detector")

    def quantum_link(self) -> QuantumLink:
        """Return the link.

        Raises:
            RequestError: There is no such preset, or a number is out of range.
        """
        given = self.model_dump(exclude={"preset"}, exclude_none=True)
        link = links.get(self.preset)
        detector = {key: given.pop(key) for key in Detector.__annotations__ if key in given}
        if "length_km" in given and "measured_rate" not in given:
            link = at_length(link, given.pop("length_km"))
        elif "length_km" in given and "loss_db" not in given:
            given["loss_db"] = None
        return replace(link, detector=replace(link.detector, **detector), **given)


def _as_section(given: object) -> object:
    return {"preset": given} if isinstance(given, str) else given


class PeerConfig(Section):
    """Another KME, and the quantum link to it."""

    kme_id: KmeId = Field(description="its kme-id")
    url: str = Field(description="of its channel for KMEs: https://HOST:PEER-PORT")
    channel: Path = Field(description="seed file that stands for the quantum channel")
    link: Annotated[LinkConfig, BeforeValidator(_as_section)] = Field(
        "lim-metro-10km", description="a preset, alone or with changes", validate_default=True
    )
    eve: str = Field("", description="attacks on this link, such as 'loss decibel=3 seconds=60-'")


class KeyConfig(Section):
    """What SAEs may ask for; see the Status data format of ETSI GS QKD 014, table 9."""

    size: Count = Field(256, description="key_size: bits of a key if no size is asked for")
    min_size: Count = Field(64, description="min_key_size: bits")
    max_size: Count = Field(2**20, description="max_key_size: bits")
    max_per_request: Count = Field(128, description="max_key_per_request")
    max_sae_ids: int = Field(8, ge=0, description="max_SAE_ID_count: additional slave SAEs")
    waiting_s: Seconds = Field(86_400.0, description="seconds until a key nobody fetches is burnt")


class PoolConfig(Section):
    """How the key of each link is kept; seconds are simulated."""

    capacity: Count = Field(2**28, description="bits a link can store; a full one makes no more")
    max_age_s: SecondsOrZero = Field(0.0, description="seconds until key expires; 0: never")
    authentication_bits: int = Field(256, ge=0, description="key that each block uses itself")
    head_start_s: SecondsOrZero = Field(60.0, description="seconds a new link has worked before")
    abort_qber: float = Field(0.11, gt=0, le=0.5, description="a block above is thrown away")

    def settings(self) -> PoolSettings:
        """Return the settings as `deffd_flower.qkd` has them."""
        return PoolSettings(
            capacity=self.capacity,
            max_age_s=self.max_age_s or None,
            authentication_bits=self.authentication_bits,
            head_start_s=self.head_start_s,
            abort_qber=self.abort_qber,
        )


class LimitConfig(Section):
    """What keeps one SAE, or a stranger, from using the KME up."""

    requests_per_second: Seconds = Field(100.0, description="of one SAE, on average")
    burst: Count = Field(200, description="requests of one SAE at once")
    body_bytes: Count = Field(65_536, description="longest request of an SAE")
    body_s: Seconds = Field(10.0, description="seconds a request's body may take to arrive")
    idle_s: Seconds = Field(60.0, description="seconds a connection may wait for a request's head")
    handshake_s: Seconds = Field(10.0, description="seconds a TLS handshake may take")
    connections: Count = Field(1_000, description="open connections of each channel")
    delivery_s: Seconds = Field(5.0, description="seconds a key may take to reach other KMEs")
    shutdown_s: Seconds = Field(10.0, description="seconds open requests have when stopped")


class KmeConfig(Section):
    """A key management entity."""

    kme_id: KmeId = Field(description="unique in the network; CN of its certificate")
    host: str = Field("127.0.0.1", description="address both channels listen on")
    port: Port = Field(8443, description="of the API for SAEs; 0: any")
    peer_port: Port | None = Field(None, description="of the channel for KMEs, if it has peers")
    metrics_port: Port | None = Field(None, description="on 127.0.0.1; left out: no metrics")
    certificate: Path = Field(description="PEM file; CN and a DNS name in it are the kme-id")
    private_key: Path = Field(description="PEM file")
    ca: Path = Field(description="PEM file: the authority of all SAEs' and KMEs' certificates")
    store: Path = Field(description="SQLite file with the keys")
    saes: list[SaeId] = Field(min_length=1, description="SAEs of this site, by the CN they show")
    peers: list[PeerConfig] = Field([], description="KMEs with a quantum link to this one")
    time_scale: Seconds = Field(1.0, description="simulated seconds of QKD per second")
    heartbeat_s: Seconds = Field(1.0, description="seconds between greetings of two KMEs")
    seed: int = Field(0, ge=0, description="of attacks that come and go at random")
    keys: KeyConfig = Field({}, description="what SAEs may ask for", validate_default=True)
    pool: PoolConfig = Field({}, description="how key of links is kept", validate_default=True)
    limits: LimitConfig = Field({}, description="of requests and time", validate_default=True)

    def quantum_link(self, peer: PeerConfig) -> QuantumLink:
        """Return the quantum link to a peer.

        Raises:
            RequestError: There is no such link, or it can give no key at all.
        """
        link = peer.link.quantum_link()
        expected_block(link)
        return link

    def eve(self, peer: PeerConfig) -> Eve:
        """Return what Eve does to the link to a peer.

        Raises:
            RequestError: The attack is none, or none on a link in its own time.
        """
        schedule = parse_attacks(peer.eve)
        for attack in schedule:
            if not isinstance(attack, LinkAttack) or attack.links or attack.window.unit == "rounds":
                advice = "must be attacks on this link (no compromise, no links=) by seconds="
                raise RequestError("eve", peer.eve, advice)
        return Eve(schedule, self.seed)
