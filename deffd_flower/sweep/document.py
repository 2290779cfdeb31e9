"""The schema of a sweep file."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from deffd_flower.config import FIELDS, Count, CountOrZero, Value, must_be
from deffd_flower.errors import RequestError, did_you_mean
from deffd_flower.results.metrics import RATIOS
from deffd_flower.results.table import ACCURACY_KEYS, COST_KEYS, TROUBLES
from deffd_flower.sweep.source import Source

EVALUATED = (
    *(key for key in ACCURACY_KEYS if not key.startswith("best_")),
    *("global_accuracy_std", "consensus_distance"),
    *("loss_train", "loss_ce", "loss_kl", "loss_feature", "loss_anchor", "gamma"),
)
"""Numbers of an evaluated round."""

METRICS = (
    *EVALUATED,
    *("best_global_accuracy", "best_round", *COST_KEYS, *TROUBLES),
    *("waits", "relayed", "compromised", "failures", "wall_s", "compute_s"),
    *RATIOS,
)
"""Numbers of a finished run's ``summary.json``, and ratios of two of them."""


def _scalar(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, text, true or false")
    return value


def _kind(axis: object) -> str:
    if isinstance(axis, list):
        return "values"
    return "range" if isinstance(axis, dict) else "single"


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _counted(seeds: object) -> object:
    """Turn a number of seeds into seeds: 0, 1, 2, ..."""
    if not isinstance(seeds, int) or isinstance(seeds, bool):
        return seeds
    if seeds < 1:
        raise ValueError("must be at least 1, or a list of seeds")
    return list(range(seeds))


def _one_of(names: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            near = did_you_mean(name, list(names))
            raise ValueError(f"must be one of {', '.join(names)}.{near}")
        return name

    return AfterValidator(check)


Scalar = Annotated[Value, PlainValidator(_scalar)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=lambda name: name.replace("_", "-")
    )


class Range(_Part):
    """Values at equal distances, or at equal ratios if ``log``, both ends included."""

    start: Number = Field(alias="from")
    end: Number = Field(alias="to")
    steps: int = Field(ge=2)
    log: bool = False

    @model_validator(mode="after")
    def _has_ratio(self) -> Self:
        if self.log and min(self.start, self.end) <= 0:
            raise ValueError("from and to must be above 0 for log: true")
        return self

    def values(self) -> list[Value]:
        """Return the values, to six digits: names and tables show them in full."""
        shares = [step / (self.steps - 1) for step in range(self.steps)]
        if self.log:
            exact = [self.start * (self.end / self.start) ** share for share in shares]
        else:
            exact = [self.start + (self.end - self.start) * share for share in shares]
        rounded = [float(f"{value:.6g}") for value in exact]
        return [int(value) if value.is_integer() else value for value in rounded]


Axis = Annotated[
    Annotated[list[Scalar], Field(min_length=1), Tag("values")]
    | Annotated[Range, Tag("range")]
    | Annotated[Scalar, Tag("single")],
    Discriminator(_kind),
]


def values_of(axis: Axis) -> list[Value]:
    """Return the values of a list, a range or a single value."""
    if isinstance(axis, Range):
        return axis.values()
    return axis if isinstance(axis, list) else [axis]


class Block(_Part):
    """Keys with their values, every combination of which is a cell.

    Attributes:
        zipped: ``zip:``, groups of keys that vary together.
        cells: Blocks one after the other: their cells vary as one key would.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Axis] = Field(init=False)

    zipped: Annotated[list[dict[str, Axis]], BeforeValidator(_listed)] = Field([], alias="zip")
    cells: list["Block"] = Field([])

    @field_validator("zipped")
    @classmethod
    def _equally_long(cls, groups: list[dict[str, Axis]]) -> list[dict[str, Axis]]:
        for group in groups:
            lengths = {key: len(values_of(axis)) for key, axis in group.items()}
            if len(set(lengths.values())) > 1:
                told = ", ".join(f"{key} {length}" for key, length in lengths.items())
                raise ValueError(f"needs as many values of each key, but there are: {told}")
        return groups

    @property
    def axes(self) -> Mapping[str, Axis]:
        """The keys that vary independently."""
        return self.__pydantic_extra__ or {}


class Stop(_Part):
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934)."""

    metric: Annotated[str, _one_of(EVALUATED)] = "global_accuracy"
    mode: Literal["max", "min"] = "max"
    grace_rounds: Count
    reduction_factor: float = Field(3.0, gt=1, allow_inf_nan=False)


Base = Annotated[
    Annotated[dict[str, Scalar], Tag("keys")] | Annotated[str, Tag("file")],
    Discriminator(lambda entry: "keys" if isinstance(entry, dict) else "file"),
]


class Document(_Part):
    """A sweep file.

    Attributes:
        title: What the sweep is called; empty: the file's name.
        description: What it is for.
        base: Keys of all trials: mappings and names of other YAML files; later ones win.
        grid: What varies.
        seeds: Seeds of each cell; a number counts them from 0.
        metrics: What tables show of the trials, the most important first.
        reference: Values of some keys, by which to find the cell that others are compared with.
        stop: Ends trials early that fall behind.
    """

    title: str = ""
    description: str = ""
    base: Annotated[list[Base], BeforeValidator(_listed)] = Field([])
    grid: Block = Field(default_factory=lambda: Block.model_validate({}))
    seeds: Annotated[list[CountOrZero], Field(min_length=1), BeforeValidator(_counted)] | None = (
        Field(None)
    )
    metrics: list[Annotated[str, _one_of(METRICS)]] = Field(
        ["global_accuracy", "local_accuracy"], min_length=1
    )
    reference: dict[str, Scalar] = Field({})
    stop: Stop | None = None


def read_document(source: Source) -> Document:
    """Check a sweep file against the schema.

    Raises:
        RequestError: The first thing that is wrong, with its place in the file.
    """
    try:
        return Document.model_validate(source.content)
    except ValidationError as problem:
        raise _as_request_error(problem.errors()[0], source) from None


def _as_request_error(error: Any, source: Source) -> RequestError:
    place, last = source.place(error["loc"]), str(error["loc"][-1])
    if error["type"] == "extra_forbidden":
        return RequestError(place, None, f"there is no such key.{_where_else(error['loc'])}")
    if error["type"] == "missing":
        return RequestError(place, None, f"needs {last}")
    value = error["input"] if isinstance(error["input"], bool | int | float | str) else None
    return RequestError(place, value, must_be(error))


def _where_else(location: tuple[str | int, ...]) -> str:
    key = str(location[-1])
    if key in FIELDS:
        return " It is a key of runs; move it below base: or grid:"
    known = [str(field.alias) for field in Document.model_fields.values()]
    return did_you_mean(key, known) or f" The keys are: {', '.join(known)}."
