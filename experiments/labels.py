"""Names beside the dots of a picture, without overlaps."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

NEAR, FAR, STEP = 6, 200, 6  # points from a dot to its name
WAYS = 24
Dot = tuple[str, float, float]


def label(axes: Axes, dots: Iterable[Dot], fontsize: float) -> None:
    """Write each name at the free place nearest to its dot, with a line if it is far away.

    It is greedy: names are placed one after the other, around dots, earlier names and the legend.
    Dots outside the axes have no name, and the same dot is named once.
    """
    figure = axes.get_figure(root=True)
    assert figure, "axes of no figure have no size"
    figure.draw_without_rendering()
    inside = axes.get_window_extent()
    pixels = {dot: axes.transData.transform(dot[1:]) for dot in dots}
    pixels = {dot: at for dot, at in pixels.items() if inside.contains(*at)}
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in pixels.values()]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent())
    for (name, *xy), at in pixels.items():
        place = (xy[0], xy[1])
        text = axes.annotate(name, place, fontsize=fontsize, annotation_clip=True)
        size = text.get_window_extent()
        box = _free(at, size.width, size.height, inside, taken, figure.dpi / 72)
        taken.append(box)
        text.set_visible(False)
        middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
        far = math.dist(np.clip(at, box.min, box.max), at) > 10 * figure.dpi / 72
        axes.annotate(
            name,
            place,
            xytext=tuple(axes.transData.inverted().transform(middle)),
            ha="center",
            va="center",
            fontsize=fontsize,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "0.6"} if far else None,
        )


def _free(
    at: np.ndarray, width: float, height: float, inside: Bbox, taken: list[Bbox], scale: float
) -> Bbox:
    """The nearest box to `at` of that size without overlaps; if all overlap, one beside `at`."""
    angles = [2 * math.pi * k / WAYS for k in range(WAYS)]
    for distance in range(NEAR, FAR, STEP):
        for angle in angles:
            # From the dot to the nearest edge of the box, in the direction of the angle.
            x = at[0] + math.cos(angle) * (distance * scale + width / 2)
            y = at[1] + math.sin(angle) * (distance * scale + height / 2)
            box = Bbox.from_bounds(x - width / 2, y - height / 2, width, height)
            within = inside.x0 <= box.x0 <= box.x1 <= inside.x1
            within &= inside.y0 <= box.y0 <= box.y1 <= inside.y1
            if within and not any(box.overlaps(other) for other in taken):
                return box
    return Bbox.from_bounds(at[0] + NEAR * scale, at[1], width, height)
