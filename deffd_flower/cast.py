"""Who has which model: the value of ``model``, which may name several architectures."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

from deffd_flower.errors import RequestError


@dataclass(frozen=True)
class Cast:
    """The models of a run, dealt out to its clients in turn.

    Attributes:
        names: The run's models, each once, in the order in which they first come up. A model is
            told to others by its place in this list, never by its name: nobody builds what
            somebody else names.
        turns: Places in ``names``, each with the number of clients in a row that have that model;
            after the last turn comes the first again.
    """

    names: tuple[str, ...]
    turns: tuple[tuple[int, int], ...]

    @property
    def several(self) -> bool:
        """Whether there is more than one architecture."""
        return len(self.names) > 1

    def place(self, partition: int) -> int:
        """Return which of the ``names`` a client has, by its partition id."""
        ends = list(accumulate(clients for _, clients in self.turns))
        return self.turns[bisect_right(ends, partition % ends[-1])][0]

    def name(self, partition: int) -> str:
        """Return the name of a client's model, by its partition id."""
        return self.names[self.place(partition)]

    def firsts(self) -> list[int]:
        """Return the first client with each of the ``names``."""
        starts = accumulate((clients for _, clients in self.turns), initial=0)
        first: dict[int, int] = {}
        for (place, _), start in zip(self.turns, starts, strict=False):
            first.setdefault(place, start)
        return [first[place] for place in range(len(self.names))]


@lru_cache(maxsize=16)
def cast_of(model: str) -> Cast:
    """Read a value of ``model``: a name, or ``name*clients`` and names separated by commas.

    With ``cnn*2,mlp`` clients 0 and 1 have a cnn, client 2 an mlp, clients 3 and 4 a cnn again.
    Whether there are such models is not looked at, which would need PyTorch.

    Raises:
        RequestError: A name is missing, or a share is no number of clients.
    """
    entries = model.split(",")
    turns: list[tuple[int, int]] = []
    names: dict[str, int] = {}
    for entry in entries:
        name, share = _entry(entry, model)
        if not name and len(entries) > 1:
            advice = "has an entry without a name; separate names by one comma each: cnn*2,mlp"
            raise RequestError("model", model, advice)
        turns.append((names.setdefault(name, len(names)), share))
    return Cast(tuple(names), tuple(turns))


def _entry(entry: str, model: str) -> tuple[str, int]:
    name, star, share = (part.strip() for part in entry.partition("*"))
    if not star:
        return name, 1
    if not (share.isascii() and share.isdecimal() and int(share) > 0):
        advice = f"after {name}* must come how many clients in a row have it: {name}*2"
        raise RequestError("model", model, advice)
    return name, int(share)
