"""Start from the mean of both models, and be taught by both."""

from torch import nn

from deffd_flower.fusion.average import mean_model
from deffd_flower.fusion.frozen import learn_from_frozen
from deffd_flower.fusion.learner import Learner, Teacher
from deffd_flower.fusion.rules import Fusion, fusion_rules
from deffd_flower.training import RunningMeans


@fusion_rules.register("average-then-distil")
def average_then_distil(fusion: Fusion) -> tuple[nn.Module, dict[str, float]]:
    """Average the own model with the received one, then teach the mean by both, one at a time.

    Both parents are frozen and in evaluation mode; the logit and the feature term are means over
    the two. Needs equal architectures, and initial weights close enough for a mean to make sense.
    """
    own, means = fusion.own, RunningMeans()
    for index, package in enumerate(fusion.received):
        received = fusion.model_of(package)
        student = Learner(mean_model(own, received, 0.5), None, fusion)
        parents = [Teacher(own, fusion.held, fusion), Teacher(received, package.held, fusion)]
        if student.objective.needs_shapes(alike=True):
            images, _ = next(fusion.batches(1, index))
            student.listen_to(parents, images, fusion.generators(index))
        if not student.objective.needs_teacher:
            parents = []
        learn_from_frozen(student, parents, index, fusion, means)
        own = student.model
    return own, means.means()
