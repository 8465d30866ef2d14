"""Drawing with matplotlib, without a screen."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize


def single(draw: Callable[[Axes], None], path: Path) -> None:
    """One panel."""
    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    draw(axes)
    save(figure, path)


def row(panels: Sequence[Callable[[Axes], None]], path: Path) -> None:
    """Panels side by side."""
    size = (4.4 * len(panels), 3.6)
    figure, grid = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    for axes, draw in zip(grid[0], panels, strict=True):
        draw(axes)
    save(figure, path)


def heat_maps(matrices: Mapping[str, ArrayLike], path: Path) -> None:
    """Barriers between all pairs of networks, one panel for each matrix, on one scale."""
    arrays = {name: np.asarray(m) for name, m in matrices.items()}
    top = max(float(np.quantile(m, 0.99)) for m in arrays.values())
    figure, grid = plt.subplots(
        1, len(arrays), figsize=(4.2 * len(arrays), 4.4), layout="constrained", squeeze=False
    )
    colors = ScalarMappable(Normalize(-top, top), "RdBu_r")
    for axes, (name, matrix) in zip(grid[0], arrays.items(), strict=True):
        pairs = matrix[~np.eye(len(matrix), dtype=bool)]
        axes.imshow(matrix, norm=colors.norm, cmap=colors.cmap, interpolation="nearest")
        title = "not aligned" if name == "none" else name.replace("_", " ")
        axes.set(title=f"{title}\nmean {pairs.mean():.4f}", xlabel="network", ylabel="network")
    figure.colorbar(colors, ax=grid, label="barrier (nats)", shrink=0.9)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a picture and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
