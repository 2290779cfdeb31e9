"""One typed schema for `deffd run`, YAML files, `flwr run -c` and sweeps."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deffd_flower.cast import Cast, cast_of
from deffd_flower.errors import RequestError, did_you_mean

Value = bool | int | float | str

Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = CountOrZero | Literal["auto"]


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class RunConfig(BaseModel):
    """Every key of a run. Defaults are the paper's protocol (README, "The paper").

    Attributes are the keys with underscores; users write kebab-case.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_kebab)

    strategy: str = Field("def-fd", description="who keeps what: def-fd, def-kt, hand-off, ...")
    rounds: Count = Field(20, description="communication rounds")
    clients: int = Field(10, ge=2, description="clients in the federation")
    seed: CountOrZero = Field(0, description="every random draw of the run follows from it")
    partition_seed: Seed = Field("auto", description="of who holds which samples; auto: seed")
    init_seed: Seed = Field("auto", description="of the initial weights; auto: seed")
    pairing_seed: Seed = Field("auto", description="of who writes to whom; auto: seed")

    dataset: str = Field("fashion-mnist", description="fashion-mnist, mnist, cifar10, ...")
    data_dir: str = Field("", description="folder with the data set's files; empty: look around")
    partition: str = Field("classes", description="classes, dirichlet, iid, or a partitioner")
    partition_options: str = Field("", description="of a flwr-datasets partitioner: 'a=1 b=2'")
    classes_per_client: Count = Field(8, description="of partition=classes")
    class_alpha: Weight = Field(0.5, description="Dirichlet concentration; 0: equal parts")
    samples_per_client: CountOrZero | Literal["auto"] = Field(
        "auto", description="train + held out; 0: everything; auto: 600, everything of digits"
    )
    local_test_fraction: float = Field(
        0.2, gt=0, lt=1, description="part of a client's samples that is held out"
    )

    model: str = Field(
        "cnn",
        description="cnn, defkt-cnn, mlp, resnet18, or package.module:Class; several: cnn*2,mlp",
    )
    common_init: bool = Field(True, description="all clients start from the same weights")
    local_epochs: Count = Field(5, description="M: epochs a sender trains before it sends")
    fusion_epochs: CountOrZero = Field(1, description="E: epochs a receiver fuses for")
    batch_size: Count = Field(32, description="of training and fusion")
    lr: Positive = Field(0.01, description="learning rate of SGD")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: lr falls over the rounds, almost to zero in the last"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of SGD")
    calibrate: str = Field(
        "none", description="cross-entropy that knows which classes a client has few samples of"
    )
    fedrs_alpha: Fraction = Field(0.5, description="what fedrs scales absent classes' logits by")
    fedlc_tau: Positive = Field(1.0, description="size of the margin of fedlc")

    ce_weight: Weight = Field(1.0, description="weight of the cross-entropy while fusing")
    kd_weight: Weight = Field(1.0, description="weight of the logit distillation")
    kd_loss: str = Field("kl", description="how predictions are compared")
    dkd_beta: Weight = Field(8.0, description="weight of the classes but the true one, in dkd")
    teacher_weight: Literal["none", "presence", "entropy"] = Field(
        "none", description="trust a teacher where its owner has the class, or where it is sure"
    )
    anchor: Weight = Field(
        0.0, description="weight of KL between the kept model and the received one as it came"
    )
    temperature: Positive = Field(1.0, description="softens the logits; the term scales by T^2")
    feature_loss: str = Field("l2", description="how feature maps are compared")
    gamma: Weight | Literal["auto"] = Field(
        0.01, description="weight of the feature-map distillation; auto: by gamma-share"
    )
    gamma_share: Positive = Field(
        1.0, description="of gamma=auto: feature term over cross-entropy on the first batches"
    )
    feature_layers: str = Field("convolutions", description="or activations, or module names")
    receiver_keeps: Literal["received", "own", "average"] = Field(
        "received",
        description="which model is the receiver's after fusion; the own if models differ",
    )
    fusion_update: Literal["simultaneous", "alternating"] = Field(
        "simultaneous", description="both predictions first, or one model after the other"
    )
    teacher: Literal["mutual", "frozen"] = Field(
        "mutual", description="both models learn, or the one that is not kept stays as it is"
    )
    average_epochs: CountOrZero = Field(0, description="epochs after averaging: full-avg, combo")
    segments: Count = Field(10, description="parts a model is cut into by combo")
    segment_peers: Count = Field(1, description="peers each segment is pulled from by combo")

    topology: str = Field("complete", description="who may write to whom, or an edge list's path")
    topology_degree: Count = Field(4, description="of random-regular and small-world")
    topology_probability: Fraction = Field(
        0.3, description="rewiring of small-world, edges of erdos-renyi"
    )
    pairs: CountOrZero = Field(0, description="Q: models sent per round; 0: half the clients")
    partner: str = Field("random", description="which neighbour a sender writes to")

    suite: str = Field("aes", description="how models are sealed: aes, otp, hybrid, pqc, none")
    min_suite: str = Field("", description="weakest suite a client seals or opens; empty: suite")
    key_source: Literal["embedded", "etsi014"] = Field(
        "embedded", description="where clients get QKD keys: simulated, or from key managers"
    )
    link: str = Field("lim-metro-10km", description="QKD system on every link: a preset")
    qkd_network: str = Field("direct", description="direct, kreonet, metro-ring, or a YAML file")
    on_starved: Literal["wait", "repick", "skip", "degrade"] = Field(
        "wait", description="what happens to a model for which there is too little key"
    )
    max_wait_s: Weight = Field(
        86_400.0, description="seconds a model waits for key; real ones with etsi014"
    )
    round_compute_s: Weight = Field(10.0, description="simulated seconds of computing per round")
    transfer_mbps: Positive = Field(100.0, description="simulated megabits per second of a client")
    pool_capacity: CountOrZero = Field(0, description="bits a link can store; 0: no limit")
    key_max_age_s: Weight = Field(0.0, description="simulated seconds until key expires; 0: never")
    authentication_bits: CountOrZero = Field(256, description="key each QKD block uses itself")
    head_start_s: Weight = Field(
        60.0, description="simulated seconds of QKD before the first round"
    )
    abort_qber: float = Field(0.11, gt=0, le=0.5, description="a block above is thrown away")
    eve: str = Field("", description="attacks, such as 'intercept fraction=0.4 rounds=5-'")
    rekey_messages: Count = Field(1, description="models sealed under one key: aes, hybrid")
    rekey_bytes: Count = Field(2**36, description="bytes sealed under one key")
    rekey_seconds: Positive = Field(
        3600.0, description="seconds a key is used for; real ones with etsi014"
    )

    eval_every: Count = Field(1, description="rounds between evaluations; the last is evaluated")
    final_evaluations: Count = Field(
        1, description="last evaluations whose mean is the run's final value"
    )
    evaluate_on: Literal["test", "validation"] = Field(
        "test", description="what Global is counted on; choose hyper-parameters on validation"
    )
    test_samples: CountOrZero = Field(0, description="global test images per client; 0: all")
    validation_samples: Count = Field(
        10_000, description="training images no client holds, at most, for evaluate-on=validation"
    )
    consensus_distance: bool = Field(
        False, description="clients tell the server 64 numbers of their weights, to see them agree"
    )
    share_label_counts: bool | Literal["auto"] = Field(
        "auto",
        description="clients tell the server their label counts; auto: not with key-source=etsi014",
    )
    device: str = Field("cpu", description="cpu, cuda or cuda:N")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="of the computing; weights are float32 either way"
    )
    client_state: Literal["auto", "message", "disk"] = Field(
        "auto", description="where a client's model waits; auto: on disk above 4 MB"
    )
    workers: CountOrZero = Field(
        0, description="processes of deffd run; 0: one for each core, or one for a GPU"
    )
    batched_clients: Count | Literal["auto"] = Field(
        "auto", description="clients of deffd run that train in one go; auto: one"
    )
    message_timeout: Positive = Field(3600.0, description="seconds to wait for a phase's replies")
    out_dir: str = Field("", description="run directory; empty: a new one")
    plugins: str = Field("", description="modules to import first, with strategies of your own")

    @property
    def cast(self) -> Cast:
        """Who has which model."""
        return cast_of(self.model)

    @property
    def label_counts_shared(self) -> bool:
        """Whether the server learns how many samples of each class a client has.

        With real key managers only if somebody says so; in a simulation it is no secret.
        """
        return label_counts_shared(self.share_label_counts, self.key_source)

    @property
    def pairs_per_round(self) -> int:
        """Q, with 0 resolved to half of the clients."""
        return self.pairs or self.clients // 2

    @property
    def clients_at_once(self) -> int:
        """How many clients may train together: one, until a GPU is measured to do better."""
        return 1 if self.batched_clients == "auto" else self.batched_clients

    @property
    def evaluations(self) -> int:
        """How often the run is evaluated: every ``eval-every`` rounds, and after the last."""
        return -(-self.rounds // self.eval_every)

    def seed_of(self, draws: Literal["partition", "init", "pairing"]) -> int:
        """Return the seed that some draws follow: their own key, or the run's ``seed``."""
        seeds = {
            "partition": self.partition_seed,
            "init": self.init_seed,
            "pairing": self.pairing_seed,
        }
        own = seeds[draws]
        return self.seed if own == "auto" else own

    def in_round(self, server_round: int) -> "RunConfig":
        """Return the keys as they hold in a round: with ``lr-schedule``, the learning rate falls.

        In round t of T, cosine is lr (1 + cos(pi (t - 1) / T)) / 2: all of lr in the first round,
        above zero in the last. Source: Loshchilov and Hutter 2017 (ICLR, "SGDR"), without restarts.
        """
        if self.lr_schedule == "constant":
            return self
        share = (1 + math.cos(math.pi * (server_round - 1) / self.rounds)) / 2
        return self.model_copy(update={"lr": self.lr * share})

    def values(self) -> dict[str, Value]:
        """Return every key (kebab-case) with its value, fit for Flower's run config."""
        return self.model_dump(by_alias=True)

    def replace(self, **changes: Value) -> "RunConfig":
        """Return a copy with some attributes changed, checked anew."""
        return parse({**self.values(), **{_kebab(key): value for key, value in changes.items()}})


def label_counts_shared(asked: object, key_source: object) -> bool:
    """Return what ``share-label-counts`` comes to, by its value and that of ``key-source``."""
    return key_source == "embedded" if asked == "auto" else bool(asked)


FIELDS = {_kebab(name): field for name, field in RunConfig.model_fields.items()}
DEFAULTS: dict[str, Value] = {key: field.default for key, field in FIELDS.items()}
FLOWER_SPELLINGS = {"num-server-rounds": "rounds", "num-supernodes": "clients"}


def parse(request: Mapping[str, object]) -> RunConfig:
    """Check a request and return it as a typed config.

    Args:
        request: Kebab-case keys with values; numbers may come as text.

    Raises:
        RequestError: The first key that is wrong, with what is allowed.
    """
    request = _own_spelling(request)
    try:
        return RunConfig.model_validate(request)
    except ValidationError as problem:
        # Union members report one error each; the first names the key all the same.
        raise _as_request_error(problem.errors()[0], request) from None


def _own_spelling(request: Mapping[str, object]) -> dict[str, object]:
    spelled = dict(request)
    for theirs, ours in FLOWER_SPELLINGS.items():
        if theirs in spelled and ours in spelled:
            raise RequestError(theirs, spelled[theirs], f"is another name of {ours}; give one")
        if theirs in spelled:
            spelled[ours] = spelled.pop(theirs)
    return spelled


_MUST_BE = {
    "bool_parsing": "must be true or false",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "string_type": "must be text",
}


def must_be(error: Any) -> str:
    """Return in our words what a value must be, by one of pydantic's error descriptions."""
    if "error" in error.get("ctx", {}):
        return str(error["ctx"]["error"])
    template = _MUST_BE.get(error["type"], str(error["msg"]))
    return template.format(**error.get("ctx", {}))


def _as_request_error(error: Any, request: Mapping[str, object]) -> RequestError:
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return _unknown_key(key)
    advice = must_be(error)
    if "auto" in str(FIELDS[key].annotation) and "auto" not in advice:
        advice += ", or auto"
    return RequestError(key, request[key], advice)


def _unknown_key(key: str) -> RequestError:
    advice = (
        did_you_mean(key, [*FIELDS, *FLOWER_SPELLINGS]) or f" The keys are: {', '.join(FIELDS)}."
    )
    return RequestError(key, None, f"there is no such key.{advice}")
