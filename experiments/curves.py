"""Pictures drawn from records: curves over a coordinate, and named dots."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments import plots
from experiments import records as r
from experiments.labels import Dot, label
from experiments.pages import Block, Page, Prepare, Where
from experiments.records import Record

COLUMNS = 3  # of panels


@dataclasses.dataclass(frozen=True)
class Drawn(Block):
    """A picture of a page's records, saved as NAME.png or NAME-`name`.png."""

    caption: str
    name: str = dataclasses.field(default="", kw_only=True)

    def markdown(self, page: Page) -> str:
        return f"![{self.caption}]({self.path(page).name})"

    def path(self, page: Page) -> Any:
        """Path of the picture."""
        return page.target.with_name(page.target.name + f"-{self.name}" * bool(self.name) + ".png")


@dataclasses.dataclass(frozen=True)
class Curves(Drawn):
    """Figures against the coordinate `x`, with a curve for each value of `lines`.

    There is a panel for each value of the coordinates `panels`, whose title `title` gives. `level`:
    coordinates of the figures drawn as horizontal lines. `shown`: the values of `lines` that have a
    curve, with their styles. `limits`: computes the range of y from the records of a panel.
    """

    x: str
    lines: str
    panels: tuple[str, ...]
    where: Where
    title: Callable[..., str] = lambda *values: ", ".join(str(v) for v in values if v is not None)
    level: Where | None = None
    shown: Mapping[Any, str] = dataclasses.field(default_factory=dict)
    axis: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limits: Callable[[Sequence[Record]], tuple[float, float | None] | None] = lambda found: None
    prepare: Prepare = r.over_seeds

    def draw(self, page: Page) -> None:
        found = self.prepare(r.where(page.records, self.where))
        curves = [x for x in found if isinstance(x.get(self.x), int | float)]
        panels = r.grouped(curves, *self.panels)
        columns = min(COLUMNS, len(panels))
        rows = -(-len(panels) // columns)
        size = (4.2 * columns + 2, 3.8 * rows)
        figure, grid = plt.subplots(
            rows, columns, figsize=size, layout="constrained", squeeze=False
        )
        names = list(self.shown) or [v for (v,) in r.values(curves, self.lines)]
        styles = {n: self.shown.get(n) or f"C{i}-" for i, n in enumerate(names)}
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (values, mine) in zip(grid.flat, panels.items(), strict=False):
            self._panel(axes, mine, styles)
            self._level(axes, found, dict(zip(self.panels, values, strict=True)))
            axes.set(title=self.title(*values), xlabel=self.x, **self.axis)
            if self.axis.get("xscale") == "log":
                _ticks(axes, sorted({x.get(self.x) for x in mine}))
            if limits := self.limits(mine):
                axes.set_ylim(*limits)
        drawn = [n for n in names if any(x.get(self.lines) == n for x in curves)]
        handles = [_handle(styles[n], str(n)) for n in drawn]
        handles += [Line2D([], [], color="0.7", label="trained networks")] if self.level else []
        beside: Any = "outside right"  # unknown to the type stubs
        figure.legend(handles=handles, loc=beside, fontsize=8)
        plots.save(figure, self.path(page))

    def _panel(self, axes: Axes, found: Sequence[Record], styles: Mapping[Any, str]) -> None:
        for name, style in styles.items():
            mine = sorted(r.where(found, {self.lines: name}), key=lambda x: x.get(self.x))
            if mine:
                x, y = [m.get(self.x) for m in mine], [m.value for m in mine]
                axes.errorbar(x, y, [m.error or 0 for m in mine], fmt=style, marker=".")

    def _level(self, axes: Axes, found: Sequence[Record], panel: Where) -> None:
        if self.level is not None:
            for record in r.where(found, {**panel, **self.level})[:1]:
                axes.axhline(record.value, color="0.7", zorder=0)


def _ticks(axes: Axes, values: Sequence[float]) -> None:
    axes.set(xticks=values)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _handle(style: str, name: str) -> Line2D:
    color = style[:2] if style[0] == "C" else style[:1]
    line: Any = style[len(color) :].strip(".os") or "-"
    return Line2D([], [], color=color, linestyle=line, label=name)


@dataclasses.dataclass(frozen=True)
class Dots(Drawn):
    """One metric against another, with a named dot for each place and a colour for each group.

    `metrics`: the panels; `shown`: the range of each metric that is drawn; `levels`: lines.
    """

    x: str
    metrics: tuple[str, ...]
    group: str
    title: Callable[[Record], str]
    where: Where
    shown: Mapping[str, tuple[float, float]]
    levels: Mapping[str, float]

    def draw(self, page: Page) -> None:
        found = r.over_seeds(r.where(page.records, self.where))
        size = (11, 6 * len(self.metrics))
        figure, grid = plt.subplots(
            len(self.metrics), figsize=size, layout="constrained", squeeze=False
        )
        for axes, metric in zip(grid[:, 0], self.metrics, strict=True):
            dots: list[Dot] = []
            for number, (group,) in enumerate(r.values(found, self.group)):
                across, up = (
                    r.where(found, {self.group: group, "metric": m}) for m in (self.x, metric)
                )
                x, y = [a.value for a in across], [b.value for b in up]
                axes.plot(x, y, "o", color=f"C{number}", label=group)
                dots += zip(map(self.title, up), x, y, strict=True)
            axes.axvline(self.levels[self.x], color="0.7", linestyle=":", zorder=0)
            axes.axhline(self.levels[metric], color="0.7", linestyle=":", zorder=0)
            axes.set(xlabel=self.x, ylabel=metric, xlim=self.shown[self.x], ylim=self.shown[metric])
            axes.legend(fontsize=8, loc="lower left")
            label(axes, dots, fontsize=8)
        plots.save(figure, self.path(page))
