"""A quantum link: its fibre and detectors, what Bob can expect to see, how much key that gives."""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

from deffd_flower.errors import RequestError
from deffd_flower.qkd.bounds import DecoySettings, KeyBlock, Security, bounds


@dataclass(frozen=True)
class Detector:
    """Bob's receiver.

    Args:
        efficiency: Probability that a photon reaching Bob is detected, optics included.
        dark_count: Dark counts per pulse in each of the two detectors.
        after_pulse: Probability that a detection causes another one.
        misalignment: Probability that a photon ends up in the wrong detector.

    Raises:
        RequestError: One of them is no probability.
    """

    efficiency: float
    dark_count: float
    after_pulse: float = 0.0
    misalignment: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.efficiency <= 1:
            raise RequestError("efficiency", self.efficiency, "must be above 0 and at most 1")
        if not 0 <= self.dark_count < 0.5:
            raise RequestError("dark-count", self.dark_count, "must be at least 0 and below 0.5")
        if not 0 <= self.after_pulse < 1:
            raise RequestError("after-pulse", self.after_pulse, "must be at least 0 and below 1")
        if not 0 <= self.misalignment <= 0.5:
            raise RequestError("misalignment", self.misalignment, "must lie between 0 and 0.5")


@dataclass(frozen=True)
class QuantumLink:
    """A decoy-state BB84 link.

    The channel model is that of Ma et al., PRA 72, 012326 (2005), with the after-pulses of
    Lim et al., PRA 89, 022307 (2014).

    Args:
        detector: Bob's receiver.
        length_km: Fibre length; ``None`` where only the loss is known.
        attenuation: Fibre loss in dB/km.
        loss_db: Loss of the whole channel where it is known better than by length.
        pulse_rate: Pulses per second.
        bound: Name of the key-rate bound.
        block_size: Key-basis detections per block.
        error_correction: Bits leaked by error correction, over the Shannon limit.
        security: Tolerated deviation of the final key.
        settings: Intensities and basis choice; ``None`` finds the best.
        measured_rate: Secret bits per second reported for the undisturbed link. Replaces the
            model's, which then only says how the rate falls when the link is disturbed.
        source: Where the numbers come from.

    Raises:
        RequestError: A number is out of range, or neither length nor loss is given.
    """

    detector: Detector
    length_km: float | None = None
    attenuation: float = 0.2
    loss_db: float | None = None
    pulse_rate: float = 1e9
    bound: str = "lim2014"
    block_size: int = 10_000_000
    error_correction: float = 1.16
    security: Security = field(default_factory=Security)
    settings: DecoySettings | None = None
    measured_rate: float | None = None
    source: str = ""
    undisturbed: "QuantumLink | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.length_km is None and self.loss_db is None:
            raise RequestError("length-km", None, "give the length or the loss (loss-db)")
        for key in ("length_km", "attenuation", "loss_db"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < math.inf:
                raise RequestError(key.replace("_", "-"), value, "must be at least 0")
        for key in ("pulse_rate", "block_size", "measured_rate"):
            value = getattr(self, key)
            if value is not None and not 0 < value < math.inf:
                raise RequestError(key.replace("_", "-"), value, "must be above 0")
        if self.error_correction < 1:
            raise RequestError("error-correction", self.error_correction, "must be at least 1")

    @property
    def total_loss_db(self) -> float:
        """Loss between Alice and Bob in dB."""
        if self.loss_db is not None:
            return self.loss_db
        return self.attenuation * (self.length_km or 0.0)

    @property
    def transmittance(self) -> float:
        """Probability that a photon Alice sends is detected."""
        return float(self.detector.efficiency * 10 ** (-self.total_loss_db / 10))

    def gain(self, intensity: float) -> float:
        """Return the probability that a pulse of this mean photon number is detected."""
        return self._click(math.exp(-self.transmittance * intensity)) * self._echo

    def error_gain(self, intensity: float) -> float:
        """Return the probability that such a pulse is detected, and wrongly."""
        return self._wrong_click(math.exp(-self.transmittance * intensity))

    @property
    def single_photon_gain(self) -> float:
        """Probability that a pulse of exactly one photon is detected."""
        return self._click(1 - self.transmittance) * self._echo

    @property
    def single_photon_error_gain(self) -> float:
        """Probability that a pulse of exactly one photon is detected, and wrongly."""
        return self._wrong_click(1 - self.transmittance)

    @property
    def _echo(self) -> float:
        return 1 + self.detector.after_pulse

    def _click(self, dark: float) -> float:
        """Return the probability of a detection, after-pulses aside, if light fails to cause one
        with probability ``dark``."""
        return 1 - (1 - 2 * self.detector.dark_count) * dark

    def _wrong_click(self, dark: float) -> float:
        detector = self.detector
        straight = detector.dark_count + detector.misalignment * (1 - dark)
        return straight + detector.after_pulse * self._click(dark) / 2

    def gains(self, settings: DecoySettings) -> list[float]:
        """Return, per intensity, the probability that it is chosen and detected."""
        pairs = zip(settings.intensities, settings.probabilities, strict=True)
        return [p * self.gain(mu) for mu, p in pairs]

    def error_gains(self, settings: DecoySettings) -> list[float]:
        """Return, per intensity, the probability that it is chosen and detected wrongly."""
        pairs = zip(settings.intensities, settings.probabilities, strict=True)
        return [p * self.error_gain(mu) for mu, p in pairs]

    def disturbed(
        self, intercepted: float = 0.0, extra_loss_db: float = 0.0, extra_qber: float = 0.0
    ) -> "QuantumLink":
        """Return the link as Alice and Bob find it when somebody interferes.

        They know nothing of it, so they keep the settings that suit the undisturbed link.

        Args:
            intercepted: Share of pulses that Eve measures in a random basis and sends on. Half
                the time her basis is wrong and Bob's bit is random: an error of 1/4 on each.
            extra_loss_db: Loss on top of the fibre's.
            extra_qber: Probability that a bit flips on the way, whatever the cause.

        Raises:
            RequestError: A number is out of range.
        """
        if not 0 <= intercepted <= 1:
            raise RequestError("intercepted", intercepted, "must lie between 0 and 1")
        if not 0 <= extra_qber <= 0.5:
            raise RequestError("extra-qber", extra_qber, "must lie between 0 and 0.5")
        if not 0 <= extra_loss_db < math.inf:
            raise RequestError("extra-loss-db", extra_loss_db, "must be at least 0")
        calm = replace(self, settings=expected_block(self).settings)
        flips = either_but_not_both(intercepted / 4, extra_qber)
        misalignment = either_but_not_both(self.detector.misalignment, flips)
        return replace(
            calm,
            detector=replace(self.detector, misalignment=misalignment),
            loss_db=self.total_loss_db + extra_loss_db,
            undisturbed=self.undisturbed or calm,
        )


def either_but_not_both(p: float, q: float) -> float:
    """Return the probability that exactly one of two independent flips happens."""
    return p + q - 2 * p * q


@lru_cache(maxsize=4096)
def expected_block(link: QuantumLink) -> KeyBlock:
    """Return what the link's next block will cost and give.

    Raises:
        RequestError: The bound is unknown, or cannot work with this link.
    """
    block = bounds.get(link.bound)(link)
    if link.measured_rate is None:
        return block
    calm = block if link.undisturbed is None else bounds.get(link.bound)(link.undisturbed)
    if calm.secret <= 0:
        advice = f"the model finds no key on this link, so {link.measured_rate} bit/s cannot scale"
        raise RequestError("measured-rate", link.measured_rate, advice)
    calm_bits = link.measured_rate / link.pulse_rate * calm.pulses
    return replace(block, secret=math.floor(calm_bits * block.secret / calm.secret))


def secret_key_length(link: QuantumLink) -> int:
    """Return the secret bits one block gives; 0 when it has to be thrown away."""
    return int(expected_block(link).secret)


def secret_key_rate(link: QuantumLink) -> float:
    """Return the secret bits per pulse."""
    block = expected_block(link)
    return block.secret / block.pulses


def secret_bits_per_second(link: QuantumLink) -> float:
    """Return the secret bits per second."""
    return secret_key_rate(link) * link.pulse_rate


def block_seconds(link: QuantumLink) -> float:
    """Return the seconds it takes to fill one block."""
    return expected_block(link).pulses / link.pulse_rate


def qber(link: QuantumLink) -> float:
    """Return the share of key-basis detections that Alice and Bob will find wrong."""
    return expected_block(link).qber
