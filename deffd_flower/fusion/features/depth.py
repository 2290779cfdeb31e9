"""Which layer of the student is compared with which of the teacher."""


def matched(student: int, teacher: int) -> list[tuple[int, int]]:
    """Return pairs (student's layer, teacher's layer), counted from 0, in the order of depth.

    Layer l of n, counted from 1, is at the relative depth l / n. Each layer of the model with
    fewer layers, n, is matched to the layer of the other, with m, that is nearest to its relative
    depth, the deeper of two equally near:

        l  is matched to  floor(l m / n + 1/2).

    Last meets last, no layer is matched twice, and equally many layers are matched one to one.

    Args:
        student: Number of the student's layers.
        teacher: Number of the teacher's.
    """
    few, many = sorted((student, teacher))
    partners = [(2 * layer * many + few) // (2 * few) - 1 for layer in range(1, few + 1)]
    if student == few:
        return list(enumerate(partners))
    return [(partner, layer) for layer, partner in enumerate(partners)]
