"""Distances between feature maps, the values of ``feature-loss``.

A feature loss takes one layer's maps of student and teacher, [B, C, H, W] or [B, D] each, and
returns a scalar; the term of the objective is its sum over the layers. It gets the labels [B] as
well if it has a parameter ``labels``. A loss with something to train is an ``nn.Module`` class:
made anew for each student, teacher and layer from the shapes of their maps, trained with the
student, never sent. See `FeatureTerm`.

Models of different architectures have different numbers of layers, and maps of different shapes.
Layers are `matched` by relative depth. ``at``, ``sp``, ``rkd`` and ``pkt`` compare maps of any
shapes; before the others comes an `Adapter` where shapes differ.

With f flattened to [B, D], d = f_student - f_teacher, and all values averaged over the batch:

=======  =====================================================  ==================================
name     value                                                  source
=======  =====================================================  ==================================
mse      mean of d^2 over all B x D elements                    ``torch.nn.MSELoss``
l2       ||d||_2                                                Def-FD's "L2", read per sample
l2-sq    ||d||_2^2                                              Romero et al. 2015 (FitNets), x2
l2-norm  || s/||s|| - t/||t|| ||_2^2, at most 4; equals 2 cos
cos      1 - cosine similarity, at most 2                       Def-FD's "COS"
fitnet   mse after a 1x1 convolution of the student's maps      Romero et al. 2015 (FitNets)
at       mean of d^2 of the normalised maps of where, not what  Zagoruyko and Komodakis 2017
sp       || G_s - G_t ||_F^2 / B^2, G the rows of f f' / norm   Tung and Mori 2019
rkd      distances (x25) and angles (x50) between samples       Park et al. 2019
pkt      KL of the samples' neighbourhoods                      Passalis and Tefas 2018
ccl      mse to the teacher's maps and to their class means     Aketi and Roy 2024
=======  =====================================================  ==================================

No gamma fits all of them. ``mse``, ``l2`` and ``l2-sq`` point the same way and differ in scale:
with D = 6272 and an RMS gap of 0.3 they are 0.09, 23.8 and 565. ``gamma=auto`` finds one.
"""

from deffd_flower.fusion.features import classwise, distances, regressor, relations
from deffd_flower.fusion.features.adapter import Adapter
from deffd_flower.fusion.features.depth import matched
from deffd_flower.fusion.features.registry import (
    FeatureLoss,
    any_shapes,
    feature_losses,
    takes_any_shapes,
)
from deffd_flower.fusion.features.term import FeatureTerm

__all__ = [
    "Adapter",
    "FeatureLoss",
    "FeatureTerm",
    "any_shapes",
    "classwise",
    "distances",
    "feature_losses",
    "matched",
    "regressor",
    "relations",
    "takes_any_shapes",
]
