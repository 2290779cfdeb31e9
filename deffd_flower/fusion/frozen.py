"""One-way distillation: teachers that never learn, heard once where that is enough."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from deffd_flower.evaluation import batch_size
from deffd_flower.fusion.learner import Learner, Teacher
from deffd_flower.fusion.objective import Prediction
from deffd_flower.fusion.rules import Fusion
from deffd_flower.training import RunningMeans, Samples

#: Bytes that what is remembered of all teachers together may take.
MEMORY = 512_000_000

Lesson = tuple[Tensor, Tensor, list[Prediction]]


def learn_from_frozen(
    student: Learner, teachers: Sequence[Teacher], index: int, fusion: Fusion, means: RunningMeans
) -> None:
    """Teach one student: teachers predict in evaluation mode and are never stepped.

    Without teachers, the student learns from labels (and its anchor) alone.

    Args:
        student: Who learns.
        teachers: Whom it learns from.
        index: Of the received model, which keys the shuffling.
        fusion: The fusion.
        means: Gets the terms of each step.
    """
    student.model.train()
    for teacher in teachers:
        teacher.model.eval()
    with ExitStack() as taps:
        for party in (student, *teachers):
            taps.enter_context(party.tap)
        for images, labels, said in lessons(teachers, index, fusion):
            means.add(student.learn(images, labels, student.predict(images), said))
            student.optimiser.step()


def lessons(teachers: Sequence[Teacher], index: int, fusion: Fusion) -> Iterator[Lesson]:
    """Yield images, labels and the teachers' predictions for each batch of a fusion.

    A layer in evaluation mode, batch normalisation too, looks at each sample for itself, so a
    frozen teacher says in every epoch what it said in the first. With more than one epoch it is
    asked once about all samples, as far as `MEMORY` allows. Only the last bits may differ, where
    PyTorch computes a batch of one sample in another order than a larger one.
    """
    epochs, samples, orders = fusion.config.fusion_epochs, fusion.everything, fusion.orders
    if epochs > 1 and samples and orders and (records := _records(teachers, samples)):
        for chosen in orders(epochs, index):
            yield *samples.batch(chosen), [record.look_up(chosen) for record in records]
        return
    for images, labels in fusion.batches(epochs, index):
        with torch.no_grad():
            said = [teacher.predict(images) for teacher in teachers]
        yield images, labels, said


class Record:
    """What a frozen teacher says of some samples.

    Args:
        teacher: In evaluation mode, with its tap in place.
        samples: What it is asked about.
    """

    @torch.inference_mode()
    def __init__(self, teacher: Teacher, samples: Samples) -> None:
        size = batch_size(samples.labels.device)
        said = [teacher.predict(images) for images, _ in samples.batches(size)]
        self._held = teacher.held
        self._logits = torch.cat([each.logits for each in said])
        layers = zip(*(each.features for each in said), strict=True)
        self._features = [_Rows(torch.cat(layer)) for layer in layers]

    def look_up(self, chosen: Tensor) -> Prediction:
        """Return the prediction of the samples with some numbers [B]."""
        logits = self._logits.index_select(0, chosen)
        return Prediction(logits, [rows.look_up(chosen) for rows in self._features], self._held)


class _Rows:
    """Maps [N, ...] with each sample's in one piece of memory, which makes them quick to pick."""

    def __init__(self, maps: Tensor) -> None:
        inner = sorted(range(1, maps.dim()), key=maps.stride, reverse=True)
        ordered = maps.permute(0, *inner)
        self._rows = ordered.flatten(1)
        self._shape = ordered.shape[1:]
        self._back = [0, *(1 + inner.index(place) for place in range(1, maps.dim()))]

    def look_up(self, chosen: Tensor) -> Tensor:
        """Return the maps of the samples with some numbers, laid out in memory as they were."""
        rows = self._rows.index_select(0, chosen)
        return rows.view(len(chosen), *self._shape).permute(self._back)


def _records(teachers: Sequence[Teacher], samples: Samples) -> list[Record]:
    """Return a record of each teacher, or none at all where they would take too much memory."""
    if not teachers or len(samples) * sum(_bytes(each, samples) for each in teachers) > MEMORY:
        return []
    return [Record(teacher, samples) for teacher in teachers]


@torch.inference_mode()
def _bytes(teacher: Teacher, samples: Samples) -> int:
    """Return the size of a teacher's prediction of one sample."""
    images, _ = next(samples.batches(1))
    said = teacher.predict(images)
    return sum(each.nbytes for each in (said.logits, *said.features))
