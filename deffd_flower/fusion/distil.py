"""Mutual knowledge transfer: Def-KT's Procedure 1 with Def-FD's feature term."""

from collections.abc import Iterator

import torch
from torch import nn

from deffd_flower.fusion.average import mean_model
from deffd_flower.fusion.frozen import learn_from_frozen
from deffd_flower.fusion.learner import Learner
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.training import Batch, RunningMeans


@fusion_rules.register("distil")
def distil(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    """Teach the received models and the own one by each other, one received model at a time.

    Source: Li, Li, Varshney 2021, Procedure 1 (logits); Def-FD (feature maps). The receiver keeps
    the received model unless ``receiver-keeps`` says otherwise. Where that is of another
    architecture, the receiver keeps its own, whatever ``receiver-keeps`` says: it learns from the
    received model, which learns with it unless ``teacher=frozen``, and is then forgotten.

    With ``anchor`` the model that is kept (the received one, where their mean is) also holds on to
    the received model as it came: a frozen copy in evaluation mode, with KL at ``temperature``.
    The teacher of a mutual fusion moves; the anchor does not. Where the own model is kept and
    ``teacher=frozen``, teacher and anchor are the same. Source: Li and Hoiem 2016 (LwF); Yao et
    al. 2021 (FedGKD).
    """
    own, means, config = fusion.own, RunningMeans(), fusion.config
    for index, package in enumerate(fusion.received):
        received = fusion.model_of(package)
        anchor = received if config.anchor else None
        theirs = received, package.held
        alike = package.architecture == fusion.architecture
        if config.receiver_keeps == "own" or not alike:
            kept = Learner(own, fusion.held, fusion, anchor)
            other = Learner(*theirs, fusion)
        else:
            kept = Learner(*theirs, fusion, anchor)
            other = Learner(own, fusion.held, fusion)
        if kept.objective.needs_shapes(alike):
            _introduce(kept, other, index, fusion)
        _transfer(kept, other, index, fusion, means)
        averages = config.receiver_keeps == "average"
        own = mean_model(own, received, 0.5) if averages else kept.model
    return own, means.means()


def _introduce(kept: Learner, other: Learner, index: int, fusion: Fusion) -> None:
    """Make what each needs to compare its feature maps with the other's."""
    images, _ = next(fusion.batches(1, index))
    generator = fusion.generators(index)
    kept.listen_to([other], images, generator)
    other.listen_to([kept], images, generator)


def _transfer(
    kept: Learner, other: Learner, index: int, fusion: Fusion, means: RunningMeans
) -> None:
    """Step both models over the batches, or only the kept one where the other need not learn."""
    config = fusion.config
    if not kept.objective.needs_teacher and config.receiver_keeps != "average":
        learn_from_frozen(kept, [], index, fusion, means)
    elif config.teacher == "frozen":
        learn_from_frozen(kept, [other], index, fusion, means)
    elif config.fusion_update == "alternating":
        _learn_in_turns(kept, other, fusion.batches(config.fusion_epochs, index), means)
    else:
        _learn_together(kept, other, fusion.batches(config.fusion_epochs, index), means)


def _learn_together(
    kept: Learner, other: Learner, batches: Iterator[Batch], means: RunningMeans
) -> None:
    """Both predictions first, then both steps (Procedure 1, lines 9-13)."""
    kept.model.train()
    other.model.train()
    with kept.tap, other.tap:
        for images, labels in batches:
            ours, theirs = kept.predict(images), other.predict(images)
            means.add(kept.learn(images, labels, ours, [theirs.detached()]))
            other.learn(images, labels, theirs, [ours.detached()])
            kept.optimiser.step()
            other.optimiser.step()


def _learn_in_turns(
    kept: Learner, other: Learner, batches: Iterator[Batch], means: RunningMeans
) -> None:
    """The kept model steps first; the other learns from what it then predicts (DML)."""
    kept.model.train()
    other.model.train()
    with kept.tap, other.tap:
        for images, labels in batches:
            ours, theirs = kept.predict(images), other.predict(images)
            means.add(kept.learn(images, labels, ours, [theirs.detached()]))
            kept.optimiser.step()
            with torch.no_grad():
                renewed = kept.predict(images)
            other.learn(images, labels, theirs, [renewed])
            other.optimiser.step()
