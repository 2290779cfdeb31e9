"""Who of the clients are a round's partners: the values of ``partner``.

A rule returns disjoint pairs of neighbours, at most Q. It may go by anything in `Knowledge`, and by
nothing else, so that equal keys and seed give equal pairs in every engine.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from deffd_flower.config import RunConfig
from deffd_flower.errors import DeffdError, RequestError
from deffd_flower.registry import Registry
from deffd_flower.strategy.complement import complement
from deffd_flower.strategy.knowledge import Knowledge, Pair

Choice = Callable[[Knowledge], list[Pair]]
#: Marks a sender's possible receivers; the highest mark is chosen.
Score = Callable[[int, Sequence[int]], Sequence[float]]


@dataclass(frozen=True)
class PartnerRule:
    """One way to choose partners.

    Attributes:
        choose: Returns the (sender, receiver) of each pair.
        reveals: What the server learns for it that it would not know otherwise, in sentences.
        nominates: Clients that keep their label counts to themselves tell the server whom of the
            peers they have heard from they prefer.
        takes_key: It goes by the key that links hold.
    """

    choose: Choice
    reveals: str
    nominates: bool = False
    takes_key: bool = False


partners: Registry[PartnerRule] = Registry("partner")


def partner_rule(
    reveals: str, nominates: bool = False, takes_key: bool = False
) -> Callable[[Choice], PartnerRule]:
    """Return a decorator that makes a function a rule; see `PartnerRule`."""
    return lambda choose: PartnerRule(choose, reveals, nominates, takes_key)


def partner_of(config: RunConfig) -> PartnerRule:
    """Return the rule of a run.

    Raises:
        RequestError: There is none of that name, or it does not say what it reveals.
    """
    rule = partners.get(config.partner)
    if not isinstance(rule, PartnerRule):
        advice = 'must say what it reveals to the server: decorate it with @partner_rule("...")'
        raise RequestError("partner", config.partner, advice)
    return rule


def nominates(config: RunConfig) -> bool:
    """Say whether clients tell each other which classes they have, and the server whom they prefer.

    Where the server knows their label counts, there is no need for it.
    """
    return partner_of(config).nominates and not config.label_counts_shared


def tells_classes(config: RunConfig) -> bool:
    """Say whether a sender's package says which classes it has."""
    return config.teacher_weight == "presence" or nominates(config)


def drawn(knowledge: Knowledge) -> list[Pair]:
    """Return the pairs of a round by the run's rule.

    Raises:
        DeffdError: They are too many, not disjoint, or no neighbours.
    """
    config = knowledge.config
    pairs = [(int(one), int(other)) for one, other in partner_of(config).choose(knowledge)]
    disjoint = len({client for pair in pairs for client in pair}) == 2 * len(pairs)
    allowed = all(knowledge.joined(*pair) for pair in pairs)
    if not disjoint or not allowed or len(pairs) > config.pairs_per_round:
        raise DeffdError(
            f"partner={config.partner}: must give at most {config.pairs_per_round} disjoint pairs "
            f"of neighbours; in round {knowledge.server_round} it gave {pairs}"
        )
    return pairs


@partners.register("random")
@partner_rule("Nothing.")
def random(knowledge: Knowledge) -> list[Pair]:
    """Any free neighbour, drawn at random.

    On the complete graph this is Def-KT's draw: 2Q of K clients, k_j paired with k_(j+Q)
    (Li, Li, Varshney 2021, Procedure 1). A sparse graph may have room for fewer than Q pairs.
    """
    generator = knowledge.generator("pairs")
    order, wanted = knowledge.shuffled(generator), knowledge.config.pairs_per_round
    if knowledge.graph is None:
        return list(zip(order[:wanted], order[wanted : 2 * wanted], strict=True))
    free = set(order)
    pairs: list[Pair] = []
    for sender in order:
        receivers = sorted(free.intersection(knowledge.graph[sender]))
        if sender in free and receivers and len(pairs) < wanted:
            receiver = int(generator.choice(receivers))
            free -= {sender, receiver}
            pairs.append((sender, receiver))
    return pairs


@partners.register("least-recent")
@partner_rule("Nothing: it has arranged the meetings itself.")
def least_recent(knowledge: Knowledge) -> list[Pair]:
    """The free neighbour that it has not met for longest, whoever wrote to whom then."""

    def score(sender: int, receivers: Sequence[int]) -> list[float]:
        last = knowledge.meetings.get(sender, {})
        return [-last.get(receiver, 0) for receiver in receivers]

    return best_first(knowledge, score)


@partners.register("complementary")
@partner_rule(
    "Where clients share their label counts, nothing. Where they do not (share-label-counts=false, "
    "or auto with key-source=etsi014), each client's order of preference among the peers it has "
    "heard from: it says whose classes differ more from its own, not which classes anybody has.",
    nominates=True,
)
def complementary(knowledge: Knowledge) -> list[Pair]:
    """The free neighbour that differs from it in most classes: one of them has, the other lacks."""
    if knowledge.label_counts is None:
        return best_first(knowledge, _by_preference(knowledge))
    classes = np.array(knowledge.label_counts) > 0

    def score(sender: int, receivers: Sequence[int]) -> list[float]:
        marks: list[float] = complement(classes[sender], classes[list(receivers)]).tolist()
        return marks

    return best_first(knowledge, score)


@partners.register("key-aware")
@partner_rule("Nothing: it counts the key of the simulated links itself.", takes_key=True)
def key_aware(knowledge: Knowledge) -> list[Pair]:
    """The free neighbour with whom it has most key stored as the round begins.

    Where keys are relayed, that is the key of the narrowest link on the best way; pairs of one
    round whose ways share a link do not reckon with each other.
    """

    def score(sender: int, receivers: Sequence[int]) -> list[float]:
        return [knowledge.stored(sender, receiver) for receiver in receivers]

    return best_first(knowledge, score)


@partners.register("loss")
@partner_rule("Nothing: clients report the losses of their training in any case.")
def loss(knowledge: Knowledge) -> list[Pair]:
    """The free neighbour whose last training loss was highest; who had the lowest chooses first.

    Who has never trained counts as highest. No accuracy is asked for.
    """

    def last(client: int) -> float:
        return knowledge.losses.get(client, math.inf)

    def score(sender: int, receivers: Sequence[int]) -> list[float]:
        return list(map(last, receivers))

    return best_first(knowledge, score, sorted(knowledge.order, key=last))


def best_first(
    knowledge: Knowledge, score: Score, turns: Sequence[int] | None = None
) -> list[Pair]:
    """Return pairs in which each sender, in its turn, takes the free neighbour marked highest.

    Those send whom `random` would have send, so that on the complete graph all rules have the same
    clients train. Where a sparse graph leaves some of them without a neighbour, whoever is free may
    send, too.

    Args:
        knowledge: What is known.
        score: Marks receivers. Among equals the draw decides.
        turns: All clients in the order in which they choose; by default that of the draw.
    """
    turns = knowledge.order if turns is None else turns
    senders = {sender for sender, _ in random.choose(knowledge)}
    free = {client: place for place, client in enumerate(knowledge.order)}
    pairs: list[Pair] = []
    for choosing, spared in ((senders, senders), (set(free), set[int]())):
        for sender in turns:
            if sender not in choosing or sender not in free:
                continue
            receivers = _receivers(knowledge, sender, free, spared)
            if receivers and len(pairs) < knowledge.config.pairs_per_round:
                receiver = receivers[int(np.argmax(score(sender, receivers)))]
                pairs.append((sender, receiver))
                del free[sender], free[receiver]
    return pairs


def _receivers(
    knowledge: Knowledge, sender: int, free: Mapping[int, int], spared: Set[int]
) -> list[int]:
    """Return to whom a sender may write, in the order of the draw."""
    near: Iterable[int] = free
    if knowledge.graph is not None:
        near = sorted(free.keys() & set(knowledge.graph[sender]), key=free.__getitem__)
    return [client for client in near if client != sender and client not in spared]


def _by_preference(knowledge: Knowledge) -> Score:
    """Return marks from 0 to 1: the place of one in the other's order, or the mean of both.

    A pair in which neither has heard from the other may be as good as any, so its place is drawn
    anew in each round (after Thompson 1933, Biometrika 25, 285). While most are unknown, one of
    them is nearly always first, and clients get to know each other; later the best known are.
    """
    marks: defaultdict[int, defaultdict[int, list[float]]]
    marks = defaultdict(lambda: defaultdict(list))
    for client, peers in knowledge.preferences.items():
        for place, peer in enumerate(peers):
            mark = 1 - (place + 0.5) / len(peers)
            marks[client][peer].append(mark)
            marks[peer][client].append(mark)
    generator = knowledge.generator("partner")

    def score(sender: int, receivers: Sequence[int]) -> list[float]:
        guesses = generator.random(len(receivers)).tolist()
        told = (marks[sender].get(receiver) for receiver in receivers)
        return [fmean(own) if own else guess for own, guess in zip(told, guesses, strict=True)]

    return score
